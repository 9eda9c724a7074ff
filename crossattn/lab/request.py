"""What a command or a call asks for, checked before anything is written."""

import dataclasses
from collections.abc import Sequence

from crossattn.lab.errors import LabError
from crossattn.launch.devices import Devices
from crossattn.launch.options import Launch
from crossattn.launch.progress import tell_user
from crossattn.train.folder import Folder
from crossattn.train.multihost import is_writer
from crossattn.train.open_loggers import Logger
from crossattn.train.parallel import Parallelism
from crossattn.train.suite import Suite


@dataclasses.dataclass(frozen=True)
class Request:
    """What a command or a call asks for.

    Attributes:
      caller: begins each line that is said, like "ablate".
      command: what makes the same results again, as its user writes it.
      whole: the suite.
      suite: of it the variants to run.
      folder: of the results.
      seeds: of every variant.
      quick: whether it is a smoke run.
      launch: where runs happen.
      devices: how they lie over the devices.
      loggers: who hears of the training.
      stay: whether the process lives on when it has been interrupted, as a notebook's does.
    """

    caller: str
    command: str
    whole: Suite
    suite: Suite
    folder: Folder
    seeds: int = 1
    quick: bool = False
    launch: Launch = dataclasses.field(default_factory=Launch)
    devices: Devices = dataclasses.field(default_factory=Devices)
    loggers: Sequence[Logger] = ()
    stay: bool = False

    def say(self, message: str) -> None:
        """Tell the user, one process for all."""
        if is_writer():
            tell_user(f"{self.caller}: {message}")


def prepare_request(request: Request) -> Parallelism:
    """Find out, before anything is written, whether a suite can run as asked for.

    Raises:
      ValueError, RuntimeError: one of `EXPECTED`.
    """
    request.launch.check()
    if request.launch.elsewhere and request.devices != Devices():
        raise LabError("options of devices, --mesh to --distributed, are not for --launcher")
    request.folder.check(request.whole)
    request.devices.prepare(request.caller)
    return request.devices.parallel(request.suite)
