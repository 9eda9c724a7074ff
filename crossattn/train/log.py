"""Logs as JSON lines."""

import json
import time
from pathlib import Path
from typing import Any, TextIO

from crossattn.files import write_atomically
from crossattn.train.crew import writer


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a log; a last line that a kill cut short is dropped."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


class Log:
    """One JSON object a line; `step` counts finished steps.

    On resuming at a step, what was logged beyond it is removed: each step stands there once. Of
    several processes one writes.
    """

    def __init__(self, path: Path, *, resume_at: int = 0):
        self.file: TextIO | None = None
        if not writer():
            return
        kept = [line for line in read_lines(path) if line["step"] <= resume_at]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = path.open("a", buffering=1)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def write(self, step: int, **values: Any) -> None:
        """Append a line with the time of day in seconds."""
        if self.file is None:
            return
        record = {"step": step, **values, "time": round(time.time(), 3)}
        self.file.write(json.dumps(record) + "\n")
