"""Files that are whole or absent, and names as a line may show them."""

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


# The joiners of Persian, Hindi and emoji: no letters, but nothing a terminal acts upon.
JOINERS = "\u200c\u200d"


def printable(name: object) -> str:
    """A name from a file, a path or a command line as it may stand in a line on a terminal.

    Control characters, line ends, changes of direction and bytes that are no text are escaped, as
    Python writes them; letters of any script stay.

    Example:
      >>> print(printable("kernel\\x1b[31m\\n"), printable("\\u202egpj"), printable("größe"))
      kernel\\x1b[31m\\n \\u202egpj größe
    """
    shown = (one if one.isprintable() or one in JOINERS else _escaped(one) for one in str(name))
    return "".join(shown)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
