"""Checkpoints: asynchronous, atomic, with the position in the data and a digest (Orbax)."""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from crossattn.files import SEAL, damage, seal
from crossattn.train.digest import digest
from crossattn.train.multihost import all_gather, barrier, broadcast, is_writer
from crossattn.train.restored import (
    Metrics,
    Restored,
    describe_content,
    named_shapes,
    quiet_reading,
    whole_content,
)
from crossattn.train.step import State

ITEMS = ("state", "position")


class CheckpointError(ValueError):
    """No checkpoint fits: damaged, or of another model."""


class Checkpoints:
    """The two newest checkpoints of one run, in a folder of its own.

    A save returns as soon as the arrays are copied and is finished in the background; what a kill
    interrupts stays a temporary folder that no restore looks at. Orbax cannot finish two saves of
    one process at the same time: with several runs side by side a save waits for the one before.
    """

    _turn: ClassVar[threading.RLock] = threading.RLock()
    _saving: ClassVar["Checkpoints | None"] = None

    def __init__(self, folder: Path, *, read_only: bool = False):
        """Checkpoints in a folder, which is created where it is missing and may be written."""
        self.folder = folder.absolute()
        self.error: Exception | None = None
        self.step = 0
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else 2,
            enable_async_checkpointing=not read_only,
            create=not read_only,
            read_only=read_only,
            # Directories are made while `save` is called: a folder that somebody removes is not
            # made again behind their back.
            async_options=ocp.AsyncOptions(
                post_finalization_callback=None if read_only else self._seal,
                create_directories_asynchronously=False,
            ),
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options, item_names=ITEMS)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with self._turn:
                self._finish()
                self.manager.close()
        except Exception:
            if kind is None:
                raise  # else what came first says it better

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self.manager.latest_step()

    def save(
        self,
        step: int,
        state: State,
        position: dict[str, int],
        unlogged: Sequence[Metrics] = (),
    ) -> None:
        """Begin to save the state after `step` steps and where data and log stand."""
        stands = {"position": position, "unlogged": list(unlogged)}
        stands["digest"] = digest(state, describe_content(step, stands))
        with self._turn:
            self._finish()
            Checkpoints._saving, self.step = self, step
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(stands)
                ),
            )

    def _seal(self) -> None:
        """Write down the checksums of a checkpoint's files, before or after it gets its name.

        They notice what changes no array: flipped bits in Orbax's descriptions of them.
        """
        there = [path for path in self.folder.glob(f"{self.step}*") if _step_of(path) == self.step]
        if not is_writer() or not there:
            return
        folder = max(there, key=lambda path: path.stat().st_mtime)
        # Orbax changes what lies beside the items once more.
        files = (path for item in ITEMS for path in (folder / item).rglob("*") if path.is_file())
        seal(folder, sorted(str(path.relative_to(folder)) for path in files))

    def wait(self) -> None:
        """Block until what was begun is on disk."""
        with self._turn:
            self._finish()

    def _finish(self) -> None:
        """Wait for the save under way, whichever run began it; its error is that run's."""
        saving, Checkpoints._saving = Checkpoints._saving, None
        if saving is not None:
            try:
                saving.manager.wait_until_finished()
            except Exception as error:
                saving.error = error
        if self.error is not None:
            raise self.error

    def restore(self, like: Any, *, step: int | None = None) -> Restored:
        """The newest checkpoint that can be read, with the shapes, dtypes and placement of `like`.

        Args:
          like: a state of arrays, or of their shapes with shardings.
          step: read the checkpoint of this step and no other.

        Raises:
          CheckpointError: the newest is of another model (never a reason to take an older one), or
            none can be read.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        tried: list[int] = []
        with self._turn:
            self._finish()
            for there in sorted(self.manager.all_steps() if step is None else [step], reverse=True):
                items = self._items(there, abstract)
                if all(all_gather(np.array([items is not None]))):
                    found = whole_content(there, items["state"], items["position"], tuple(tried))
                    if found is not None:
                        return found
                tried.append(there)
        if not tried:
            raise CheckpointError(f"{self.folder} holds no checkpoint")
        steps = ", ".join(map(str, tried))
        raise CheckpointError(
            f"no checkpoint in {self.folder} can be read (damaged: {steps}): to train this run "
            f"from its beginning, remove {self.folder.parent} and type the same command again"
        )

    def _items(self, step: int, abstract: Any) -> Any:
        """A checkpoint's items as they are read; None where they cannot be."""
        there = self.folder / str(step)
        sealed = is_writer() and (there / SEAL).exists()
        if not broadcast([not (sealed and damage(there))])[0]:
            return None
        try:
            with quiet_reading():
                return self.manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore()
                    ),
                )
        except PermissionError:
            raise
        except Exception:  # a damaged file raises whatever its reader stumbles over
            difference = self._difference(step, abstract)
        if difference:
            raise CheckpointError(
                f"{self.folder / str(step)} is a checkpoint of another model: {difference}"
            )
        return None

    def _difference(self, step: int, abstract: Any) -> str:
        """The first array that is another one in a checkpoint; "" if none is, or nobody knows."""
        try:
            with quiet_reading():
                tree = self.manager.item_metadata(step)["state"].tree
        except Exception:
            return ""
        there, here = named_shapes(tree), named_shapes(abstract)
        # Parameters come first: what the optimizer keeps has their shapes.
        for name in sorted({*there, *here}, key=lambda name: (not name.startswith("params"), name)):
            if there.get(name) != here.get(name):
                was, wanted = (tree.get(name, "missing") for tree in (there, here))
                return f"{name} is {was} there and {wanted} here"
        return ""

    def set_aside(self, step: int) -> Path:
        """Move a damaged checkpoint out of the way of later ones; returns its new place."""
        aside = self.folder.parent / "damaged" / str(step)
        with self._turn:
            if is_writer():
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                (self.folder / str(step)).rename(aside)
            barrier(f"{aside}")
            self.manager.reload()
        return aside


def _step_of(path: Path) -> int | None:
    """The step of a checkpoint's folder, be it finished or not."""
    step = path.name.partition(".")[0]
    return int(step) if step.isdigit() else None


def saving() -> bool:
    """Whether a checkpoint is being written: one that is interrupted is lost."""
    last = Checkpoints._saving
    return last is not None and last.manager.is_saving_in_progress()


def newest(folder: Path) -> int | None:
    """Step of the newest checkpoint in a folder by the names in it: nothing is opened.

    Example:
      >>> newest(Path("nowhere")) is None
      True
    """
    if not folder.is_dir():
        return None
    return max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=None)
