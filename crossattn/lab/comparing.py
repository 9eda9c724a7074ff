"""Two variants of an ablation against each other, paired by seed and item."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from crossattn.lab.errors import LabError
from crossattn.lab.results import AblationResults
from crossattn.lab.views import TableView, table_view
from crossattn.report.render.escaping import plain_names
from crossattn.report.results.completeness import banner, conclusive
from crossattn.report.stats.comparisons import compare_variants, winner_of
from crossattn.report.tables.main import comparison_table
from crossattn.train.folder import Folder

CAPTION = (
    "One comparison by itself: its interval and p-value are not corrected for others that are made "
    "beside it."
)


@dataclasses.dataclass(frozen=True, repr=False)
class PairedComparison:
    """What a comparison found.

    Attributes:
      content: as in the comparisons of results.json: variant, baseline, metric, difference, low and
        high (the limits of its 95 % interval, None under three seeds), p, seed_differences, ...
      results: the content of results.json.
    """

    content: Mapping[str, Any]
    results: Mapping[str, Any]

    @property
    def difference(self) -> float:
        """Mean over seeds and items of the first variant minus the second."""
        return float(self.content["difference"])

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the difference; None under three seeds."""
        low, high = self.content["low"], self.content["high"]
        return None if low is None or high is None else (low, high)

    @property
    def winner(self) -> str | None:
        """The better variant; None where none may be named, as in a quick or unfinished run."""
        return winner_of(self.content) if conclusive(self.results) else None

    def table(self) -> TableView:
        """The comparison as a row."""
        shown = plain_names({**self.results, "comparisons": [dict(self.content)]})
        return table_view(comparison_table(shown), CAPTION, banner(shown))

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def compare_results(
    results: AblationResults, variant: str, baseline: str, metric: str | None
) -> PairedComparison:
    """Compare two variants on a metric, the primary one if none is named.

    Raises:
      LabError: there is no such variant or metric, or the two have not run the same seeds.
    """
    metric = metric or results.primary
    pair = (variant, baseline)
    if variant == baseline:
        raise LabError(f"{variant!r} cannot be compared with itself")
    for name in pair:
        if not len(results.values(name, metric)):
            raise LabError(f"{name!r} has no metric {metric!r}")
    runs = [run for run in results.content["runs"] if run["variant"] in pair]
    items = {name: rows for name in pair if (rows := _items(results, name, metric)) is not None}
    try:
        (found,) = compare_variants(runs, items, primary=metric, baseline=baseline)
    except ValueError as error:
        raise LabError(str(error)) from None
    return PairedComparison(found, results.content)


def _items(results: AblationResults, variant: str, metric: str) -> np.ndarray | None:
    """Scores (seeds, items); None where runs keep no single items of the metric."""
    seeds = sorted(run["seed"] for run in results.content["runs"] if run["variant"] == variant)
    rows = []
    for seed in seeds:
        with np.load(Folder(results.folder).run(variant, seed) / "items.npz") as kept:
            if metric not in kept:
                return None
            rows.append(kept[metric])
    return np.stack(rows)
