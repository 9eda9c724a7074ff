"""Ctrl-C: the first ends when nothing can be lost and says what is safe, the second at once."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from crossattn.files import printable_lines
from crossattn.train.checkpoint import saving
from crossattn.train.folder import Folder, pending
from crossattn.train.suite import Suite

# Exit code of a process that Ctrl-C ended, as shells have it.
INTERRUPTED = 128 + signal.SIGINT
# Seconds in which the main thread handles a signal, unless it is in native code.
SIGNAL_TIMEOUT = 1.0
# Seconds after which an interruption that Python has dropped comes again.
REPEAT_AFTER = 0.05


@contextlib.contextmanager
def graceful_interrupt(command: str, safe: Callable[[], str]) -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt once; the next one ends the process.

    Python handles a signal between two of its own instructions only, and a compilation is one that
    takes a minute. So a thread listens as well: it answers at once, and where the main thread is
    in native code and no checkpoint is being written, it says what is `safe` and ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    listener = _Listener(command, safe, reading)
    thread = threading.Thread(target=listener.listen, name="listen", daemon=True)
    handler = signal.signal(signal.SIGINT, listener.handle)
    wakes = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before, sys.unraisablehook = sys.unraisablehook, listener.unraisable
    thread.start()
    try:
        yield
    finally:
        sys.unraisablehook = before
        if listener.again is not None:
            listener.again.cancel()
        signal.signal(signal.SIGINT, handler)
        signal.set_wakeup_fd(wakes)
        os.close(writing)
        thread.join()
        os.close(reading)


class _Listener:
    """What happens on Ctrl-C, in the main thread (`handle`) and in another (`listen`)."""

    def __init__(self, command: str, safe: Callable[[], str], reading: int):
        self.command, self.safe, self.reading = command, safe, reading
        self.first, self.handled = threading.Lock(), threading.Event()
        self.others, self.sent = sys.unraisablehook, 0
        self.again: threading.Timer | None = None

    def handle(self, *_: object) -> None:
        self.handled.set()
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        self._answer()
        raise KeyboardInterrupt

    def unraisable(self, found: "sys.UnraisableHookArgs") -> None:
        """Python drops what is raised in a destructor or while garbage is collected.

        A Ctrl-C that met one of them is sent once more, and is no second one.
        """
        if not issubclass(found.exc_type, KeyboardInterrupt):
            self.others(found)
            return
        self.sent += 1
        self.handled.clear()
        signal.signal(signal.SIGINT, self.handle)
        main = threading.main_thread().ident
        again = threading.Timer(REPEAT_AFTER, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()
        self.again = again

    def listen(self) -> None:
        """Until the other end of the pipe, into which Python writes each signal, is closed."""
        pressed = 0
        while True:
            waiting = pressed and not self.handled.is_set()
            ready, _, _ = select.select([self.reading], [], [], SIGNAL_TIMEOUT if waiting else None)
            if ready:
                number = os.read(self.reading, 1)
                if not number:
                    return
                if number[0] == signal.SIGINT and self.sent:
                    self.sent -= 1
                    continue
                pressed += number[0] == signal.SIGINT
                if pressed > 1:
                    os._exit(INTERRUPTED)
                if pressed:
                    self._answer()
            elif not self.handled.is_set() and not saving():
                try:
                    self._say(printable_lines(self.safe()))
                finally:
                    os._exit(INTERRUPTED)

    def _answer(self) -> None:
        if self.first.acquire(blocking=False):
            self._say("stopping; Ctrl-C again ends at once")

    def _say(self, words: str) -> None:
        # print could meet itself: a signal comes in the middle of anything.
        os.write(2, f"\n{self.command}: {words}\n".encode(errors="backslashreplace"))


def describe_progress(suite: Suite, folder: Folder, seeds: int, command: str) -> str:
    """What is safe in a folder after an interruption, and how to go on."""
    left = [(variant, seed) for variant, some in pending(suite, folder, seeds) for seed in some]
    every = [(variant, seed) for variant in suite.variants for seed in range(seeds)]
    done = [run for run in every if run not in left]
    lines = [f"interrupted; {len(done)} of {len(every)} runs are finished{_listed(done)}"]
    begun = {run: step for run in left if (step := folder.checkpoint(*run)) is not None}
    for (variant, seed), step in begun.items():
        lines.append(
            f"  {variant} seed {seed} goes on from step {step} of {suite.run(variant).steps}"
        )
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
