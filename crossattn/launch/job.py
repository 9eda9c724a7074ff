"""What one job does, wherever it runs: train and measure one variant with some of its seeds."""

import dataclasses
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from crossattn.data.tfds.records import DataError
from crossattn.train import ablation
from crossattn.train.ablation import Listener
from crossattn.train.checkpoint import CheckpointError
from crossattn.train.folder import Folder
from crossattn.train.loop import NonFiniteLossError
from crossattn.train.open_loggers import Logger
from crossattn.train.source import load_dataset
from crossattn.train.suite import Suite

from .tickets import Status, Ticket, hold_job, read_status

# Seconds between two writes of a job's progress.
REPORT_INTERVAL = 1.0
# Errors that every further attempt would raise again.
PERMANENT = (NonFiniteLossError, CheckpointError, DataError, ModuleNotFoundError)


@dataclasses.dataclass(frozen=True)
class Job:
    """A submission as it travels to the machine that runs it.

    Attributes:
      suite: with the settings of the command line.
      ticket: which of its runs.
      folder: of the suite's results, absolute, seen by launcher and job.
      cache: folder of compiled programs.
      loggers: who gets the records of its runs.
    """

    suite: Suite
    ticket: Ticket
    folder: Path
    cache: str
    loggers: Sequence[Logger] = ()

    def __call__(self) -> None:
        """Do what is not finished, from the newest checkpoint on."""
        where = self.ticket.where(Folder(self.folder))
        with hold_job(where):
            before = read_status(where, self.ticket.number)
            starts = before.starts + 1 if before else 1
            report = _Report(where, Status(self.ticket.number, starts))
            try:
                self._train(report)
            except Exception as error:
                said = " ".join(str(error).split())[:500]
                known = isinstance(error, PERMANENT)
                report.say(
                    state="failed",
                    error=said if known else f"{type(error).__name__}: {said}",
                    hopeless=known,
                )
                raise
            report.say(state="finished")

    def checkpoint(self) -> Any:
        """What submitit submits again when the machine is wanted back: the same job.

        It goes on from its newest checkpoint, so that nothing needs to be carried over.
        """
        import submitit

        # Slurm tells the job's step as well as its own process. The second signal would break into
        # what the first one asks for, and make a failure of it.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        return submitit.helpers.DelayedSubmission(self)

    def _train(self, report: "_Report") -> None:
        jax.config.update("jax_compilation_cache_dir", self.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        device = jax.local_devices()[0]
        report.say(device=f"{jax.local_device_count()} x {device.device_kind}")
        folder, suite, variant = Folder(self.folder), self.suite, self.ticket.variant
        left = [seed for seed in self.ticket.seeds if not folder.finished(variant, seed)]
        if not left:
            return
        done = len(self.ticket.seeds) - len(left)
        if suite.sweep and (self.folder / "sweep" / variant / "chosen.json").exists():
            done += len(suite.learning_rates)
        report.earlier = done * suite.run(variant).steps
        listener = Listener(report.progress, report.notify, loggers=self.loggers)
        source = load_dataset(suite.base)
        ablation.run_variant(suite, variant, left, source, folder, listener=listener)


class _Report:
    """Keeps a job's status.json."""

    def __init__(self, where: Path, status: Status):
        self.where, self.status = where, status
        self.earlier = self.step = 0
        self.run = ""
        self.said = 0.0
        self.say()

    def say(self, **changes: Any) -> None:
        self.status = dataclasses.replace(self.status, **changes)
        self.status.write(self.where)
        self.said = time.monotonic()

    def notify(self, message: str) -> None:
        self.say(messages=(*self.status.messages, message))

    def progress(self, label: str, step: int, metrics: dict[str, float]) -> None:
        run = label.removesuffix(", evaluating")
        if run != self.run:
            self.earlier += self.step
            self.run = run
        self.step = step
        if time.monotonic() - self.said > REPORT_INTERVAL:
            self.say(steps=self.earlier + step)
