"""A trace of some training steps by JAX's profiler: what ran when, on the host and on devices."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax

from crossattn.files import printable

Result = TypeVar("Result")
FOLDER = "profile"


class ProfileError(ValueError):
    """What is to be traced are no steps of a run."""


class ProfiledSteps(NamedTuple):
    """Steps that are traced, counted from 1, the last one included."""

    first: int
    last: int


def window_of(text: str | None, steps: int) -> ProfiledSteps | None:
    """What `--profile` says of a run of so many steps; None for None.

    Raises:
      ProfileError: these are no steps of the run.

    Example:
      >>> window_of("10:13", steps=100)
      ProfiledSteps(first=10, last=13)
      >>> window_of(None, steps=100) is None
      True
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII)
    first, last = (int(n) for n in match.groups()) if match else (0, 0)
    if not 1 <= first <= last <= steps:
        raise ProfileError(
            f"--profile takes FIRST:LAST of the steps 1 to {steps}, as in 10:13, got {text}"
        )
    return ProfiledSteps(first, last)


class Tracer:
    """Traces the steps of a window of one run of a process, the first that comes to them.

    JAX traces all that a process does: other runs that it trains at the same time are seen, too.
    """

    def __init__(self, window: ProfiledSteps | None, notify: Callable[[str], None]):
        """Nothing is traced where the window is None; `notify` is told where the trace lies."""
        self.window, self.notify = window, notify
        self.turn = threading.Lock()
        self.folder: Path | None = None
        self.over = window is None

    def __enter__(self) -> "Tracer":
        return self

    def __exit__(self, *error: Any) -> None:
        """End a trace whose run did not come to its last step; say if there was none."""
        if self.over:
            return
        if self.folder is not None:
            self._stop("fewer steps than that")
        elif not any(error):
            self.notify("--profile: no run made these steps now, nothing was traced")

    def run(self, folder: Path, steps: tuple[int, int], call: Callable[[], Result]) -> Result:
        """`call()`, which makes the steps from one to another of the run in a folder."""
        if self.over or not self._takes(folder, *steps):
            return call()
        assert self.window is not None
        with jax.profiler.StepTraceAnnotation("train", step_num=steps[1]):
            result = call()
        if steps[1] >= self.window.last:
            jax.block_until_ready(result)
            self._stop(f"steps {self.window.first} to {self.window.last}")
        return result

    def _takes(self, folder: Path, first: int, last: int) -> bool:
        """Whether these steps are traced; begins with the first that are."""
        assert self.window is not None
        with self.turn:
            here = first <= self.window.last and last >= self.window.first
            if self.folder is None and here and not self.over:
                self.folder = folder
                jax.profiler.start_trace(folder / FOLDER, create_perfetto_trace=True)
            return self.folder == folder

    def _stop(self, what: str) -> None:
        assert self.folder is not None
        jax.profiler.stop_trace()
        self.over = True
        where = printable(self.folder / FOLDER)
        self.notify(
            f"--profile: {what}: {where}; open it with `pip install xprof` and `xprof --logdir "
            f"{where}`, or perfetto_trace.json.gz in it at https://ui.perfetto.dev"
        )


NOT_TRACED = Tracer(None, lambda message: None)
