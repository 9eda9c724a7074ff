"""What two folders of runs differ in, as a table and sentences."""

import dataclasses
import html
import textwrap
from collections.abc import Sequence

import numpy as np

from crossattn.lab.measured import MeasuredRuns, settings_that_differ
from crossattn.lab.views import TableView, table_view
from crossattn.report.render.escaping import visible
from crossattn.report.results.completeness import QUICK
from crossattn.report.stats.agreement import Agreement
from crossattn.report.stats.estimate import FEWEST_SEEDS
from crossattn.report.stats.paired import ALPHA, Comparisons
from crossattn.report.stats.power import Resolution
from crossattn.report.stats.ranges import lower_is_better
from crossattn.report.tables.cells import p_value, p_value_of, signed_interval, with_interval


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
        """What differs, how it was compared, what could be found, whether the rankings agree."""
        count, said = len(self.pairs), []
        if differing := settings_that_differ(self.pairs):
            said.append(f"Settings that differ (first, second): {'; '.join(differing)}.")
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


def _values(side: MeasuredRuns, metric: str) -> np.ndarray:
    return np.array([record["metrics"][metric] for record in side.records.values()], float)
