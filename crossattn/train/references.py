"""Reference rows of alignment tables: the baseline before its first step, and random attention.

They are computed on the same items as every run, not assumed: a reader sees what chance looks like
in each column, with its spread over seeds.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.align.measures import find_metric
from crossattn.data.examples import Examples
from crossattn.files import contents
from crossattn.train.evaluate import Evaluator
from crossattn.train.evidence import attention_evidence, measure_use
from crossattn.train.predictions import Look

FILE = "references.json"
UNTRAINED, RANDOM = "untrained", "random attention"
# The families of measures that reference rows have.
FAMILIES = ("attention", "causal")

Rows = dict[str, dict[str, float]]


def measure_references(
    evaluator: Evaluator,
    params: Any,
    splits: dict[str, Examples],
    *,
    main: str,
    seed: int,
) -> Rows:
    """Metrics of the reference rows by their names; no attention over patches, no random row.

    Args:
      evaluator: of the baseline.
      params: of its model before the first step.
      splits: evaluation splits.
      main: the one on which attention and causal use are measured.
      seed: of the random attention.
    """
    evidence, looks = measure_use(evaluator, params, splits, main=main)
    found = {UNTRAINED: evidence.metrics}
    if looks:
        found[RANDOM] = attention_evidence(splits, random_looks(splits, looks, seed), main).metrics
    return {name: _of_families(metrics) for name, metrics in found.items()}


def random_looks(
    splits: Mapping[str, Examples], looks: Mapping[str, Look], seed: int
) -> dict[str, Look]:
    """Random attention in the place of what was looked at, by split."""
    rng = np.random.default_rng(seed)
    return {name: random_look(look, rng, splits[name]) for name, look in looks.items()}


def random_look(look: Look, rng: np.random.Generator, examples: Examples) -> Look:
    """Attention of every head drawn uniformly from all distributions over the patches.

    Over those that show the picture of each of the examples.
    """
    shown = None if examples.shown is None else examples.shown[examples.image][:, None]
    heads = np.shape(look.peak)[-1]
    shape = np.shape(look.attention)
    total, peaks = np.zeros(shape), []
    for _ in range(heads):
        drawn = rng.standard_exponential(shape)
        drawn = drawn if shown is None else drawn * shown
        total += drawn / drawn.sum(axis=-1, keepdims=True)
        peaks.append(drawn.argmax(axis=-1))
    return Look(total / heads, np.stack(peaks, axis=-1).astype(np.int16), np.ones(shape[:-1]))


def read_references(run: Path) -> Rows:
    """Those of a run's folder; empty where an earlier version measured it, or they are damaged."""
    try:
        rows = json.loads(contents(run / FILE))
        return {str(name): dict(rows[name]) for name in rows}
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _of_families(metrics: dict[str, float]) -> dict[str, float]:
    named = {name: find_metric(name) for name in metrics}
    return {
        name: metrics[name]
        for name, found in named.items()
        if found is not None and found.measure.family in FAMILIES
    }
