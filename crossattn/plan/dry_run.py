"""What a suite would run, what that costs and how long it takes, before anything runs."""

import dataclasses
import heapq
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np

from crossattn.files import printable
from crossattn.nn.parameters import count_parameters
from crossattn.report.render.blocks import Table
from crossattn.report.render.terminal import terminal_table
from crossattn.train.folder import Folder, pending
from crossattn.train.loop import TrainPrograms
from crossattn.train.outcome import evaluation_seconds, pace
from crossattn.train.run import Run
from crossattn.train.source import Dataset, batches_of
from crossattn.train.suite import Suite
from crossattn.train.utilization import matrix_flops

TIMED_STEPS = 5
# A forward pass is about a third of a training step.
FORWARD = 1 / 3
# Passes over the main split: its own, and four knock-outs.
MAIN_PASSES = 5


@dataclasses.dataclass(frozen=True)
class VariantCost:
    """What one variant costs.

    Attributes:
      parameters: number of scalars.
      flops: of the matrix products of a step.
      compilation: seconds, once for all seeds; 0 where it is part of what was measured.
      run: seconds of a run, evaluation included.
    """

    parameters: int
    flops: float
    compilation: float
    run: float


def print_dry_run(suite: Suite, source: Dataset, folder: Folder, seeds: int) -> None:
    """Print what the suite would run; neither trains nor writes."""
    # A compiled program in a cache would be something written.
    cached = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        costs, basis = estimate_costs(suite, source, folder, seeds)
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
    left = {variant: len(some) for variant, some in pending(suite, folder, seeds)}
    print(terminal_table(_cost_table(suite, costs, left, seeds)))
    jobs = [costs[v].compilation + runs * costs[v].run for v, runs in left.items()]
    lanes = min(jax.local_device_count(), max(1, len(jobs)))
    side = f", {lanes} variants side by side" if lanes > 1 else ""
    if suite.sweep:
        side += (
            f"; the learning-rate sweep, {len(suite.learning_rates)} runs a variant, comes on top"
        )
    lengths = sorted({suite.run(variant).steps for variant in left or suite.variants})
    steps = " to ".join(map(str, dict.fromkeys((lengths[0], lengths[-1]))))
    print(
        f"\n{sum(left.values())} runs of {steps} steps to do, about "
        f"{duration(makespan(jobs, lanes))}{side}."
        f"\nTimes are an estimate, {basis}."
        f"\nResults go to {printable(folder.path)}. Nothing was written."
    )


def _cost_table(
    suite: Suite, costs: dict[str, VariantCost], left: dict[str, int], seeds: int
) -> Table:
    """A row for each variant."""
    header = ["variant", "to do", "finished", "parameters", "FLOPs of a step", "a run", "in all"]
    baseline = costs[suite.baseline].flops
    rows = []
    for variant, cost in costs.items():
        todo = left.get(variant, 0)
        cells = [variant, str(todo), str(seeds - todo), f"{cost.parameters:,}"]
        cells += [f"{cost.flops / baseline:.2f} x baseline", duration(cost.run)]
        rows.append([*cells, duration(cost.compilation + todo * cost.run) if todo else "-"])
    return header, rows


def estimate_costs(
    suite: Suite, source: Dataset, folder: Folder, seeds: int
) -> tuple[dict[str, VariantCost], str]:
    """The cost of every variant, and what the times are based on.

    A variant's own finished runs come first; then the nearest that was measured, scaled by FLOPs.
    """
    sizes = {variant: _size(suite.run(variant), source) for variant in suite.variants}
    measured, left = {}, dict(pending(suite, folder, seeds))
    for variant in suite.variants:
        runs = [folder.run(variant, s) for s in range(seeds) if s not in left.get(variant, [])]
        if (times := _finished(runs)) is not None:
            measured[variant] = (0.0, times[0] * suite.run(variant).steps + times[1])
    basis = "from the finished runs here"
    if not measured:
        measured[suite.baseline] = _time(suite.run(suite.baseline), source)
        basis = f"from {TIMED_STEPS} steps of {suite.baseline}, others in proportion to FLOPs"
    first = suite.baseline if suite.baseline in measured else next(iter(measured))
    costs = {}
    for variant, (parameters, flops) in sizes.items():
        compilation, seconds = measured.get(variant, measured[first])
        scale = 1.0 if variant in measured else flops / sizes[first][1]
        costs[variant] = VariantCost(parameters, flops, compilation, seconds * scale)
    return costs, basis


def _finished(runs: list[Path]) -> tuple[float, float] | None:
    """Median seconds of a step and of an evaluation over finished runs."""
    paces = [seconds for run in runs if (seconds := pace(run)) is not None]
    if not paces:
        return None
    evaluations = [seconds for run in runs if (seconds := evaluation_seconds(run)) is not None]
    return statistics.median(paces), statistics.median(evaluations or [0.0])


def _size(run: Run, source: Dataset) -> tuple[int, float]:
    """Parameters and FLOPs of a step, from shapes alone: nothing is compiled or computed."""
    programs = TrainPrograms(run, source.vocabulary)
    batch = batches_of(run, source.train, 0).batch(0)
    state = jax.eval_shape(programs.create, 0, batch)
    step = jax.make_jaxpr(programs.step)(state, batch, np.float32(run.optimizer.learning_rate))
    return count_parameters(state.params), matrix_flops(step)


def _time(run: Run, source: Dataset) -> tuple[float, float]:
    """Seconds of compilation and of a run, from a few steps here and now."""
    print(f"timing {TIMED_STEPS} steps ...", file=sys.stderr)
    programs = TrainPrograms(run, source.vocabulary)
    batches, rate = batches_of(run, source.train, 0), np.float32(run.optimizer.learning_rate)
    start = time.perf_counter()
    state = programs.create(0, batches.batch(0))
    times = []
    for index in range(1 + TIMED_STEPS):
        begun = time.perf_counter()
        state, metrics = programs.step(state, batches.batch(index), rate)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - begun)
    step = statistics.median(times[1:])
    rows = sum(map(len, source.splits.values())) + MAIN_PASSES * len(source.splits[source.main])
    evaluation = FORWARD * step * rows / run.batch_size
    return begun - start - sum(times[1:-1]), run.steps * step + evaluation


def makespan(jobs: list[float], lanes: int) -> float:
    """Seconds until all jobs are done, each lane taking the next that is left.

    Example:
      >>> makespan([3.0, 1.0, 1.0, 2.0], 2)
      4.0
    """
    busy = [0.0] * lanes
    for job in jobs:
        heapq.heapreplace(busy, busy[0] + job)
    return max(busy)


def duration(seconds: int | float) -> str:
    """Seconds for people.

    Example:
      >>> [duration(s) for s in (0.04, 42, 400, 20_000)]
      ['under 1 s', '42 s', '7 min', '5.6 h']
    """
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
