"""Measure a checkpoint: answers, attention against truth, knock-outs layer by layer."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.align.evidence import Evidence
from crossattn.files import write_atomically
from crossattn.lab.explorers import write_explorer
from crossattn.lab.galleries import build_gallery
from crossattn.lab.runs import LabRun
from crossattn.lab.views import TableView, table_named, table_view
from crossattn.report import evaluation
from crossattn.report.figures.gallery import Gallery
from crossattn.report.render.blocks import TableBlock
from crossattn.train import exhibits, record
from crossattn.train.evidence import measure_model
from crossattn.train.references import measure_references
from crossattn.train.trained import judged_split, untrained_parameters


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured of a checkpoint.

    Attributes:
      folder: of metrics.json, report.md, report.html, figures and tables.
      content: that of metrics.json.
      tables: those of the report.
    """

    folder: Path
    content: dict[str, Any]
    tables: Sequence[TableBlock]

    @property
    def metrics(self) -> dict[str, float]:
        """Values by the names of metrics."""
        found: dict[str, float] = self.content["metrics"]
        return found

    def table(self, name: str | None = None) -> TableView:
        """A table of the report, the first where none is named.

        Raises:
          LabError: there is no such table.
        """
        return table_named(self.tables, self.tables[0].name if name is None else name)

    def __repr__(self) -> str:
        about = self.content
        who = f"{about['variant']}, seed {about['seed']}, step {about['step']}"
        return f"Evaluation({who}, on {about['split']}: {len(self.metrics)} metrics; {self.folder})"

    def _repr_html_(self) -> str:
        return "\n".join(table_view(one.table, one.caption)._repr_html_() for one in self.tables)


def evaluate_run(run: LabRun, on: str | None, out: Path | None) -> Evaluation:
    """Measure a run's checkpoint on a split, and write metrics.json and a report into a folder.

    Raises:
      UnusableRunError, CheckpointError: there is no such split, or no checkpoint that can be read.
    """
    split, source = judged_split(run.data, on, "--on"), run.data
    params = run.params
    learned = run.record.run.loss
    given = run.evaluator, params, source.splits
    evidence = measure_model(*given, main=split, by_layer=True, learned=learned)
    references: dict[str, dict[str, float]] = {}
    if run.parallel.mesh is None:
        before = untrained_parameters(run.record, source)
        place = run.evaluator, before, source.splits
        references = measure_references(*place, main=split, seed=run.record.seed)
    name = split if run.step is None else f"{split}-step{run.step}"
    out = out or run.folder / "evaluation" / name
    out.mkdir(parents=True, exist_ok=True)
    shown = _pictures(run, split, evidence, out)
    content = {**metrics_content(run, split, evidence), "references": references}
    write_atomically(out / "metrics.json", json.dumps(content, indent=1) + "\n")
    explorer = _explorer(run, split, out)
    return Evaluation(out, content, evaluation.write_evaluation(out, content, shown, explorer))


def _explorer(run: LabRun, split: str, out: Path) -> str:
    """Whose words explore.html shows; "" over several devices, which its few texts do not fill."""
    if run.parallel.mesh is not None or not run.evaluator.patches_seen:
        return ""
    return write_explorer(out, run.trained, split)


def _pictures(run: LabRun, split: str, evidence: Evidence, out: Path) -> Gallery | None:
    """Attention over pictures, which the source has of its main split only."""
    if split != run.data.main or not run.evaluator.patches_seen:
        return None
    maps = exhibits.exhibit_attention(run.evaluator, run.params, run.data, evidence.layer)
    np.savez_compressed(out / "maps.npz", weights=maps)
    return build_gallery(run.data, out / "maps.npz")


def metrics_content(run: LabRun, split: str, evidence: Evidence) -> dict[str, Any]:
    """The content of metrics.json."""
    of = run.record
    return {
        "suite": of.suite,
        "variant": of.variant,
        "seed": of.seed,
        "step": run.trained.step,
        "split": split,
        "metrics": evidence.metrics,
        "chance": evidence.chance,
        "layer": evidence.layer,
        "versions": record.library_versions(),
    }
