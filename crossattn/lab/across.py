"""Several suites side by side: read from their folders, shown as tables, written as one page."""

import dataclasses
import functools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossattn.align.measures import find_metric
from crossattn.files import write_atomically
from crossattn.lab.errors import LabError, as_lab_error
from crossattn.lab.results import AblationResults
from crossattn.lab.views import ReportPage, TableView, banners_html, table_view
from crossattn.report.render.blocks import Banner, Block, Heading, TableBlock
from crossattn.report.render.escaping import visible
from crossattn.report.render.html_page import to_html
from crossattn.report.suites import suite_blocks
from crossattn.spelling import nearest

# What results.json of a suite has, whatever version wrote it.
KEYS = ("suite", "primary", "runs", "comparisons", "chance", "environment")


@dataclasses.dataclass(frozen=True, repr=False)
class SuitesComparison:
    """What several suites found.

    Attributes:
      suites: the content of results.json, by the name that the page gives each suite.
      metric: on which variants stand side by side; None for the primary one of each suite.
    """

    suites: Mapping[str, Mapping[str, Any]]
    metric: str | None

    @functools.cached_property
    def blocks(self) -> list[Block]:
        """What the page consists of.

        Raises:
          LabError: the numbers of a suite do not fit together.
        """
        with as_lab_error():
            return suite_blocks(self.suites, self.metric)

    @property
    def tables(self) -> dict[str, TableView]:
        """Its tables: suites, values, and where there are any claims, settings, rankings, ..."""
        made = [block for block in self.blocks if isinstance(block, TableBlock)]
        return {block.name: table_view(block.table, block.caption) for block in made}

    def save(self, path: str | Path) -> ReportPage:
        """Write the page as one HTML file that needs no other.

        Raises:
          LabError: the folder of the file is not there.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise LabError(f"there is no folder {path.parent}")
        if path.is_dir():
            raise LabError(
                f"{path} is a folder: name a file in it, like {path / 'comparison.html'}"
            )
        write_atomically(path, to_html(self.blocks))
        return ReportPage(path)

    def __repr__(self) -> str:
        title = next(block.text for block in self.blocks if isinstance(block, Heading))
        said = [textwrap.fill(text, 110) for text in (title, *self._banners)]
        for name, table in self.tables.items():
            said += [textwrap.fill(f"{name}: {table.caption}", 110), repr(table)]
        return "\n\n".join(said)

    def _repr_html_(self) -> str:
        tables = "".join(table._repr_html_() for table in self.tables.values())
        return banners_html(self._banners) + tables

    @property
    def _banners(self) -> list[str]:
        return [block.text for block in self.blocks if isinstance(block, Banner)]


def compare_suites(*folders: str | Path, metric: str | None = None) -> SuitesComparison:
    """What several suites found, side by side; their folders are only read.

    Args:
      folders: two or more, like results/fusion.
      metric: on which variants stand side by side; the primary one of each suite if none is given.

    Raises:
      LabError: a folder holds no results of a suite, or no suite has the metric.
    """
    if len(folders) < 2:
        raise LabError(f"suites side by side are two or more, got {len(folders)}")
    contents = [_content(folder) for folder in folders]
    if metric is not None:
        _check_metric(metric, contents)
    return SuitesComparison(dict(zip(_names(folders, contents), contents, strict=True)), metric)


def _content(folder: str | Path) -> dict[str, Any]:
    content = AblationResults(Path(folder)).content
    lacking = [key for key in KEYS if key not in content] if isinstance(content, dict) else KEYS
    if lacking:
        raise LabError(f"{Path(folder) / 'results.json'} is damaged: it has no {lacking[0]}")
    if not content["runs"]:
        raise LabError(f"{folder}: no run of it is finished yet")
    if not all(
        isinstance(run, dict) and {"variant", "seed", "metrics"} <= {*run}
        for run in content["runs"]
    ):
        raise LabError(f"{Path(folder) / 'results.json'} is damaged: a run of it has no metrics")
    return content


def _check_metric(metric: str, contents: Sequence[Mapping[str, Any]]) -> None:
    known = dict.fromkeys(
        name for one in contents for run in one["runs"] for name in run["metrics"]
    )
    if metric not in known or find_metric(metric) is None:
        raise LabError(f"no suite has the metric {metric!r}: {nearest(metric, known)}")


def _names(folders: Sequence[str | Path], contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each suite's name; of suites that are called alike the folder's, or its whole path."""
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise LabError("a folder is named twice: give different ones")
    ways = (
        [str(one["suite"]) for one in contents],
        [path.resolve().name for path in paths],
        [str(path) for path in paths],
    )
    return [*map(visible, next(names for names in ways if len(set(names)) == len(names)))]
