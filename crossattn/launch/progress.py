"""One bar for all runs of a suite: in a terminal, in a notebook's cell, in the lines of a log."""

import sys
import threading
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

# Columns of a bar in a notebook, whose width nobody knows.
CELL_COLUMNS = 100
# Seconds between two lines of a log.
LOG_INTERVAL = 30.0
# A line of a log is no picture.
LOG_FORMAT = "{desc}{n_fmt}/{total_fmt} steps in {elapsed}, {remaining} left, {rate_fmt}{postfix}"


class Bar:
    """Moves the bar by the steps of one lane's runs, those before a resume included."""

    turn = threading.Lock()  # the lanes share one bar

    def __init__(self, bar: tqdm, check: Callable[[], None]):
        self.bar, self.check, self.label = bar, check, ""
        self.steps: dict[str, int] = {}

    def __call__(self, label: str, step: int, metrics: dict[str, float]) -> None:
        """A run has finished so many steps."""
        self.check()
        with self.turn:
            self._move(label, step, metrics)

    def _move(self, label: str, step: int, metrics: dict[str, float]) -> None:
        if label != self.label:
            self.bar.set_description(label, refresh=False)
            self.label = label
        if metrics:
            shown = {"loss": f"{metrics['loss']:.3f}"}
            if "mfu" in metrics:
                shown["MFU"] = f"{metrics['mfu']:.1%}"
            elif "teraflops" in metrics:
                shown["TFLOP/s"] = f"{metrics['teraflops']:.3g}"
            self.bar.set_postfix(shown, refresh=False)
        run = label.removesuffix(", evaluating")
        self.bar.update(step - self.steps.get(run, 0))
        self.steps[run] = step


class ProgressBar(tqdm):
    """A bar of tqdm's that is drawn as the place takes it, and messages beside it."""

    def __init__(self, total: int, doing: str, *, hidden: bool = False):
        """Of so many steps; where it is hidden, nothing is drawn."""
        self.cell = None
        how: dict[str, Any] = {"mininterval": 0.2}
        if not hidden and in_notebook():
            self.cell = _Cell()
            how |= {"file": self.cell, "ncols": CELL_COLUMNS}
        elif not sys.stderr.isatty():
            how = {"mininterval": LOG_INTERVAL, "miniters": 1}
            how |= {"file": _Lines(), "bar_format": LOG_FORMAT}
        super().__init__(total=total, desc=f"{doing}: ", unit="step", disable=hidden, **how)

    def say(self, message: str) -> None:
        """What a user should know, in a line of its own."""
        if self.cell is not None:
            self.cell.say(message)
        else:
            tell_user(message)


def tell_user(message: str) -> None:
    """A line for the user: on stderr, which notebooks show as an error, so there on stdout."""
    tqdm.write(message, file=sys.stdout if in_notebook() else sys.stderr)


def in_notebook() -> bool:
    """Whether what is displayed appears in a cell: Jupyter, Colab, nbclient."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return getattr(get(), "kernel", None) is not None


class _Lines:
    """A file that takes what tqdm draws over itself as lines."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


class _Cell:
    """A file whose last line stands in one place of a notebook, messages below it."""

    encoding = "utf-8"

    def __init__(self) -> None:
        from IPython.display import display

        self.line, self.messages = "", list[str]()
        self.turn = threading.Lock()
        self.place: Any = display(self._shown(), raw=True, display_id=True)

    def write(self, text: str) -> None:
        if line := text.strip():
            with self.turn:
                self.line = line
                self.place.update(self._shown(), raw=True)

    def say(self, message: str) -> None:
        with self.turn:
            self.messages.append(message)
            self.place.update(self._shown(), raw=True)

    def flush(self) -> None:
        """Nothing waits."""

    def _shown(self) -> dict[str, str]:
        return {"text/plain": "\n".join([self.line, *self.messages])}
