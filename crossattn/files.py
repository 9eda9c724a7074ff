"""Files that are whole or absent."""

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that a kill leaves either old or new, never half.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "note.txt"
      >>> write_atomically(path, "whole")
      >>> path.read_text()
      'whole'
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
