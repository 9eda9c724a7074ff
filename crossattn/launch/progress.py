"""One progress bar for all runs of a suite."""

import threading
from collections.abc import Callable

from tqdm import tqdm


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
