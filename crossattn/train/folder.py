"""The folder of a suite's results: whose it is, and what in it is finished."""

import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from crossattn.fields import flat
from crossattn.files import contents, damage, write_atomically
from crossattn.train.checkpoint import newest
from crossattn.train.former import with_late_fields
from crossattn.train.stale import MEASURED, Stale, find_stale, left_over
from crossattn.train.suite import Suite

# What a run of a few hundred thousand parameters leaves on the disk, checkpoints included.
BYTES_PER_RUN = 4_000_000
LOCK = ".lock"


class FolderError(ValueError):
    """The output folder holds something else."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """Where a suite's results lie: `suite.json`, `runs/VARIANT/seedN/`, `results.json`, ..."""

    path: Path
    kind: ClassVar[str] = "suite"

    def check(self, suite: Suite) -> None:
        """Make sure that this suite's results may lie here; reads only.

        Raises:
          FolderError: it is no folder, or holds another suite, other settings, or foreign files.
        """
        if self._is_taken():
            self._check_identity(suite)

    def _is_taken(self) -> bool:
        """Whether the folder is one of ours; else it can become one."""
        if not _is_text(self.path.absolute()):
            raise self._cannot_write("its name has bytes that are no UTF-8, checkpoints need that")
        if not self.path.exists():
            above = next(place for place in self.path.absolute().parents if place.exists())
            if not above.is_dir():
                raise self._cannot_write(f"{above} is no folder")
            return False
        if not self.path.is_dir():
            raise self._cannot_write("it is no folder")
        if not self._identity.exists() and _holds_files(self.path):
            raise FolderError(
                f"{self.path} is not empty and holds no {self.kind}: choose a new folder with --out"
            )
        return self._identity.exists()

    def _check_identity(self, suite: Suite) -> None:
        try:
            there = json.loads(contents(self._identity))
            name, settings = there["suite"], with_late_fields(flat(there["settings"]))
        except PermissionError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise FolderError(
                f"{self._identity} is damaged: choose another folder with --out"
            ) from None
        if name != suite.name:
            raise FolderError(
                f"{self.path} holds the suite {name}, not {suite.name}: "
                "choose another folder with --out"
            )
        if said := _differences(settings, suite):
            raise FolderError(
                f"{self.path} holds {name} with other settings ({said}): "
                "type the same options again, or choose another folder with --out"
            )

    def check_room(self, runs: int) -> None:
        """Make sure that the disk has room for so many more runs; reads only.

        Raises:
          FolderError: it has not.
        """
        there = next(
            place for place in (self.path, *self.path.absolute().parents) if place.exists()
        )
        free, needed = shutil.disk_usage(there).free, BYTES_PER_RUN * runs
        if free < needed:
            raise FolderError(
                f"{self.path} has {free / 1e6:.1f} MB left, {runs} runs need about "
                f"{needed / 1e6:.0f} MB: make room, or choose another folder with --out"
            )

    @contextlib.contextmanager
    def hold(self, command: str) -> Iterator[None]:
        """Create the folder and keep other processes from writing into it.

        The lock is `flock` on a file that stays open, not the file's existence: the system lets go
        of it when a process ends in whatever way, so that no stale lock needs a decision about
        which processes of which host are alive, and network file systems pass it on between hosts.
        The file is never removed: a process that waits at a removed file would hold a lock that
        nobody else sees.

        Args:
          command: what a second process is told that this one runs.

        Raises:
          FolderError: another process holds the folder, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / LOCK).open("a+")
        except OSError as error:
            raise self._cannot_write(error.strerror or str(error)) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise FolderError(
                    f"{self.path} is in use by {_holder(file.read())}: wait for it to end, "
                    "or choose another folder with --out"
                ) from None
            except OSError as error:
                raise self._cannot_write(f"it cannot be locked ({error.strerror})") from None
            file.truncate(0)
            about = {"process": os.getpid(), "host": platform.node(), "command": command}
            file.write(json.dumps({**about, "since": time.strftime("%Y-%m-%d %H:%M:%S")}) + "\n")
            file.flush()
            yield

    def _cannot_write(self, reason: str) -> FolderError:
        return FolderError(
            f"cannot write into {self.path}: {reason}; choose another folder with --out"
        )

    def claim(self, suite: Suite) -> None:
        """Make a checked folder this suite's; what is stale is set aside before."""
        for stale in self.stale(suite):
            stale.set_aside(self.path)
        identity = {"suite": suite.name, "settings": suite.settings()}
        write_atomically(self._identity, json.dumps(identity, indent=2) + "\n")

    def stale(self, suite: Suite) -> list[Stale]:
        """What was run, or measured, for other variants than the suite has now; reads only."""
        return list(find_stale(self.path, suite))

    def changes(self, suite: Suite, *, dry: bool = False) -> list[str]:
        """What `claim` will do to a folder of a suite that has changed, a line for each variant.

        In a `dry` run, what it would do.
        """
        be = "would be" if dry else "are"
        aside = f"; the former ones {be} kept in {self.path / 'stale'}"
        moved = [f"{one.described(dry=dry)}{aside}" for one in self.stale(suite)]
        return [*moved, *left_over(self.path, suite, dry=dry)]

    def check_there(self) -> None:
        """Make sure that a claimed folder has not been taken away; reads only.

        Raises:
          FolderError: it has, and would be made anew with what comes next.
        """
        if not self._identity.is_file():
            raise FolderError(
                f"{self.path} was moved, removed or replaced while this command ran: "
                "what was written until then is where the folder is now"
            )

    @property
    def _identity(self) -> Path:
        return self.path / "suite.json"

    def run(self, variant: str, seed: int) -> Path:
        """Folder of one run."""
        return self.path / "runs" / variant / f"seed{seed}"

    def checkpoint(self, variant: str, seed: int) -> int | None:
        """Step of a run's newest checkpoint."""
        return newest(self.run(variant, seed) / "checkpoints")

    def finished(self, variant: str, seed: int) -> bool:
        """Whether a run never needs to run again: all that is read of it is as it was written."""
        return not damage(self.run(variant, seed), MEASURED)


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _holds_files(folder: Path) -> bool:
    """Whether a folder holds more than hidden files and what saves were interrupted over.

    These can come back into a folder that was removed while a command ran.
    """
    for entry in folder.iterdir():
        unfinished = entry.name.startswith(".") or ".orbax-checkpoint-tmp" in entry.name
        if not unfinished and (not entry.is_dir() or _holds_files(entry)):
            return True
    return False


def _holder(written: str) -> str:
    """Who holds a lock, in words, by what was written into its file."""
    try:
        about = json.loads(written)
        who, since = f"process {about['process']} on {about['host']}", about["since"]
        return f"{who} since {since} ({about['command']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _differences(there: dict[str, Any], suite: Suite) -> str:
    """Which settings that variants share differ, for people; changed variants are found by run."""
    here = suite.settings()
    said = []
    for name, value in here.items():
        if there.get(name) == value or (name == "learning_rates" and name not in there):
            continue  # earlier versions did not write the rates down
        own = [name, name.split(".")[0]]
        if not all(any(one in changes for one in own) for changes in suite.variants.values()):
            said.append(f"{name} is {there.get(name)} there and {value} here")
    return "; ".join(said)


def pending(suite: Suite, folder: Folder, seeds: int) -> Iterator[tuple[str, list[int]]]:
    """Variants with the seeds that still have to run."""
    stale = {(one.variant, seed) for one in folder.stale(suite) for seed in one.seeds}
    for variant in suite.variants:
        left = [
            seed
            for seed in range(seeds)
            if (variant, seed) in stale or not folder.finished(variant, seed)
        ]
        if left:
            yield variant, left
