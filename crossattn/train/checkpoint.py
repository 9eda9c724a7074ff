"""Checkpoints: asynchronous, atomic, with the position in the data (Orbax)."""

import threading
from pathlib import Path
from typing import Any, ClassVar

import jax
import orbax.checkpoint as ocp

from crossattn.train.step import State


class Checkpoints:
    """The two newest checkpoints of one run, in a folder of its own.

    A save returns as soon as the arrays are copied and is finished in the background; what a kill
    interrupts stays a temporary folder that no restore looks at. Orbax cannot finish two saves of
    one process at the same time: with several runs side by side a save waits for the one before.
    """

    _turn: ClassVar[threading.RLock] = threading.RLock()
    _saving: ClassVar["Checkpoints | None"] = None

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        self.error: Exception | None = None
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=True)
        self.manager = ocp.CheckpointManager(
            self.folder, options=options, item_names=("state", "position")
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._finish()
            self.manager.close()

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self.manager.latest_step()

    def save(self, step: int, state: State, position: dict[str, int]) -> None:
        """Begin to save the state after `step` steps and where the data stands."""
        with self._turn:
            self._finish()
            Checkpoints._saving = self
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position)
                ),
            )

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

    def restore(self, like: Any) -> tuple[State, dict[str, int]]:
        """The newest checkpoint, with the shapes, dtypes and placement of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with self._turn:
            self._finish()
            restored = self.manager.restore(
                self.latest(),
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore()
                ),
            )
        return restored["state"], restored["position"]
