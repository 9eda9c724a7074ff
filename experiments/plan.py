"""What a run needs of a TPU slice, before there is one: its real programs, compiled ahead of time.

python -m experiments.plan fusion --topology v5e:2x4
python -m experiments.plan fusion --topology v5e:1x1 --model.width 1024 --model.layers 12
python -m experiments.plan fusion --topology v6e:4x4 --mesh data=-1,fsdp=4 --batch-size 256
python -m experiments.plan fusion --topology v5p:2x2x2 --sweep meshes
python -m experiments.plan fusion --topology v5e:2x2 v5e:4x4 v5e:8x8 v5e:16x16 --mesh data=-1,fsdp=4
python -m experiments.plan results/fusion/runs/blind/seed0 --topology tpu7x:2x2x1
"""

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from crossattn.data.tfds.records import DataError
from crossattn.files import printable, write_atomically
from crossattn.lab import suites
from crossattn.plan import estimate, figure, summary
from crossattn.plan.chips import CHIPS, Topology, topology
from crossattn.plan.estimate import Estimator
from crossattn.plan.process import CompilerError, check_compiler, compile_all, record_of
from crossattn.plan.programs import STEPS, PlannedPrograms, program_sizes
from crossattn.report.figures.style import png
from crossattn.report.render.terminal import terminal_table
from crossattn.spelling import nearest
from crossattn.train import record
from crossattn.train.record import RecordError, RunRecord
from crossattn.train.run import Run

from .command_line import fail, manual, plain_errors, takes, typed
from .entry import start
from .run_options import find_suite, parse_run

COMMAND = "plan"
# How many meshes of a sweep are compiled: the best by formula.
COMPILED = 5
EXPECTED = (CompilerError, RecordError, DataError, ModuleNotFoundError)
SAFE = "interrupted; nothing was written"


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """Compile the training and the evaluation step of a run for a TPU slice, on this machine.

    Says whether they fit, the bytes of a device by kind, what devices send to each other, FLOPs,
    and a roofline estimate. No TPU is needed, only its compiler: pip install 'crossattn[plan]'.
    Exit code 1: nothing that was compiled fits.
    """

    run: Annotated[Run, tyro.conf.arg(name="")]
    """The run, as experiments.ablate takes it."""
    topology: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CHIP:SHAPE ...")] = tyro.MISSING
    """The slice, such as v5e:2x4 or tpu7x:2x2x1; of several, each has as many texts a device."""
    mesh: Annotated[str | None, takes("AXIS=SIZE,...", "data over all, fsdp in a host")] = None
    """How the run is spread: sizes of data, fsdp, context and tensor; one may be -1, the rest."""
    sweep: Annotated[Literal["meshes"] | None, takes("meshes", "one mesh")] = None
    """Rank all meshes of the slice by formula, and compile the best 5."""
    variant: Annotated[str | None, takes("NAME", "the baseline")] = None
    """Which variant of a suite."""
    out: Annotated[Path | None, takes("FOLDER", "results/plan/RUN-TOPOLOGY")] = None
    """Where plan.json and plan.png go."""


def main(arguments: list[str]) -> None:
    """Parse, compile, print, write."""
    with plain_errors(COMMAND, EXPECTED, safe=lambda: SAFE):
        of, slices, options = configure_plan(arguments)
        check_compiler()
        # Only shapes are computed here, and the compiler is no TPU.
        jax.config.update("jax_platforms", "cpu")
        if options.sweep:
            entries = sweep(of, slices[0])
        elif len(slices) > 1:
            entries = scale(of, slices, options.mesh)
        else:
            estimator = traced(of, slices[0])
            entries = compiled(of, estimator, [options.mesh])
            print_mesh(entries[0], estimator)
        write_plan(of, slices, entries, options.out, typed(COMMAND, arguments))
    if not any(summary.mesh_fits(entry) for entry in entries):
        raise SystemExit(1)


def say(stage: str) -> None:
    """A line for each stage: compilers take their time."""
    print(f"{COMMAND}: {stage} ...", file=sys.stderr, flush=True)


def configure_plan(arguments: list[str]) -> tuple[RunRecord, list[Topology], PlanOptions]:
    """The run, the slices, and the options."""
    if not arguments or arguments[0] in ("-h", "--help"):
        known = "\n".join(
            f"  {name:7s} {chip.memory * chip.devices / 2**30:4.0f} GiB,"
            f" {chip.flops * chip.devices / 1e12:5.0f} TFLOP/s in bfloat16 ({chip.source})"
            for name, chip in CHIPS.items()
        )
        print(
            f"{manual(__doc__)}\nRUN is one of the suites {', '.join(suites.suite_names())}, "
            f"the file of one of your own, or a folder with run.json.\n\nChips:\n{known}\n\n"
            f"{typed(COMMAND)} RUN --help: options"
        )
        raise SystemExit(0)
    name, *rest = arguments
    named, variant = _begun(name, rest)
    options, _ = parse_run(COMMAND, PlanOptions(run=named.run), rest, subject=[name])
    if options.mesh and options.sweep:
        fail(COMMAND, "--sweep meshes tries them all: leave out --mesh")
    if options.sweep and len(options.topology) > 1:
        fail(COMMAND, "--sweep meshes is for one slice")
    try:
        slices = [topology(name) for name in options.topology]
    except ValueError as error:
        fail(COMMAND, str(error))
    if not slices:
        fail(COMMAND, "--topology: name a slice, such as v5e:2x4")
    return record_of(named.suite, variant, options.run), slices, options


def _begun(name: str, rest: list[str]) -> tuple[RunRecord, str]:
    """The run of a suite's variant, or that of a folder, before the command line changes it."""
    wanted = rest[rest.index("--variant") + 1 :][:1] if "--variant" in rest else []
    if os.path.isfile(os.path.join(name, record.FILE)):  # whatever is typed, no error
        if wanted:
            fail(COMMAND, f"{name} is one run: leave out --variant")
        try:
            found = record.read_record(Path(name))
        except RecordError as error:
            fail(COMMAND, str(error))
        return found, found.variant
    if os.path.isdir(name) and name not in suites.suite_names():
        fail(COMMAND, f"{name} is no run, it has no {record.FILE}")
    suite = find_suite(COMMAND, name)
    variant = wanted[0] if wanted else suite.baseline
    if variant not in suite.variants:
        fail(COMMAND, f"{name} has no variant {variant!r}: {nearest(variant, suite.variants)}")
    return record_of(suite.name, variant, suite.run(variant)), variant


def traced(of: RunRecord, slice_: Topology) -> Estimator:
    """A run's programs as shapes, and what its step does."""
    say("reading the shapes of the data")
    try:
        programs = PlannedPrograms(of.run, program_sizes(of.run))
    except ValueError as error:
        fail(COMMAND, str(error))
    say("tracing the training step")
    return Estimator(programs, estimate.step_work(programs), slice_)


def compiled(
    of: RunRecord, estimator: Estimator, meshes: Sequence[str | None]
) -> list[dict[str, Any]]:
    """An entry of plan.json for each mesh."""
    found = compile_all(of, estimator.programs.sizes, estimator.slice_, meshes, say)
    return [summary.mesh_entry(one, estimator) for one in found]


def sweep(of: RunRecord, slice_: Topology) -> list[dict[str, Any]]:
    """Rank all meshes by formula, compile the best few, and print the table."""
    estimator = traced(of, slice_)
    ranked = estimator.ranked()
    if not ranked:
        fail(COMMAND, _no_mesh(of.run, slice_))
    best = [estimate.mesh_line(sizes) for sizes, _ in ranked[:COMPILED]]
    say(f"{len(ranked)} meshes ranked by formula; compiling {', '.join(best)}")
    entries = compiled(of, estimator, best)
    by_line = dict(zip(best, entries, strict=True))
    print(f"{of.suite}, {of.variant}, on {slice_.name}, by the rank of the formula:\n")
    print(terminal_table(summary.sweep_table(ranked, by_line, slice_)))
    print(
        f"\nThe best {len(best)} were compiled; all else, and 'at least', the longest part of a "
        "training step at the chip's peaks, is an estimate by formula and not measured."
    )
    return entries


def scale(of: RunRecord, slices: Sequence[Topology], mesh: str | None) -> list[dict[str, Any]]:
    """Compile a run for slices of several sizes, with as many texts a device on each."""
    entries = []
    for slice_ in slices:
        size, left = divmod(of.run.batch_size * slice_.devices, slices[0].devices)
        if left:
            fail(COMMAND, f"a batch of {of.run.batch_size} does not scale to {slice_.name}")
        grown = dataclasses.replace(of, run=dataclasses.replace(of.run, batch_size=size))
        entries += compiled(grown, traced(grown, slice_), [mesh])
    print(f"{of.suite}, {of.variant}, with as many texts a device on every slice:\n")
    print(terminal_table(summary.scaling_table(entries)))
    print("\nHeld and sent are a device's, in a training step, as compiled.")
    return entries


def _no_mesh(run: Run, slice_: Topology) -> str:
    images = run.batch_size // run.texts_together
    return (
        f"no mesh of {slice_.devices} devices divides {images} images of a batch and "
        f"{run.model.heads} heads: take --batch-size {slice_.devices * run.texts_together}"
    )


def print_mesh(entry: dict[str, Any], estimator: Estimator) -> None:
    """Print what is known of one mesh."""
    print(summary.verdict(entry, estimator.slice_))
    if "died" in entry:
        return
    if not summary.mesh_fits(entry):
        sizes = estimate.mesh_sizes(entry["mesh"])
        first, *lines = summary.advice(estimator, sizes)
        print("\n".join((first, *(f"* {line}" for line in lines))))
    if any(entry[name]["fits"] for name in STEPS):
        print(f"\n{terminal_table(summary.memory_table(entry))}")
        table = summary.collective_table(entry)
        print(f"\n{terminal_table(table)}" if table[1] else "\nNothing is sent between devices.")
        print()
        print(summary.time_line(entry))
    print(summary.work_line(entry, estimator.work))
    print(summary.roofline_line(entry))
    for note in entry["notes"]:
        print(f"Note: {note}")


def write_plan(
    of: RunRecord,
    slices: Sequence[Topology],
    entries: list[dict[str, Any]],
    out: Path | None,
    command: str,
) -> None:
    """Write plan.json and plan.png."""
    where = " to ".join(dict.fromkeys((slices[0].name, slices[-1].name)))
    name = re.sub(r"[^\w.=-]+", "-", f"{of.suite}-{of.variant}-{where}")
    folder = out or Path("results") / "plan" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(COMMAND, f"cannot write {folder}: {error.strerror}")
    content = {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "suite": of.suite,
        "variant": of.variant,
        "settings": dataclasses.asdict(of.run),
        "topologies": [dataclasses.asdict(slice_) for slice_ in slices],
        "versions": of.versions,
        "meshes": entries,
    }
    write_atomically(folder / "plan.json", json.dumps(content, indent=1) + "\n")
    memory = {slice_.chip.memory for slice_ in slices}
    drawn = figure.plan_figure(entries, memory, title=f"{of.suite}, {of.variant}, on {where}")
    write_atomically(folder / "plan.png", png(drawn))
    print(f"\nplan: {printable(folder / 'plan.json')}, {printable(folder / 'plan.png')}")


if __name__ == "__main__":
    start(main)
