"""The results of an ablation as an object: tables, figures, report, runs; read from its folder."""

import functools
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crossattn.align.measures import find_metric
from crossattn.files import contents
from crossattn.lab.errors import LabError, python_errors
from crossattn.lab.exploration import explore_folder
from crossattn.lab.galleries import gallery_of
from crossattn.lab.runs import LabRun
from crossattn.lab.views import ReportPage, TableView, banners_html, table_named, table_view
from crossattn.launch.progress import tell_user
from crossattn.report import prose
from crossattn.report.drawing import figure_makers
from crossattn.report.figures.gallery import Gallery
from crossattn.report.render.blocks import Table, TableBlock
from crossattn.report.render.escaping import plain_names
from crossattn.report.results.completeness import banner
from crossattn.report.results.counts import counts_table
from crossattn.report.results.runs import metric_values
from crossattn.report.results.settings import changes_table, shared_table
from crossattn.report.sections import evidence_sections
from crossattn.report.tables.cells import baseline_of
from crossattn.report.tables.main import (
    alignment_table,
    comparison_table,
    cost_table,
    main_table,
    terminal_report,
)
from crossattn.shapes import Float
from crossattn.spelling import nearest
from crossattn.train.folder import Folder
from crossattn.train.source import Dataset
from crossattn.viewer import Page

# Tables by name; those of single measures come with their sections.
TABLES: dict[str, tuple[str, Callable[[Any], Table | None]]] = {
    "main": (prose.MAIN, main_table),
    "alignment": (prose.ALIGNMENT, alignment_table),
    "comparisons": (prose.COMPARISONS, comparison_table),
    "cost": (prose.COST, cost_table),
    "changes": (prose.CHANGES, changes_table),
    "settings": (prose.SETTINGS, shared_table),
    "items": (prose.COUNTS, counts_table),
}

NOT_YET = "no run is finished and reported yet: the same call or command goes on"


class AblationResults:
    """What an ablation found, as far as its runs are finished.

    Attributes:
      folder: of results.json, report.html, figures, tables and runs.

    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._told: set[str] = set()

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """That of results.json: runs, comparisons, settings, environment."""
        try:
            found: dict[str, Any] = json.loads(contents(self.folder / "results.json"))
        except FileNotFoundError:
            begun = (self.folder / "suite.json").exists()
            said = NOT_YET if begun else "it has no results.json"
            raise LabError(f"{self.folder} holds no results of an ablation: {said}") from None
        except ValueError:
            raise LabError(f"{self.folder / 'results.json'} is damaged: it is no JSON") from None
        return found

    def _shown(self) -> dict[str, Any]:
        """The content without metrics whose measures are not registered; says so once for each."""
        unknown = {name for name in self.metrics if find_metric(name) is None}
        if not unknown:
            return self.content
        if self.primary in unknown:
            said = "is the primary metric, and of no registered measure"
            raise LabError(f"{self.primary} {said}: import the module that registers it")
        if new := sorted(unknown - self._told):
            some = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
            tell_user(f"not shown: {some}; import the module that registers the measure")
            self._told |= unknown
        known = lambda found: {name: found[name] for name in found if name not in unknown}
        runs = [{**run, "metrics": known(run["metrics"])} for run in self.content["runs"]]
        return {**self.content, "runs": runs}

    @property
    def variants(self) -> list[str]:
        """Names of the variants in the order of the suite."""
        return list(self.content["settings"])

    @property
    def seeds(self) -> list[int]:
        """Seeds of which some run is finished."""
        return sorted({run["seed"] for run in self.content["runs"]})

    @property
    def baseline(self) -> str:
        """What the others are compared with."""
        return self.content.get("baseline") or baseline_of(self.content) or self.variants[0]

    @property
    def primary(self) -> str:
        """The one metric that names winners."""
        return str(self.content["primary"])

    @property
    def metrics(self) -> list[str]:
        """Names of all that was measured."""
        return list(dict.fromkeys(name for run in self.content["runs"] for name in run["metrics"]))

    def values(self, variant: str, metric: str | None = None) -> Float[np.ndarray, " seeds"]:
        """Values of a metric, the primary one if none is named, over the seeds of a variant.

        Empty where the variant has no such metric: a blind model attends to nothing.

        Raises:
          LabError: there is no such variant or metric.
        """
        self.check_variant(variant)
        metric = metric or self.primary
        if metric not in self.metrics:
            raise LabError(f"no metric {metric!r} was measured: {nearest(metric, self.metrics)}")
        return metric_values(self.content["runs"], variant, metric)

    def check_variant(self, variant: str) -> None:
        """Make sure that there is a variant of that name.

        Raises:
          LabError: there is none.
        """
        if variant not in self.variants:
            meant = nearest(variant, self.variants)
            raise LabError(f"{self.folder} has no variant {variant!r}: {meant}")

    def table(self, name: str = "main") -> TableView:
        """A table of the report: main, alignment, comparisons, cost, and one for each measure.

        Raises:
          LabError: there is no such table; names those that there are.
        """
        results = plain_names(self._shown())
        return table_named(_tables(results), name, banner(results))

    def figure(self, name: str = "differences") -> Figure:
        """A figure of the report: scatter, differences, accuracy, gallery, knockout, ...

        Raises:
          LabError: there is no such figure, or the results have nothing for it.
        """
        results = plain_names(self._shown())
        shown = self._gallery() if name == "gallery" else None
        samples = self._data().samples if name == "samples" else ()
        given = (plain_names(self._curves()), plain_names(shown), plain_names(tuple(samples)))
        makers = figure_makers(results, *given)
        if name not in makers:
            raise LabError(f"there is no figure {name!r}: {nearest(name, makers)}")
        figure = makers[name]()
        if figure is None:
            raise LabError(f"these results have nothing for the figure {name!r}")
        return figure

    def _curves(self) -> dict[str, dict[int, Any]]:
        """Learning curves by variant and seed."""
        found: dict[str, dict[int, Any]] = {}
        for run in self.content["runs"]:
            variant, seed = run["variant"], run["seed"]
            path = Folder(self.folder).run(variant, seed) / "metrics.json"
            found.setdefault(variant, {})[seed] = json.loads(contents(path))["curve"]
        return found

    def _gallery(self) -> Gallery | None:
        """Pictures with the attention of words, whose data are loaded anew."""
        order = dict.fromkeys((self.baseline, *self.variants))
        return gallery_of(self._data(), Folder(self.folder), order)

    def _data(self) -> Dataset:
        """What all learn from, loaded or made again."""
        run = self.content["runs"][0]
        return self.run(run["variant"], run["seed"]).data

    def report(self) -> ReportPage:
        """The report: a path, which shows itself in a notebook."""
        return ReportPage(self.folder / "report.html")

    def run(self, variant: str, seed: int = 0) -> LabRun:
        """One run, to go on with: its model, parameters, data and metrics.

        Raises:
          LabError: there is no such variant or seed.
        """
        self.check_variant(variant)
        ran = [run["seed"] for run in self.content["runs"] if run["variant"] == variant]
        if seed not in ran:
            known = ", ".join(map(str, ran))
            raise LabError(f"{variant!r} has no finished seed {seed}; there are {known or 'none'}")
        return LabRun(Folder(self.folder).run(variant, seed))

    def explore(self, variant: str | None = None, **options: Any) -> Page:
        """The page on which one clicks a word and sees where it looks.

        Args:
          variant: which one; the first that looks at patches when None.
          options: seed, examples, split and compare of `exploration.explore_folder`.

        Raises:
          UnusableRunError: the variant does not look at patches, or is not trained yet.
        """
        with python_errors(lambda: "interrupted; the runs are as they were"):
            return explore_folder(self.folder, variant, **{"notify": tell_user, **options})

    def __repr__(self) -> str:
        return f"{terminal_report(self._shown())}\n\nreport: {self.folder / 'report.html'}"

    def _repr_html_(self) -> str:
        results = plain_names(self._shown())
        tables = (table_view(make(results)) for make in (main_table, alignment_table))
        shown = "".join(table._repr_html_() for table in tables)
        where = html.escape(str(self.folder / "report.html"))
        return f"{banners_html(banner(results))}{shown}<p>report: <code>{where}</code></p>"


def _tables(results: dict[str, Any]) -> list[TableBlock]:
    """All tables that the results have something for."""
    made = [(name, text, make(results)) for name, (text, make) in TABLES.items()]
    blocks = [TableBlock(name, text, table) for name, text, table in made if table]
    blocks += [one for one in evidence_sections(results, {}) if isinstance(one, TableBlock)]
    return [block for block in blocks if block.table[1]]
