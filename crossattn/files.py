"""Files that are whole or absent, and names as a line may show them."""

import contextlib
import errno
import hashlib
import os
import platform
from collections.abc import Iterable
from pathlib import Path

# Holds the checksums of the files beside and below it.
SEAL = "files.sha256"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that a kill or a power cut leaves either old or new, never half.

    What earlier processes were killed over is removed.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "note.txt"
      >>> write_atomically(path, "whole")
      >>> path.read_text()
      'whole'
    """
    if path.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, "it is a folder, and a file is to be written", str(path)
        )
    temporary = path.with_name(f"{_prefix(path)}{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _remove_left_over(path)
    _sync(path.parent)


def _prefix(path: Path) -> str:
    """How the names of temporary files of this machine begin."""
    return f".{path.name}.{platform.node()}."


def _remove_left_over(path: Path) -> None:
    """Remove the temporary files of processes of this machine that are no more."""
    for other in path.parent.iterdir():
        process = other.name.removeprefix(_prefix(path))
        if process != other.name and process.isdigit() and not _alive(int(process)):
            other.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def _sync(folder: Path) -> None:
    """Make a rename last; some file systems cannot, and need not, sync a folder."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(opened)
    finally:
        os.close(opened)


def seal(folder: Path, names: Iterable[str]) -> None:
    """Write down the checksums of files of a folder, as `sha256sum --check` reads them."""
    lines = (f"{_checksum(folder / name)}  {name}\n" for name in names)
    write_atomically(folder / SEAL, "".join(lines))


def damage(folder: Path, needed: Iterable[str] = ()) -> str:
    """What is wrong with the sealed files of a folder; "" where they are as they were written.

    Args:
      folder: with a seal.
      needed: names of files that must be among the sealed ones.

    Raises:
      PermissionError: a file cannot be read by this user, which says nothing about what is in it.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp())
      >>> write_atomically(folder / "a", "whole")
      >>> seal(folder, ["a"])
      >>> damage(folder, ["a"])
      ''
      >>> write_atomically(folder / "a", "whale")
      >>> damage(folder, ["a"])
      'a is not as it was written'
    """
    try:
        lines = contents(folder / SEAL).decode().splitlines()
    except FileNotFoundError:
        return f"{SEAL} is missing"
    except PermissionError:
        raise
    except (OSError, ValueError):
        return f"{SEAL} is damaged"
    sealed = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    for name in dict.fromkeys((*needed, *sealed)):
        if name not in sealed:
            return f"{SEAL} does not name {name}"
        try:
            same = _checksum(folder / name) == sealed[name]
        except PermissionError:
            raise
        except (OSError, ValueError):
            return f"{name} is missing or cannot be read"
        if not same:
            return f"{name} is not as it was written"
    return ""


def contents(path: Path) -> bytes:
    """What a plain file holds.

    Raises:
      OSError: it is missing, or a folder, or a pipe, which would be waited for.
    """
    _check_plain(path)
    return path.read_bytes()


def _check_plain(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no plain file", str(path))


def _checksum(path: Path) -> str:
    _check_plain(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def printable_lines(text: str) -> str:
    """A message of several lines, each as `printable` has it.

    Example:
      >>> print(printable_lines("interrupted\\n  blind\\x1b seed 0 goes on"))
      interrupted
        blind\\x1b seed 0 goes on
    """
    return "\n".join(map(printable, text.split("\n")))


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
