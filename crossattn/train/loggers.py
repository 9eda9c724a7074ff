"""Services that take the records of runs: Weights & Biases, TensorBoard, trackio.

Each is an extra of the package, and imported when it is used. See `open_loggers` for one's own.
"""

import dataclasses
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from crossattn.train.open_loggers import Logger, RunLogger

__all__ = [
    "LOGGERS",
    "Logger",
    "LoggerName",
    "RunLogger",
    "TensorBoardLogger",
    "TrackioLogger",
    "WandbLogger",
    "loggers_named",
    "numbers_of",
]

PROJECT = "crossattn"


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """What of a record can be drawn as a curve over steps.

    >>> numbers_of({"step": 10, "loss": 0.5, "time": 1e9})
    {'loss': 0.5}
    >>> numbers_of({"step": 0, "event": "start", "seeds": 1, "time": 1e9})
    {}
    """
    if record.get("event") not in (None, "measured"):
        return {}
    numbers = {n: x for n, x in record.items() if isinstance(x, int | float)}
    return {n: x for n, x in numbers.items() if n not in ("step", "time")}


@dataclasses.dataclass(frozen=True)
class WandbLogger:
    """A run of Weights & Biases (the extra `wandb`) for each run.

    Nothing is sent unless the environment says WANDB_MODE=online: what is written into the run's
    folder can be sent later by `wandb sync`.

    Attributes:
      project: where the runs are listed; None: WANDB_PROJECT, or "crossattn".
    """

    project: str | None = None

    def __post_init__(self):
        _need("wandb", "wandb")

    def start(self, description: Mapping[str, Any]) -> RunLogger:
        """See `Logger`."""
        import wandb

        mode = os.environ.get("WANDB_MODE", "offline")
        run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or PROJECT,
            id=description["id"],
            name=description["name"],
            group=f"{description['suite']}/{description['variant']}",
            config=dict(description["run"], seed=description["seed"]),
            dir=description["folder"],
            mode=mode,
            resume="allow" if mode == "online" else None,
            # Several at a time, which leave what the command prints alone.
            reinit="create_new",
            settings=wandb.Settings(console="off", quiet=True),
        )
        return _Wandb(run)


class _Wandb:
    def __init__(self, run: Any):
        self.run, self.finish = run, run.finish

    def log(self, record: Mapping[str, Any]) -> None:
        if numbers := numbers_of(record):
            self.run.log(numbers, step=record["step"])


@dataclasses.dataclass(frozen=True)
class TensorBoardLogger:
    """Event files in `tensorboard` of each run's folder (the extra `tensorboard`).

    They are written without TensorFlow; `tensorboard --logdir RESULTS` shows those of all runs.
    """

    def __post_init__(self):
        _need("tensorboardX", "tensorboard")

    def start(self, description: Mapping[str, Any]) -> RunLogger:
        """See `Logger`."""
        return _TensorBoard(Path(description["folder"]) / "tensorboard")


class _TensorBoard:
    def __init__(self, folder: Path):
        # Not its SummaryWriter, whose flush does not wait for what is written.
        from tensorboardX.event_file_writer import EventsWriter

        folder.mkdir(parents=True, exist_ok=True)
        # The rest of a file's name is the second in which it was made.
        self.writer = EventsWriter(str(folder / "events"), f".{secrets.token_hex(4)}")
        self.finish, self.flushed = self.writer.close, 0.0

    def log(self, record: Mapping[str, Any]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, number in numbers_of(record).items():
            when = {"step": record["step"], "wall_time": record.get("time", 0.0)}
            self.writer.write_event(Event(summary=scalar(name, number), **when))
        # A kill loses no more than a second.
        if time.monotonic() > self.flushed + 1:
            self.writer.flush()
            self.flushed = time.monotonic()


@dataclasses.dataclass(frozen=True)
class TrackioLogger:
    """A run of trackio (the extra `trackio`) for each run, in a data base on this machine.

    `trackio show` opens its page. It is sent to a Space only if TRACKIO_SPACE_ID names one.

    Attributes:
      project: where the runs are listed.
    """

    project: str = PROJECT

    def __post_init__(self):
        _need("trackio", "trackio")

    def start(self, description: Mapping[str, Any]) -> RunLogger:
        """See `Logger`."""
        import trackio

        run = trackio.init(
            project=self.project,
            name=f"{description['name']}-{description['id']}",
            group=f"{description['suite']}/{description['variant']}",
            config=dict(description["run"], seed=description["seed"]),
            resume="allow",
            embed=False,
        )
        return _Trackio(run)


class _Trackio:
    def __init__(self, run: Any):
        self.run, self.finish = run, run.finish

    def log(self, record: Mapping[str, Any]) -> None:
        if numbers := numbers_of(record):
            self.run.log(numbers, step=record["step"])


LoggerName = Literal["wandb", "tensorboard", "trackio"]
LOGGERS = dict(
    zip(get_args(LoggerName), (WandbLogger, TensorBoardLogger, TrackioLogger), strict=True)
)


def loggers_named(names: Sequence[LoggerName]) -> tuple[Logger, ...]:
    """Loggers as `--log-to` names them.

    Raises:
      ModuleNotFoundError: a package is not installed; says what to type.
    """
    return tuple(LOGGERS[name]() for name in dict.fromkeys(names))


def _need(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise ModuleNotFoundError(
            f"{package} is not installed: pip install 'crossattn[{extra}]'", name=package
        )
