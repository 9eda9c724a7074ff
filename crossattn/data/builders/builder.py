"""One table of builders, and one contract: a set is whole, or it is not there.

A builder reads what a package holds and writes a folder that a source of data reads. To add one,
write the file and name it in `BUILDERS`.
"""

import dataclasses
import importlib
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossattn.data.errors import DataError, one_line
from crossattn.fields import positive
from crossattn.spelling import nearest

__all__ = ["BUILDERS", "BuildSettings", "Builder", "Package", "build_set", "find_builder"]

BUILDERS = {
    "spoken": "crossattn.data.builders.spoken:SPOKEN",
    "stamps": "crossattn.data.builders.stamps:STAMPS",
    "kanji": "crossattn.data.builders.kanji:KANJI",
}
# What a finished set was built with, and the licences of what it was built from.
MADE, LICENCES = "set.toml", "LICENCES.txt"
PART = ".part"


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """What decides a set, beside the package; a builder adds its own in a class that extends it.

    Raises:
        ValueError: names the setting that cannot be what it is.
    """

    images: int = 4_000
    """Number of training examples (pictures, or recordings)."""
    seed: int = 0
    """All that is drawn follows from it: the same seed, the same set."""

    def __post_init__(self):
        positive("", images=self.images)
        if self.seed < 0:
            raise ValueError(f"seed cannot be negative, got {self.seed}")


@dataclasses.dataclass(frozen=True)
class Package:
    """What a set is built from.

    Attributes:
        name: what it is called where it comes from.
        command: what a user types to install it.
        inside: where its files lie below the folder that it is unpacked in.
        holds: what lies there, as a pattern of paths.
        installed: gives the folder where its files are installed, or None.
    """

    name: str
    command: str
    inside: str
    holds: str
    installed: Callable[[], Path | None]

    def find(self, given: Path | None = None) -> Path:
        """The folder of its files: that which is installed, or that which was given.

        Raises:
            DataError: it is not there; says what to type.
        """
        folder = self.installed() if given is None else given.expanduser()
        if given is not None and folder is not None and (folder / self.inside).is_dir():
            folder = folder / self.inside
        if folder is not None and next(folder.glob(self.holds), None) is not None:
            return folder
        if given is None:
            raise DataError(
                f"this set is built from {self.name}, which is not installed: type {self.command}, "
                "or give the folder where it is unpacked with --from"
            )
        raise DataError(
            f"--from {given} has no {self.inside}/{self.holds}: expected the folder in which "
            f"{self.name} is unpacked"
        )


@dataclasses.dataclass(frozen=True)
class Builder:
    """How a set is built.

    Attributes:
        name: as the command has it.
        about: what the set is, in a line.
        package: what it is built from.
        write: writes the files of the set into an empty folder, from the folder of the package;
            gives a sentence on what was written.
        licences: the text of the licences of the package's files, from its folder.
        settings: the class of its settings.
        edition: one more whenever the same settings give another set than before.
    """

    name: str
    about: str
    package: Package
    write: Callable[[Path, Path, Any], str]
    licences: Callable[[Path], str]
    settings: type[BuildSettings] = BuildSettings
    edition: int = 1


def find_builder(name: str) -> Builder:
    """A builder by its name.

    Raises:
        DataError: there is none.

    Example:
        >>> find_builder("stmps")
        Traceback (most recent call last):
        crossattn.data.errors.DataError: there is no set 'stmps' to build: ...
    """
    if name not in BUILDERS:
        raise DataError(f"there is no set {name!r} to build: {nearest(name, list(BUILDERS))}")
    module, _, attribute = BUILDERS[name].partition(":")
    found: Builder = getattr(importlib.import_module(module), attribute)
    return found


def build_set(
    builder: Builder, directory: Path, settings: BuildSettings, package: Path | None = None
) -> str:
    """Build a set in a folder that is not there yet, or is empty; whole, or not at all.

    The files are written beside it and get their place at the end. A set that is there already, of
    the same settings, is left as it is.

    Args:
        builder: one of `BUILDERS`.
        directory: where the set will lie.
        settings: of the builder's class.
        package: the unpacked package; where it is installed when not given.

    Returns:
        A sentence on what was done.

    Raises:
        DataError: the folder holds something else, or the package is missing or not what it was.
    """
    directory = directory.expanduser()
    said = {"set": builder.name, "edition": builder.edition, **dataclasses.asdict(settings)}
    if _is_there(directory, said):
        return f"{directory} holds this set already"
    found = builder.package.find(package)
    whole = directory.resolve()
    part = whole.with_name(whole.name + PART)
    if part.exists():
        # What an earlier process was killed over, if it is ours.
        if not (part / LICENCES).is_file():
            raise DataError(f"{part} is in the way: move it elsewhere")
        shutil.rmtree(part)
    part.mkdir(parents=True)
    try:
        (part / LICENCES).write_text(builder.licences(found), encoding="utf-8")
        about = builder.write(found, part, settings)
        made = "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())
        (part / MADE).write_text(made, encoding="utf-8")
        if directory.exists():
            directory.rmdir()
        part.rename(whole)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return f"{directory}: {about}"


def _is_there(directory: Path, said: dict[str, Any]) -> bool:
    """Whether the folder holds the set; anything else that it holds is refused."""
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise DataError(f"{directory} is a file: give another folder")
    if not any(directory.iterdir()):
        return False
    try:
        made = tomllib.loads((directory / MADE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{directory} is not empty and holds no set: give another folder") from None
    except ValueError as error:
        raise DataError(f"{directory / MADE} is damaged: {one_line(error)}") from None
    made.setdefault("edition", 1)
    wanted = json.loads(json.dumps(said))  # lists for tuples
    for name in (*wanted, *made):
        if made.get(name) != wanted.get(name):
            differ = f"{name} is {made.get(name)} there and {wanted.get(name)} here"
            raise DataError(f"{directory} holds another set, {differ}: give another folder")
    return True
