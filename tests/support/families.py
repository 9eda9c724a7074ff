"""Which presets `make test` takes of a test of all of them: one of each family."""

import pytest

SOME = frozenset(
    [
        "encoder_decoder_pre",
        "flamingo",
        "perceiver_encode",
        "qformer",
        "coca_decoder",
        "ip_adapter",
        "bidirectional",
        "sam_two_way",
        "bottleneck",
        "prefix_lm",
        "sinks",
    ]
)


def some_quick(names, quick=SOME):
    """Names for `parametrize`, of which those that are not quick are marked slow."""
    slow = pytest.mark.slow
    return [name if name in quick else pytest.param(name, marks=slow) for name in names]
