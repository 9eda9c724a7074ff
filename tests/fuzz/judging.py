"""How cases of damaged data are read, judged and counted."""

import collections
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def late(*_):
    raise TimeoutError(f"longer than {PATIENCE_SECONDS} s")


def attempt(read: Callable[[Path], Any], path: Path) -> tuple[Any, str]:
    """What is read, or None and what came instead: what begins with FAILED is wrong."""
    signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE_SECONDS)
    try:
        return read(path), ""
    except ValueError as error:
        said = str(error)
        plain = said.isprintable() and said
        return None, type(error).__name__ if plain else f"FAILED: {error!r} is no plain line"
    except BaseException:
        return None, f"FAILED: {traceback.format_exc()}"
    finally:
        signal.alarm(0)


def counted(seed: int, verdicts: Iterator[tuple[str, str]]) -> bool:
    """Print the count of each (what was damaged, verdict); returns whether a case failed."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    failed = number = 0
    for number, (target, verdict) in enumerate(verdicts, 1):
        if verdict.startswith("FAILED"):
            failed += 1
            print(f"case {number - 1} of seed {seed}, {target}: {verdict}", flush=True)
        counts[target, verdict.splitlines()[0][:60]] += 1
    for (target, verdict), count in sorted(counts.items()):
        print(f"{count:5}  {target:12}  {verdict}")
    print(f"{number} cases, {failed} failed")
    return bool(failed)
