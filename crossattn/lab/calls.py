"""The laboratory as functions: train and compare variants, train or measure one model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from crossattn.data.sources import Data
from crossattn.lab.asking import (
    QUICK_SEEDS,
    SEEDS,
    Changes,
    Named,
    check_variants,
    data_changes,
    devices_of,
    run_asked,
    suite_asked,
)
from crossattn.lab.comparing import PairedComparison, compare_results
from crossattn.lab.errors import LabError, as_lab_error, python_errors
from crossattn.lab.evaluation import Evaluation, evaluate_run
from crossattn.lab.listening import Listening, loggers_of
from crossattn.lab.loading import load_judged
from crossattn.lab.request import Request
from crossattn.lab.results import AblationResults
from crossattn.lab.running import run_alone, run_suite
from crossattn.lab.runs import LabRun
from crossattn.lab.wording import standing, written
from crossattn.launch.devices import Devices, mesh_of, show_devices
from crossattn.train import run_folder
from crossattn.train.folder import Folder
from crossattn.train.parallel import Parallelism
from crossattn.train.run import Run
from crossattn.train.run_folder import RunFolder, suite_of


def ablate(
    suite: Named,
    *,
    data: str | Changes | Data | None = None,
    base: Changes | Run | None = None,
    baseline: str | None = None,
    primary: str | None = None,
    variants: Sequence[str] | None = None,
    seeds: int | None = None,
    quick: bool = False,
    out: str | Path | None = None,
    devices: str | Changes | Devices | None = None,
    loggers: Listening = (),
) -> AblationResults:
    """Train and measure every variant with every seed, and write a report.

    What is finished never runs again: after an interruption the same call goes on, and gives the
    same bits as one that was not interrupted. The folder is that of `python -m experiments.ablate`.

    Args:
      suite: the name of a suite, the path of its file, a `Suite`, or a dict of changes by the name
        of each variant, like {"plain": {}, "gated": {"model.block.residual.gate": "tanh"}}.
      data: what all learn from: the name of a source, or a dict of its settings.
      base: what all share: changes by field, or a whole `Run`. A dict of variants begins with the
        base of the suite that crossattn has for the same data.
      baseline: what the others are compared with; the first of a dict.
      primary: the one metric that names winners, like "test/accuracy".
      variants: run and report only these, and the baseline.
      seeds: 0, 1, and so on, of every variant: 5, quick 3. Fewer than 5 seldom allow a claim.
      quick: a smoke run of a few minutes, with few steps and little data.
      out: the folder of the results; results/SUITE.
      devices: how runs lie over the devices: a mesh like "data=4,tensor=2", or options by name.
      loggers: who hears of the training: functions that take a record, like {"variant": "plain",
        "seed": 0, "step": 10, "loss": 3.1}; "wandb", "tensorboard" or "trackio"; objects of your
        own (see `crossattn.train.open_loggers`).

    Returns:
      The results, which show themselves.

    Raises:
      ValueError: something is asked for that cannot be, or the folder holds something else.
      RuntimeError: there are not the devices.
      ArithmeticError: a loss became infinite or NaN.
      KeyboardInterrupt: the user interrupted; says what is finished. Checkpoints are safe.
    """
    given = {**locals()}
    state: dict[str, Request] = {}
    with python_errors(lambda: standing(state.get("request"))):
        if seeds is not None and seeds < 1:
            raise LabError(f"seeds must be at least 1, got {seeds}")
        with as_lab_error():
            shared = base, data_changes(data)
            whole = suite_asked(suite, *shared, baseline=baseline, primary=primary, quick=quick)
            check_variants(whole, variants or (), whole.name)
        source = None
        if isinstance(suite, Mapping) and primary is None:
            whole, source = load_judged(whole)
        name = f"{whole.name}-quick" if quick else whole.name
        folder = Folder(Path(out or Path("results") / name))
        state["request"] = request = Request(
            caller="ablate",
            command=written("ablate", given),
            whole=whole,
            suite=whole.only(variants) if variants else whole,
            folder=folder,
            seeds=seeds or (QUICK_SEEDS if quick else SEEDS),
            quick=quick,
            devices=devices_of(devices),
            loggers=loggers_of(loggers),
            stay=True,
        )
        run_suite(request, source)
    return AblationResults(folder.path)


def train(
    changes: Changes | Run | None = None,
    *,
    data: str | Changes | Data | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    devices: str | Changes | Devices | None = None,
    loggers: Listening = (),
) -> LabRun:
    """Train one model, measure it, and write its report.

    The same call goes on where one ended; what is finished is only reported again.

    Args:
      changes: of a run, by field, like {"model.preset": "flamingo", "steps": 500}; or a `Run`.
      data: what it learns from: the name of a source, or a dict of its settings.
      seed: decides initial values and the order of the data.
      out: the folder of checkpoints, measurements and report; results/train/seedN.
      devices: how it lies over the devices: a mesh like "data=4,tensor=2", or options by name.
      loggers: as those of `ablate`.

    Returns:
      The run, to go on with.

    Raises:
      ValueError, RuntimeError, ArithmeticError, KeyboardInterrupt: as `ablate`.
    """
    given = {**locals()}
    state: dict[str, Request] = {}
    with python_errors(lambda: standing(state.get("request"))):
        if seed < 0:
            raise LabError(f"seed cannot be negative, got {seed}")
        with as_lab_error():
            suite = suite_of(run_asked(changes, data_changes(data)))
        folder = RunFolder(Path(out or Path("results") / run_folder.NAME / f"seed{seed}"), seed)
        state["request"] = request = Request(
            caller="train",
            command=written("train", given),
            whole=suite,
            suite=suite,
            folder=folder,
            devices=devices_of(devices),
            loggers=loggers_of(loggers),
            stay=True,
        )
        run_alone(request, seed)
    return LabRun(folder.path)


def evaluate(
    run: LabRun | str | Path,
    *,
    on: str | None = None,
    step: int | None = None,
    mesh: str | None = None,
    out: str | Path | None = None,
) -> Evaluation:
    """Measure a checkpoint: answers, attention, knock-outs layer by layer. The run is only read.

    Args:
      run: of `results.run(...)` or `train`, or the folder of one.
      on: the split on which attention, knock-outs and captions are measured; the main one.
      step: of the checkpoint; that of the run, or the newest that can be read.
      mesh: measure over the devices, as "data=4,context=2" says; one device.
      out: the folder of metrics.json and the report; RUN/evaluation/SPLIT.

    Raises:
      ValueError: there is no such run, split or checkpoint.
    """
    with python_errors(lambda: "interrupted; the run is as it was"):
        if not isinstance(run, LabRun):
            run = LabRun(run)
        step, parallel = run.step if step is None else step, run.parallel
        if mesh is not None:
            show_devices(mesh)
            parallel = Parallelism(mesh_of(mesh))
        if (step, parallel) != (run.step, run.parallel):
            run = LabRun(run.folder, step, parallel)
        return evaluate_run(run, on, None if out is None else Path(out))


def compare(
    results: AblationResults | str | Path, variant: str, baseline: str, *, metric: str | None = None
) -> PairedComparison:
    """Compare two variants, paired by seed and, on the primary metric, by item.

    Args:
      results: of `ablate` or `open_results`, or their folder.
      variant: the one.
      baseline: the other, which is subtracted.
      metric: the primary one when not given.

    Raises:
      ValueError: there is no such variant or metric, or they have not run the same seeds.
    """
    if not isinstance(results, AblationResults):
        results = open_results(results)
    return compare_results(results, variant, baseline, metric)


def open_results(folder: str | Path) -> AblationResults:
    """The results in a folder, whether a command or a call has made them.

    Raises:
      ValueError: there are none.

    Example:
      >>> open_results("nowhere")
      Traceback (most recent call last):
        ...
      crossattn.lab.errors.LabError: nowhere holds no results of an ablation: it has no results.json
    """
    found = AblationResults(Path(folder))
    if "runs" not in found.content:
        raise LabError(f"{folder} holds no results of an ablation")
    return found
