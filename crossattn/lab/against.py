"""Any two folders against each other: paired where seeds and items are the same, else not."""

import dataclasses
import html
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.lab.errors import LabError, as_lab_error
from crossattn.lab.measured import MeasuredRuns, is_quick, measured_runs
from crossattn.lab.views import TableView, table_view
from crossattn.report.render.escaping import visible
from crossattn.report.results.completeness import QUICK
from crossattn.report.stats.agreement import Agreement, ranking_agreement
from crossattn.report.stats.estimate import (
    FEWEST_SEEDS,
    estimate_paired,
    estimate_unpaired,
    stacked,
)
from crossattn.report.stats.holm import holm_adjusted
from crossattn.report.stats.paired import ALPHA, Comparisons, decide
from crossattn.report.stats.power import Resolution, resolution, spread_of
from crossattn.report.stats.ranges import lower_is_better, range_of
from crossattn.report.stats.sequential import level_of_look
from crossattn.report.tables.cells import p_value, p_value_of, signed_interval, with_interval

Scores = tuple[np.ndarray, np.ndarray]
FEWEST_TO_RANK = 3


@dataclasses.dataclass(frozen=True, repr=False)
class FoldersComparison:
    """What two folders differ in, variant by variant.

    Attributes:
      paths: the two folders.
      metric: that is compared.
      pairs: the runs of both for each comparison.
      found: differences (first minus second), intervals and p-values, corrected by Holm.
      unpaired: of each comparison why it is not paired; None where it is.
      p_equivalent: Holm-adjusted p-values of differences beyond `margin`; None without one.
      margin: within which two are called equivalent.
      resolution: what the comparisons can find; None where they are not paired.
      agreement: of the rankings of three or more variants.
      quick: whether one side is a quick run, which concludes nothing.
    """

    paths: tuple[str, str]
    metric: str
    pairs: Sequence[tuple[MeasuredRuns, MeasuredRuns]]
    found: Comparisons
    unpaired: Sequence[str | None]
    p_equivalent: np.ndarray | None
    margin: float | None
    resolution: Resolution | None
    agreement: Agreement | None
    quick: bool

    @property
    def better(self) -> list[str | None]:
        """Which side is: "first", "second", or None where neither may be named."""
        sign = -1 if lower_is_better(self.metric) else 1
        return [{1: "first", -1: "second", 0: None}[sign * int(x)] for x in self.found.winner]

    @property
    def equivalent(self) -> list[bool]:
        """Whether each difference is shown to lie within the margin; none without one."""
        p = [] if self.p_equivalent is None else self.p_equivalent.tolist()
        return [x < self.found.alpha for x in p]

    def table(self) -> TableView:
        """A row for each comparison."""
        header = ["variant", "first [95 %]", "second [95 %]", "first minus second [corrected]"]
        header += ["Holm p", "ahead (no conclusion)" if self.quick else "better", "seeds"]
        header += [] if self.margin is None else [f"within {self.margin:g}"]
        rows = list(map(self._row, range(len(self.pairs))))
        return table_view((header, rows), self.metric, [QUICK] if self.quick else [])

    def _row(self, i: int) -> list[str]:
        first, second = self.pairs[i]
        sides = [_values(side, self.metric) for side in (first, second)]
        limits = {name: getattr(self.found, name)[i] for name in ("difference", "low", "high")}
        cells = [first.name if first.name == second.name else f"{first.name}, {second.name}"]
        cells += [with_interval(values, self.metric) for values in sides]
        limits["p_holm"] = self.found.p_holm[i]
        numbers = {name: None if np.isnan(x) else float(x) for name, x in limits.items()}
        cells += [signed_interval(numbers), p_value_of(numbers), self.better[i] or "not decided"]
        paired = self.unpaired[i] is None
        cells += [f"{len(sides[0])} paired" if paired else f"{len(sides[0])}, {len(sides[1])}"]
        if self.p_equivalent is not None:
            said = "yes" if self.equivalent[i] else "not shown"
            cells += [f"{said} (p {p_value(float(self.p_equivalent[i]))})"]
        return cells

    def sentences(self) -> list[str]:
        """How it was compared, what could be found, and whether the rankings agree."""
        count, said = len(self.pairs), []
        family = "" if count == 1 else f"; Holm's procedure runs over {count} comparisons"
        reasons = [why for why in dict.fromkeys(self.unpaired) if why]
        for why in reasons:
            names = [p[0].name for p, x in zip(self.pairs, self.unpaired, strict=True) if x == why]
            which = "" if len(names) == count else f" ({', '.join(names)})"
            said.append(f"Not paired{which}: {why}{family}.")
        if not reasons:
            said.append(f"Paired by seed and item{family}.")
        if min(len(side.seeds) for pair in self.pairs for side in pair) < FEWEST_SEEDS:
            said.append(f"Under {FEWEST_SEEDS} seeds there is neither test nor interval: p is 1.")
        if self.found.alpha != ALPHA:
            said.append(f"This look is tested at {self.found.alpha:.4g} of {ALPHA:g}.")
        if self.margin is not None:
            said.append(
                f"Within {self.margin:g}: two one-sided tests, each at {self.found.alpha:.4g}, say "
                "that the true difference is smaller; not shown is not the same as different."
            )
        if self.resolution is not None:
            said.append(self.resolution.sentence())
        if self.agreement is not None:
            said.append(self.agreement.sentence(count))
        return said

    def __repr__(self) -> str:
        names = ("first: ", "second:")
        sides = [f"{n} {visible(path)}" for n, path in zip(names, self.paths, strict=True)]
        said = [textwrap.fill(text, 110) for text in self.sentences()]
        return "\n\n".join(
            ["\n".join([*sides, f"metric: {self.metric}"]), repr(self.table()), *said]
        )

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{html.escape(text)}</p>" for text in self.sentences())
        return f"{self.table()._repr_html_()}{said}"


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


def _values(side: MeasuredRuns, metric: str) -> np.ndarray:
    return np.array([record["metrics"][metric] for record in side.records.values()], float)
