"""One trained run as an object: settings, data, model, parameters, all read when asked for."""

import functools
import json
from pathlib import Path
from typing import Any

from crossattn.data.examples import Examples
from crossattn.lab.errors import LabError, python_errors
from crossattn.lab.exploration import explore_folder
from crossattn.launch.progress import tell_user
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.train.evaluate import Evaluator
from crossattn.train.log import curve
from crossattn.train.parallel import SINGLE_DEVICE, Parallelism
from crossattn.train.predictions import Predictions
from crossattn.train.quiet import quiet_logs
from crossattn.train.record import read_record
from crossattn.train.run import Run
from crossattn.train.source import Dataset
from crossattn.train.trained import TrainedRun, find_run, load_trained, open_run
from crossattn.viewer import Page


class LabRun:
    """A run, of a suite or by itself, to go on with; its folder is only read.

    Attributes:
      folder: with run.json, log.jsonl, checkpoints and metrics.json.
      record: what it is.
      step: of the checkpoint that is wanted; None: the newest that can be read.

    Example:
      >>> LabRun("nowhere")
      Traceback (most recent call last):
        ...
      crossattn.train.trained.UnusableRunError: there is no folder nowhere
    """

    def __init__(
        self,
        folder: str | Path,
        step: int | None = None,
        parallel: Parallelism = SINGLE_DEVICE,
    ):
        """Of a folder of a run, or of one of its checkpoints.

        Raises:
          UnusableRunError: there is no such folder, or it holds no run.
          RecordError: this version cannot read what the run is.
        """
        with python_errors(lambda: "interrupted"):
            self.folder, named = find_run(Path(folder))
        self.step, self.parallel = named if step is None else step, parallel
        self.record = read_record(self.folder)

    def __repr__(self) -> str:
        of = self.record
        return f"LabRun({of.suite}: {of.variant}, seed {of.seed}; {self.folder})"

    @property
    def variant(self) -> str:
        """Its name in its suite."""
        return self.record.variant

    @property
    def seed(self) -> int:
        """It decides initial values and the order of the data."""
        return self.record.seed

    @property
    def settings(self) -> Run:
        """Everything else that decides it."""
        return self.record.run

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured after the last step, by name.

        Raises:
          LabError: nothing was yet.
        """
        path = self.folder / "metrics.json"
        if not path.exists():
            raise LabError(f"{self.folder} is not measured yet: train it to its end")
        found: dict[str, float] = json.loads(path.read_text())["metrics"]
        return found

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of its training: step, loss, accuracy, time and more."""
        return curve(self.folder / "log.jsonl")

    @functools.cached_property
    def data(self) -> Dataset:
        """What it learnt from and is judged by, loaded or made again.

        Raises:
          UnusableRunError: they cannot be loaded.
        """
        return open_run(self.folder)[1]

    @functools.cached_property
    def trained(self) -> TrainedRun:
        """Its model with the parameters of the checkpoint.

        Raises:
          UnusableRunError: there is no checkpoint yet.
          CheckpointError: none can be read, or it is of another model.
        """
        given = (self.folder, self.record, self.data, self.step)
        notify = lambda message: tell_user(f"evaluate: {message}")
        with quiet_logs():
            return load_trained(*given, parallel=self.parallel, notify=notify)

    @property
    def model(self) -> VisionLanguageDecoder:
        """The Flax module; `params` are its variables."""
        return self.trained.model

    @property
    def params(self) -> Any:
        """What is evaluated: the newest parameters, or their moving average where there is one."""
        return self.trained.params

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """Predicts with the model, a batch at a time."""
        return Evaluator(self.model, self.parallel)

    def predict(self, examples: Examples, visible: Any = None) -> Predictions:
        """What it says of examples, and what each of its layers and heads looks at.

        Args:
          examples: such as `run.data.splits["test"]`, or some rows of it: `examples.rows([0, 1])`.
          visible: bool (E, P), or (L, E, P) for each layer: patches that are not hidden.
        """
        return self.evaluator.predict(self.params, examples, visible)

    def explore(self, **options: Any) -> Page:
        """The page on which one clicks a word and sees where it looks.

        Args:
          options: examples, split and compare of `exploration.explore_folder`.

        Raises:
          UnusableRunError: it does not look at patches, or is not trained yet.
        """
        where = self.folder if self.step is None else self.folder / "checkpoints" / str(self.step)
        with python_errors(lambda: "interrupted; the run is as it was"):
            return explore_folder(where, **{"notify": tell_user, **options})
