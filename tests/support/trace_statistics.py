"""Statistics of a trace, ours and by definition."""

import jax
import numpy as np

from tests.support.definition import weights


@jax.jit
def statistics(trace, columns):
    weight, index = trace.peak()
    return {
        "rows": trace.weights(),
        "weight": weight,
        "index": index,
        "entropy": trace.entropy(),
        "normalized": trace.entropy(normalized=True),
        "expect": trace.expect(columns),
        "valid": trace.valid,
    }


def statistics_by_definition(arrays, visible, columns, scale, softcap):
    w = weights(arrays, visible, scale, softcap)
    p, count = w["weights"], (~np.isneginf(w["scores"])).sum(3)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0).sum(3)
        normalized = np.where(count > 1, entropy / np.log(count), 0)
    return {
        "rows": p,
        "weight": p.max(3),
        "entropy": entropy,
        "normalized": normalized,
        "expect": np.einsum("bhij,bjr->bhir", p, columns),
        "valid": count > 0,
    }
