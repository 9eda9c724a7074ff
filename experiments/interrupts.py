"""Ctrl-C: the first ends cleanly and says what is safe, the second at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from crossattn.train.folder import Folder, pending
from crossattn.train.suite import Suite

from .command_line import INTERRUPTED


@contextlib.contextmanager
def gently(command: str) -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt once; the next one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def first(*_: object) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        # print could meet itself: a signal comes in the middle of anything.
        os.write(2, f"\n{command}: stopping; Ctrl-C again ends at once\n".encode())
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def standing(suite: Suite, folder: Folder, seeds: int, command: str) -> str:
    """What is safe in a folder after an interruption, and how to go on."""
    left = [(variant, seed) for variant, some in pending(suite, folder, seeds) for seed in some]
    every = [(variant, seed) for variant in suite.variants for seed in range(seeds)]
    done = [run for run in every if run not in left]
    lines = [f"interrupted; {len(done)} of {len(every)} runs are finished{_listed(done)}"]
    begun = {run: step for run in left if (step := folder.checkpoint(*run)) is not None}
    for (variant, seed), step in begun.items():
        lines.append(f"  {variant} seed {seed} goes on from step {step} of {suite.base.steps}")
    if fresh := [run for run in left if run not in begun]:
        lines.append(f"  no checkpoint yet{_listed(fresh)}")
    return "\n".join([*lines, f"to go on: {command}"])


def _listed(runs: list[tuple[str, int]]) -> str:
    """Runs by variant, as in ": blind 0 1 2, mean-pool 0"."""
    by_variant: dict[str, list[str]] = {}
    for variant, seed in runs:
        by_variant.setdefault(variant, []).append(str(seed))
    said = ", ".join(f"{variant} seed {' '.join(seeds)}" for variant, seeds in by_variant.items())
    return f": {said}" if said else ""
