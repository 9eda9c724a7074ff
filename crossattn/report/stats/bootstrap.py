"""The hierarchical bootstrap: seeds and items drawn anew, both with replacement."""

from dataclasses import dataclass

import numpy as np

from crossattn.shapes import Float

# Resamples that are drawn and multiplied at once: bounds the memory.
CHUNK = 256


@dataclass(frozen=True)
class Bootstrap:
    """How often to resample, and the seed that makes the result repeatable."""

    resamples: int = 4000
    seed: int = 0

    def __post_init__(self):
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")


BOOTSTRAP = Bootstrap()


def hierarchical_bootstrap(
    differences: Float[np.ndarray, "*rest seeds items"], *, bootstrap: Bootstrap = BOOTSTRAP
) -> Float[np.ndarray, "*rest resamples"]:
    """Means of the differences over seeds and items drawn anew, both with replacement.

    Items are crossed with seeds (all seeds answer the same items), so one draw of items serves all
    seeds of a resample. Counts times integer differences are exact in float64: the same draws come
    out on every machine.

    Example:
        >>> hierarchical_bootstrap(np.full((3, 7), 0.5), bootstrap=Bootstrap(resamples=2))
        array([0.5, 0.5])
    """
    *rest, seeds, items = differences.shape
    rng = np.random.default_rng(bootstrap.seed)
    rows = differences.reshape(-1, items)
    draws = np.empty((*rest, bootstrap.resamples))
    for start in range(0, bootstrap.resamples, CHUNK):
        size = min(CHUNK, bootstrap.resamples - start)
        item_counts = _counts(rng, size, items)
        seed_counts = _counts(rng, size, seeds)
        sums = (rows @ item_counts.T).reshape(*rest, seeds, size)
        draws[..., start : start + size] = np.einsum("...sr,rs->...r", sums, seed_counts)
    return draws / (seeds * items)


def _counts(rng, resamples, things):
    """How often each thing occurs when `things` are drawn with replacement: (resamples, things)."""
    drawn = rng.integers(things, size=(resamples, things)) + things * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * things)
    return counts.reshape(resamples, things).astype(float)
