"""Measure a checkpoint: answers, attention against truth, knock-outs layer by layer.

python -m experiments.evaluate results/fusion/runs/cross-attention/seed0
python -m experiments.evaluate results/fusion --variant resampler --seed 3
python -m experiments.evaluate results/fusion/runs/blind/seed0/checkpoints/400 --on pairs
python -m experiments.evaluate results/fusion --variant cross-attention --seed 0 --features DIR
python -m experiments.evaluate results/fusion/runs/cross-attention/seed0 --mesh data=4,context=2
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from tqdm import tqdm

from crossattn.align.evidence import Evidence
from crossattn.data.examples import Examples
from crossattn.data.tfds.records import DataError
from crossattn.files import write_atomically
from crossattn.launch.devices import mesh_of, show_devices
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.nn import PatchEncoder
from crossattn.report.figures.gallery import Gallery
from crossattn.spelling import nearest
from crossattn.train import exhibits, features, record
from crossattn.train import step as steps
from crossattn.train.checkpoint import CheckpointError, Checkpoints, newest
from crossattn.train.evaluate import Evaluator
from crossattn.train.evidence import measure_model
from crossattn.train.loop import TrainPrograms
from crossattn.train.parallel import Parallelism, ParallelismError
from crossattn.train.record import RecordError, RunRecord
from crossattn.train.restored import WITHOUT_DIGEST, Restored
from crossattn.train.source import Dataset, batches_of, load_dataset
from crossattn.train.texts import captions, questions

from .command_line import fail, manual, parse, plain_errors, takes
from .entry import start
from .exhibition import build_gallery
from .training import report_model

COMMAND = "evaluate"
EXPECTED = (RecordError, CheckpointError, DataError, ParallelismError, ModuleNotFoundError)
NOTHING_LOST = "interrupted; the run is as it was, and nothing was written"


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Measure a checkpoint of any run, and write metrics.json, report.md and report.html.

    The run itself is only read: its model and its data are rebuilt from its run.json.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, of a suite (with --variant and --seed), or of one checkpoint."""
    on: Annotated[str | None, takes("SPLIT", "the main split")] = None
    """The split on which attention, knock-outs and captions are measured."""
    variant: Annotated[str | None, takes("NAME")] = None
    """Which variant of a suite's folder."""
    seed: Annotated[int | None, takes("INT")] = None
    """Which seed of a suite's folder."""
    out: Annotated[Path | None, takes("FOLDER", "RUN/evaluation/SPLIT")] = None
    """Where the results go."""
    features: Annotated[Path | None, takes("FOLDER", "none")] = None
    """Write what the run's encoder makes of every image instead, as context for other runs
    (--model.image-encoder features --data.features FOLDER)."""
    mesh: Annotated[str | None, takes("AXES", "one device")] = None
    """Measure over the devices, whatever the run was trained on, as data=4,context=2 says;
    axes: data, fsdp, context, tensor; -1 takes the rest."""


def main(arguments: list[str]) -> None:
    """Parse, restore, measure, write, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    options = parse(COMMAND, EvaluateOptions(tyro.MISSING), arguments or ["--help"])
    safe = lambda: NOTHING_LOST
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, EXPECTED, safe=safe):
        folder, step = resolve(options)
        of = record.read_record(folder)
        parallel = _parallel(options.mesh)
        try:
            source = load_dataset(of.run)
        except ValueError as error:
            fail(COMMAND, f"{folder}: {error}")
        split = chosen_split(source, options.on)
        programs = TrainPrograms(of.run, len(source.vocabulary))
        restored = restore(folder, step, programs, source, of, parallel)
        params = restored.state.evaluated
        if options.features is not None:
            export_features(options.features, programs, params, source, of)
            return
        model = steps.model_of(of.run, len(source.vocabulary), layout=parallel.layout(of.run))
        evaluator = Evaluator(model, parallel)
        evidence = measure_model(evaluator, params, source.splits, main=split, by_layer=True)
        name = split if step is None else f"{split}-step{step}"
        out = options.out or folder / "evaluation" / name
        out.mkdir(parents=True, exist_ok=True)
        shown = pictures(evaluator, params, source, split, evidence, out)
        content = metrics_content(of, restored.step, split, evidence)
        write_atomically(out / "metrics.json", json.dumps(content, indent=1) + "\n")
        report_model(out, content, shown)


def _parallel(axes: str | None) -> Parallelism:
    if axes is None:
        return Parallelism()
    show_devices(axes)
    return Parallelism(mesh_of(axes))


def resolve(options: EvaluateOptions) -> tuple[Path, int | None]:
    """The folder of the run, and the step where one checkpoint is meant."""
    folder, step = options.run, None
    if not folder.is_dir():
        fail(COMMAND, f"there is no folder {folder}")
    if folder.name.isdigit() and folder.absolute().parent.name == "checkpoints":
        folder, step = folder.absolute().parent, int(folder.name)
    if folder.name == "checkpoints":
        folder = folder.parent
    if (folder / "runs").is_dir():
        return _of_suite(folder, options), None
    if options.variant is not None or options.seed is not None:
        fail(COMMAND, f"{folder} is no suite's folder: leave out --variant and --seed")
    if not (folder / record.FILE).exists():
        fail(
            COMMAND,
            f"{folder} is no run, it has no {record.FILE}: give a folder like "
            "results/SUITE/runs/VARIANT/seed0, or results/SUITE with --variant and --seed",
        )
    return folder, step


def _of_suite(folder: Path, options: EvaluateOptions) -> Path:
    variants = sorted(path.name for path in (folder / "runs").iterdir() if path.is_dir())
    if options.variant is None:
        fail(COMMAND, f"{folder} holds a suite: add --variant ({', '.join(variants)}) and --seed")
    if options.variant not in variants:
        hint = nearest(options.variant, variants)
        fail(COMMAND, f"{folder} has no variant {options.variant!r}: {hint}")
    within = folder / "runs" / options.variant
    seeds = sorted(path.name.removeprefix("seed") for path in within.glob("seed*"))
    if options.seed is None or str(options.seed) not in seeds:
        fail(COMMAND, f"{within} has the seeds {', '.join(seeds)}: add --seed with one of them")
    return within / f"seed{options.seed}"


def chosen_split(source: Dataset, name: str | None) -> str:
    """The split to measure on; it needs questions or captions, which foils (swap) are not."""
    known = [
        split
        for split, part in source.splits.items()
        if split != "swap" and len(questions(part)) + len(captions(part))
    ]
    if name is None:
        return source.main
    if name not in known:
        what = "has no questions" if name in source.splits else "is no split of this run's data"
        fail(COMMAND, f"--on {name} {what}: {nearest(name, known)}")
    return name


def restore(
    folder: Path,
    step: int | None,
    programs: TrainPrograms,
    source: Dataset,
    of: RunRecord,
    parallel: Parallelism,
) -> Restored:
    """The newest checkpoint that can be read, or that of a step, placed as `parallel` says."""
    where = folder / "checkpoints"
    if newest(where) is None:
        fail(COMMAND, f"{folder} has no checkpoint yet: train the run first")
    batch = batches_of(of.run, source.train, of.seed).batch(0)
    shapes = jax.eval_shape(programs.create, of.seed, batch)
    like = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        shapes,
        parallel.shardings(shapes),
    )
    with Checkpoints(where, read_only=True) as checkpoints:
        restored = checkpoints.restore(like, step=step)
    for damaged in restored.damaged:
        said = f"{where / str(damaged)} is damaged: measuring that of step {restored.step} instead"
        print(f"{COMMAND}: {said}", file=sys.stderr)
    if not restored.checked:
        said = WITHOUT_DIGEST.format(step=restored.step)
        print(f"{COMMAND}: {folder}: {said}", file=sys.stderr)
    return restored


def export_features(
    folder: Path, programs: TrainPrograms, params: Any, source: Dataset, of: RunRecord
) -> None:
    """TRAIN and every split as the run's encoder sees them."""
    if not isinstance(source.train, Examples):
        fail(COMMAND, f"--features is not for data.source {of.run.data.source}: it is a stream")
    parts = {"train": source.train, **source.splits}
    model = programs.model
    encoder = PatchEncoder(model.width, model.image_encoder, model.cell)
    for name, part in tqdm(parts.items(), unit="split", desc="features"):
        features.write_features(
            encoder, params["params"]["encoder"], part.images, folder / f"{name}.npy"
        )
    print(
        f"features: {folder}; read them with --model.image-encoder features "
        f"--data.features {folder}"
    )


def pictures(
    evaluator: Evaluator, params: Any, source: Dataset, split: str, evidence: Evidence, out: Path
) -> Gallery | None:
    """Attention over pictures, which the source has of its main split only."""
    if split != source.main or not evaluator.patches_seen:
        return None
    maps = exhibits.exhibit_attention(evaluator, params, source, evidence.layer)
    np.savez_compressed(out / "maps.npz", weights=maps)
    return build_gallery(source, out / "maps.npz")


def metrics_content(of: RunRecord, step: int, split: str, evidence: Evidence) -> dict[str, Any]:
    """The content of metrics.json."""
    return {
        "suite": of.suite,
        "variant": of.variant,
        "seed": of.seed,
        "step": step,
        "split": split,
        "metrics": evidence.metrics,
        "chance": evidence.chance,
        "layer": evidence.layer,
        "versions": record.library_versions(),
    }


if __name__ == "__main__":
    start(main)
