"""Who hears of the training of a call: loggers, services by name, plain functions."""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossattn.lab.errors import LabError
from crossattn.spelling import nearest
from crossattn.train.loggers import LOGGERS
from crossattn.train.open_loggers import Logger, RunLogger

Hears = Callable[[Mapping[str, Any]], None]
Listening = Sequence[str | Logger | Hears]


class FunctionLogger:
    """Calls a function with every record, and with the variant and the seed that it is of.

    Runs on several devices take turns.

    Example:
      >>> heard = []
      >>> run = FunctionLogger(heard.append).start({"variant": "blind", "seed": 1})
      >>> run.log({"step": 10, "loss": 0.5})
      >>> heard
      [{'variant': 'blind', 'seed': 1, 'step': 10, 'loss': 0.5}]
    """

    def __init__(self, function: Hears):
        self.function, self.turn = function, threading.Lock()

    def start(self, description: Mapping[str, Any]) -> RunLogger:
        """See `Logger`."""
        return _Run(self, {name: description[name] for name in ("variant", "seed")})


@dataclasses.dataclass(frozen=True)
class _Run:
    logger: FunctionLogger
    which: Mapping[str, Any]

    def log(self, record: Mapping[str, Any]) -> None:
        with self.logger.turn:
            self.logger.function({**self.which, **record})

    def finish(self) -> None:
        """Nothing to do."""


def loggers_of(given: Listening) -> tuple[Logger, ...]:
    """Loggers: those of services by name, and functions as what they are called by.

    Raises:
      LabError: there is no such service.
      ModuleNotFoundError: its package is not installed; says what to type.
    """
    found: list[Logger] = []
    for one in given:
        if isinstance(one, str):
            if one not in LOGGERS:
                raise LabError(f"loggers: there is no {one!r}: {nearest(one, LOGGERS)}")
            found.append(LOGGERS[one]())
        else:
            found.append(one if isinstance(one, Logger) else FunctionLogger(one))
    return tuple(found)
