"""How a command begins and ends where it is a process of its own."""

import contextlib
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Callable

import jax

from crossattn import __version__

from .command_line import BAD_INPUT, INTERRUPTED

# Exit code of a process that the system ends because its output is not read.
UNREAD = 141


def start(main: Callable[[list[str]], None]) -> None:
    """Run a command with the arguments of this process, and end the process if it fails.

    Where it fails or is interrupted, the process ends at once: threads of libraries may be in
    native code, for whose end Python would wait, or never end, as Orbax's after some errors of the
    disk. Nothing is lost: what a command says to be finished is on the disk, locks are let go of on
    the way here, and what is still being saved has no name yet.
    """
    prepare_streams()
    _without_echoes()
    code = ended(main, sys.argv[1:])
    if code:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def prepare_streams() -> None:
    """Let everything be printed: what an encoding does not have as an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the whole process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def ended(main: Callable[[list[str]], None], arguments: list[str]) -> int:
    """The exit code of a command; what it printed is written."""
    code: object = 0
    try:
        try:
            if arguments[-1:] == ["--version"]:
                print(version())
            else:
                main(arguments)
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = UNREAD
    except OSError as error:
        print(f"cannot print: {error.strerror}", file=sys.stderr)
        code = BAD_INPUT
    except Exception:
        traceback.print_exc()
        code = 1
    return code if isinstance(code, int) else int(code is not None)


def version() -> str:
    """What `--version` prints, of every command."""
    return f"crossattn {__version__} (jax {jax.__version__}, Python {platform.python_version()})"


def _without_echoes() -> None:
    """Print nothing of what a failed save leaves behind: its error says it already.

    Each of its futures finds the event loop closed, or half made, and says so in a traceback.
    """
    before = sys.unraisablehook

    def hook(found: "sys.UnraisableHookArgs") -> None:
        if not any(echo in str(found.exc_value) for echo in ("Event loop is closed", "'_ssock'")):
            before(found)

    sys.unraisablehook = hook
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
