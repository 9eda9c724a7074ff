"""Usage: explanations of trained models beside causal effects; checkpoints are only read."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossattn.align.evidence import Evidence
from crossattn.align.measures import parse_metric
from crossattn.files import write_atomically
from crossattn.lab.errors import LabError
from crossattn.lab.measured import measured_runs
from crossattn.lab.views import TableView, table_named
from crossattn.report import usage as report
from crossattn.report.render.blocks import TableBlock
from crossattn.spelling import nearest
from crossattn.train.evaluate import Evaluator
from crossattn.train.evidence import attention_evidence, measure_use
from crossattn.train.explained import Answered, Explainer, answers_of, explain_answers, parts_of
from crossattn.train.record import RunRecord, read_record
from crossattn.train.references import RANDOM, UNTRAINED, random_looks
from crossattn.train.source import Dataset
from crossattn.train.trained import TrainedRun, load_trained, open_run, untrained_parameters

# Metrics of which single items are kept, for intervals where there are few seeds.
KEPT = ("pointing/answer", "knockout/intact", "knockout/truth", "knockout/random")


@dataclasses.dataclass(frozen=True)
class Usage:
    """What was found.

    Attributes:
      folder: of usage.json, report.md, report.html, figures and tables.
      content: that of usage.json.
      tables: those of the report.
    """

    folder: Path
    content: dict[str, Any]
    tables: Sequence[TableBlock]

    def table(self, name: str = "use") -> TableView:
        """A table of the report.

        Raises:
          LabError: there is no such table.
        """
        return table_named(self.tables, name)

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(run["variant"] for run in self.content["runs"]))
        return f"Usage({self.content['suite']}: {names}; {self.folder})"


class _Variant(NamedTuple):
    """What all seeds of a variant share."""

    source: Dataset
    evaluator: Evaluator
    explainer: Explainer
    answered: Answered


def measure_usage(
    path: str | Path,
    variants: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    notify: Callable[[str], None] = lambda message: None,
) -> Usage:
    """Explain answers of finished runs, and write usage.json and a report into a folder.

    Args:
      path: folder of a suite, of one of its variants, or of a run.
      variants: of a suite's folder; its baseline where none is named.
      out: where results go; `usage` in the folder by default.
      notify: told what is measured.

    Raises:
      LabError: nothing there can be explained; says why.
      UnusableRunError, RecordError, CheckpointError: as `evaluate_run`.
    """
    path = Path(path)
    path = path.parent if path.is_file() else path
    content: dict[str, Any] = {"runs": [], "references": [], "chance": {}, "items": {}}
    shared: dict[str, _Variant] = {}
    source: Dataset | None = None
    for folder in _folders(path, variants):
        record = read_record(folder)
        source = source or open_run(folder)[1]
        trained = load_trained(folder, record, source, notify=notify)
        if record.variant not in shared:
            shared[record.variant] = _prepare(trained)
        own = shared[record.variant]
        notify(f"{record.variant} seed {record.seed}")
        _measure(content, own, trained.params, record, "runs", record.variant)
        if record.variant == next(iter(shared)):
            before = untrained_parameters(record, source)
            looks = _measure(content, own, before, record, "references", UNTRAINED)
            drawn = attention_evidence(
                source.splits, random_looks(source.splits, looks, record.seed), source.main
            )
            _keep(content, drawn, record, "references", RANDOM)
        content |= _about(record, own)
    folder = Path(out or path / "usage")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "usage.json", json.dumps(content, indent=1) + "\n")
    return Usage(folder, content, report.write_usage(folder, content))


def _folders(path: Path, variants: Sequence[str]) -> list[Path]:
    """Folders of the finished runs that are meant, the seeds of a variant together."""
    found = measured_runs(path)
    if not (path / "runs").is_dir():
        if variants:
            raise LabError(f"{path} is no suite's folder: leave variants out")
        names = list(found)
    else:
        names = list(dict.fromkeys(variants)) or [_baseline(path, list(found))]
    for name in names:
        if name not in found:
            hint = nearest(name, found)
            raise LabError(f"{path} has no finished run of a variant {name!r}: {hint}")
    return [folder for name in names for folder in found[name].folders.values()]


def _baseline(path: Path, known: Sequence[str]) -> str:
    try:
        found = json.loads((path / "results.json").read_text())["baseline"]
    except (OSError, ValueError, KeyError, TypeError):
        names = " ".join(known)
        raise LabError(f"{path} has no results.json yet: name variants, of {names}") from None
    return str(found)


def _prepare(trained: TrainedRun) -> _Variant:
    variant, source = trained.record.variant, trained.source
    if not trained.model.config.attends:
        raise LabError(f"{variant} does not attend to patches: there is nothing to explain")
    answered = answers_of(source.splits[source.main])
    if answered is None:
        raise LabError(
            f"usage explains answers that name what is in the picture, and the split {source.main} "
            "asks for none"
        )
    evaluator = Evaluator(trained.model)
    return _Variant(source, evaluator, Explainer(trained.model), answered)


def _measure(
    content: dict[str, Any],
    own: _Variant,
    params: Any,
    record: RunRecord,
    where: str,
    name: str,
) -> dict[str, Any]:
    """Add a row; returns where it looked."""
    main = own.source.main
    evidence, looks = measure_use(own.evaluator, params, own.source.splits, main=main)
    place = own.evaluator, own.explainer, params, own.answered
    for explanation, arrays in explain_answers(*place, layer=evidence.layer, seed=record.seed):
        evidence.read(explanation, arrays)
    _keep(content, evidence, record, where, name)
    return looks


def _keep(
    content: dict[str, Any], evidence: Evidence, record: RunRecord, where: str, name: str
) -> None:
    row = {"variant": name, "seed": record.seed, "metrics": evidence.metrics}
    content[where].append(row)
    content["chance"] |= evidence.chance
    items = content["items"].setdefault(name, {})
    for metric, values in evidence.items.items():
        found = parse_metric(metric)
        measure, head = found.measure.name, found.head is not None
        explained = measure in report.COLUMNS and (measure == "spearman" or not head)
        if metric in KEPT or explained or (head and metric.startswith("pointing/answer/")):
            items.setdefault(metric, []).append(np.asarray(values, float).round(6).tolist())


def _about(record: RunRecord, own: _Variant) -> dict[str, Any]:
    return {
        "suite": record.suite,
        "split": own.source.main,
        "answers": len(own.answered.queries),
        "parts": int(parts_of(own.answered.examples).max()) + 1,
    }
