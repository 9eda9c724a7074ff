"""Any two folders against each other: paired where seeds and items are the same, else not."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.lab.errors import LabError, as_lab_error
from crossattn.lab.folders_comparison import FoldersComparison
from crossattn.lab.measured import MeasuredRuns, is_quick, measured_runs
from crossattn.report.stats.agreement import FEWEST_TO_RANK, Agreement, ranking_agreement
from crossattn.report.stats.estimate import estimate_paired, estimate_unpaired, stacked
from crossattn.report.stats.holm import holm_adjusted
from crossattn.report.stats.paired import ALPHA, decide
from crossattn.report.stats.power import Resolution, resolution, spread_of
from crossattn.report.stats.ranges import range_of
from crossattn.report.stats.sequential import level_of_look

Scores = tuple[np.ndarray, np.ndarray]


def compare_runs(
    first: str | Path,
    second: str | Path,
    *,
    metric: str | None = None,
    equivalence: float | None = None,
    looks: Sequence[int] = (),
) -> FoldersComparison:
    """Compare two folders: of suites (variants of the same name), of variants, or of runs.

    Paired by seed and item where both sides have the same seeds and are judged by the same data;
    else as two groups, at the cost of power. Differences are those of the first minus the second.

    Args:
      first: like results/fusion, results/fusion/runs/VARIANT, or a run of `train`.
      second: the other one.
      metric: the primary one of both when not given.
      equivalence: a margin, chosen before the results are seen: differences within it do not
        matter.
      looks: numbers of seeds at which results are looked at, planned before the first look;
        each is tested at its share of 5 %.

    Raises:
      ValueError: a folder has no measured run, or the two have no variant or metric in common.
    """
    if equivalence is not None and not 0 < equivalence < np.inf:
        raise LabError(f"a margin of equivalence is a number above 0, got {equivalence}")
    pairs = _pairs(first, measured_runs(first), second, measured_runs(second))
    metric = metric or _primary(pairs)
    scores = [(ours.scores(metric), others.scores(metric)) for ours, others in pairs]
    alpha = _alpha(pairs, looks)
    unpaired = [_reason(metric, *pair, *each) for pair, each in zip(pairs, scores, strict=True)]
    estimates = [
        estimate_paired(*each) if reason is None else estimate_unpaired(*each)
        for each, reason in zip(scores, unpaired, strict=True)
    ]
    estimate = stacked(estimates)
    low, high = range_of(np.concatenate([side.mean(1) for each in scores for side in each]), metric)
    nothing = np.full(len(pairs), np.nan)
    return FoldersComparison(
        (str(first), str(second)),
        metric,
        pairs,
        decide(estimate, nothing, alpha=alpha, span=high - low),
        unpaired,
        None if equivalence is None else holm_adjusted(estimate.p_equivalent(equivalence)),
        equivalence,
        _resolution(scores, unpaired, alpha),
        _agreement(scores),
        is_quick(first) or is_quick(second),
    )


def _pairs(
    first: str | Path,
    ours: Mapping[str, MeasuredRuns],
    second: str | Path,
    others: Mapping[str, MeasuredRuns],
) -> list[tuple[MeasuredRuns, MeasuredRuns]]:
    if len(ours) == len(others) == 1:
        return [(*ours.values(), *others.values())]  # type: ignore[list-item]
    common = [name for name in ours if name in others]
    if not common:
        raise LabError(
            f"{first} ({', '.join(ours)}) and {second} ({', '.join(others)}) have no variant in "
            "common: name one of each, like results/fusion/runs/VARIANT"
        )
    return [(ours[name], others[name]) for name in common]


def _primary(pairs: Sequence[tuple[MeasuredRuns, MeasuredRuns]]) -> str:
    found = {side.primary for pair in pairs for side in pair}
    if len(found) > 1 or found == {None}:
        known = ", ".join(sorted(map(str, found - {None}))) or "no single items"
        raise LabError(f"the runs are not judged by one metric ({known}): name one with --metric")
    return str(found.pop())


def _alpha(pairs: Sequence[tuple[MeasuredRuns, MeasuredRuns]], looks: Sequence[int]) -> float:
    if not looks:
        return ALPHA
    counts = sorted({len(side.seeds) for pair in pairs for side in pair})
    if len(counts) > 1:
        raise LabError(f"looks are numbers of seeds of all variants, which have {counts}")
    with as_lab_error():
        return level_of_look(counts[0], looks)


def _reason(
    metric: str,
    first: MeasuredRuns,
    second: MeasuredRuns,
    scores: np.ndarray,
    others: np.ndarray,
) -> str | None:
    """Why two groups of runs are not paired; None where they are."""
    if first.seeds != second.seeds:
        return "seeds differ"
    judged = [*first.judged_by(metric), *second.judged_by(metric)]
    if any(one != judged[0] for one in judged) or scores.shape != others.shape:
        return "the data that they are judged by differ"
    return None


def _resolution(
    scores: Sequence[Scores], unpaired: Sequence[str | None], alpha: float
) -> Resolution | None:
    if any(unpaired):
        return None
    spreads = [spread_of(first - second) for first, second in scores]
    described = [one and dataclasses.asdict(one) for one in spreads]
    seeds: list[dict[str, Any]] = [{"spread": one, "seeds": len(scores[0][0])} for one in described]
    return resolution(seeds, alpha=alpha)


def _agreement(scores: Sequence[Scores]) -> Agreement | None:
    """Of three or more variants, each side of which has the same number of seeds."""
    sides = [[each.mean(1) for each in side] for side in zip(*scores, strict=True)]
    if len(scores) < FEWEST_TO_RANK or any(len({len(x) for x in side}) > 1 for side in sides):
        return None
    return ranking_agreement(*(np.stack(side, axis=1) for side in sides))
