"""Which presets `make test` takes of a test of all of them: some of each family."""

import pytest

SOME = frozenset(
    [
        "encoder_decoder_pre",
        "t5gemma",
        "flamingo",
        "mllama",
        "perceiver_encode",
        "resampler",
        "qformer",
        "coca_decoder",
        "ip_adapter",
        "bidirectional",
        "sam_two_way",
        "bottleneck",
        "prefix_lm",
        "vilbert",
        "cappa",
        "null_key",
        "sinks",
    ]
)


def some_quick(names, quick=SOME):
    """Names for `parametrize`, of which those that are not quick are marked slow."""
    slow = pytest.mark.slow
    return [name if name in quick else pytest.param(name, marks=slow) for name in names]
