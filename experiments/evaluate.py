"""Measure a checkpoint: answers, attention against truth, knock-outs layer by layer.

python -m experiments.evaluate results/fusion/runs/cross-attention/seed0
python -m experiments.evaluate results/fusion --variant resampler --seed 3
python -m experiments.evaluate results/fusion/runs/blind/seed0/checkpoints/400 --on pairs
python -m experiments.evaluate results/fusion --variant cross-attention --seed 0 --features DIR
python -m experiments.evaluate results/fusion/runs/cross-attention/seed0 --mesh data=4,context=2
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from crossattn.data.examples import Examples
from crossattn.lab.errors import EXPECTED
from crossattn.lab.evaluation import evaluate_run
from crossattn.lab.runs import LabRun
from crossattn.launch.devices import mesh_of, show_devices
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.models.vision_encoder import vision_encoder
from crossattn.train import features
from crossattn.train.parallel import Parallelism
from crossattn.train.trained import TrainedRun, find_run, judged_split

from .command_line import fail, manual, parse, plain_errors, takes
from .entry import start
from .run_options import print_tables

COMMAND = "evaluate"
NOTHING_LOST = "interrupted; the run is as it was, and nothing was written"


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Measure a checkpoint of any run, and write metrics.json, report.md and report.html.

    The run itself is only read: its model and its data are rebuilt from its run.json.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run or its run.json, of a suite (with --variant and --seed), or of one
    checkpoint."""
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
        folder, step = find_run(options.run, options.variant, options.seed)
        run = LabRun(folder, step, _parallel(options.mesh))
        if options.features is not None:
            judged_split(run.data, options.on, "--on")
            export_features(options.features, run.trained)
            return
        done = evaluate_run(run, options.on, options.out)
        print_tables(done.folder, done.tables)


def _parallel(axes: str | None) -> Parallelism:
    if axes is None:
        return Parallelism()
    show_devices(axes)
    return Parallelism(mesh_of(axes))


def export_features(folder: Path, trained: TrainedRun) -> None:
    """TRAIN and every split as the run's encoder sees them."""
    source, model = trained.source, trained.model
    if not isinstance(source.train, Examples):
        name = trained.record.run.data.source
        fail(COMMAND, f"--features is not for data.source {name}: it is a stream")
    parts = {"train": source.train, **source.splits}
    encoder = vision_encoder(model.config, model.cell)
    for name, part in tqdm(parts.items(), unit="split", desc="features"):
        features.write_features(
            encoder, trained.params["params"]["encoder"], part.images, folder / f"{name}.npy"
        )
    print(
        f"features: {folder}; read them with --model.image-encoder features "
        f"--data.features {folder}"
    )


if __name__ == "__main__":
    start(main)
