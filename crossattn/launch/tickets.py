"""What launcher and jobs tell each other: files in `jobs/NAME/` of the suite's folder.

The launcher writes `ticket.json`, the job writes `status.json` and holds `lock` while it runs. They
share nothing else, so that either may die, and a later launcher knows what an earlier one did.
"""

import contextlib
import dataclasses
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from crossattn.files import write_atomically
from crossattn.train.folder import Folder

JOBS = "jobs"


@dataclasses.dataclass(frozen=True)
class Ticket:
    """One submission of one job.

    Attributes:
      variant: of the suite.
      seeds: of the variant.
      launcher: processes or slurm.
      number: counts the submissions of this job from 1.
      id: Slurm's number of it, or the number of submitit's process.
    """

    variant: str
    seeds: tuple[int, ...]
    launcher: str
    number: int = 1
    id: str = ""

    @property
    def label(self) -> str:
        """The job for people.

        Example:
          >>> Ticket("blind", (0, 1), "slurm").label, Ticket("blind", (0, 1), "slurm").name
          ('blind seed 0 1', 'blind-seed0-1')
        """
        return f"{self.variant} seed {' '.join(map(str, self.seeds))}"

    @property
    def name(self) -> str:
        """The job as the name of a folder."""
        return f"{self.variant}-seed{'-'.join(map(str, self.seeds))}"

    def where(self, folder: Folder) -> Path:
        """The job's own folder."""
        return folder.path / JOBS / self.name

    def log(self, folder: Folder) -> Path:
        """The folder with what this submission printed."""
        return self.where(folder) / str(self.number)

    def write(self, folder: Folder) -> None:
        """Remember the submission."""
        write_atomically(
            self.where(folder) / "ticket.json", json.dumps(dataclasses.asdict(self)) + "\n"
        )


@dataclasses.dataclass(frozen=True)
class Status:
    """What a job says of itself.

    Attributes:
      number: which submission says it.
      starts: how often this submission was started: more than once after a requeue.
      state: failed is said by the job itself; one that was killed still says running.
      steps: finished of all its runs.
      device: what it runs on.
      error: why it failed.
      hopeless: it would fail again.
      messages: what a user should know.
    """

    number: int
    starts: int = 1
    state: Literal["running", "failed", "finished"] = "running"
    steps: int = 0
    device: str = ""
    error: str = ""
    hopeless: bool = False
    messages: tuple[str, ...] = ()

    def write(self, where: Path) -> None:
        """Put it into the job's folder."""
        write_atomically(where / "status.json", json.dumps(dataclasses.asdict(self)) + "\n")


def read_status(where: Path, number: int) -> Status | None:
    """What a job's submission said last; None while it has said nothing."""
    content = _read(where / "status.json")
    if content is None or content["number"] != number:
        return None
    return Status(**{**content, "messages": tuple(content["messages"])})


def read_tickets(folder: Folder) -> list[Ticket]:
    """The newest submission of every job that was ever launched into a folder."""
    found = [_read(path) for path in sorted((folder.path / JOBS).glob("*/ticket.json"))]
    return [Ticket(**{**one, "seeds": tuple(one["seeds"])}) for one in found if one is not None]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def hold_job(where: Path) -> Iterator[None]:
    """Within, no other process runs the same job; waits until it has ended."""
    with (where / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def runs(where: Path) -> bool:
    """Whether a process runs a job at this moment."""
    try:
        with (where / "lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
