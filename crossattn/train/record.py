"""run.json: what it takes to build a run's model and data again from its folder alone."""

import dataclasses
import json
import platform
import typing
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

import crossattn
from crossattn.fields import options_of
from crossattn.files import contents, write_atomically
from crossattn.train.former import LATE_FIELDS
from crossattn.train.run import Run

FILE = "run.json"
# To be raised where a field changes its meaning or its name. 2: optimizer, not optimiser.
FORMAT = 2
# A program makes one step of one seed: what runs of earlier versions did.
UNGROUPED = {"seeds": 1, "steps": 1}
CPUINFO = Path("/proc/cpuinfo")


class RecordError(ValueError):
    """run.json is missing, damaged, or of another version."""


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run of a suite.

    Attributes:
      suite: name of the suite.
      variant: of the suite; its changes are in `run` already.
      seed: of initialisation and data order.
      run: all settings.
      versions: of the libraries that began the run.
      grouping: seeds that its program trains together, and steps of a dispatch, as it began.
    """

    suite: str
    variant: str
    seed: int
    run: Run
    versions: dict[str, str]
    grouping: dict[str, int] = dataclasses.field(default_factory=lambda: dict(UNGROUPED))


def library_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "python": platform.python_version(),
        "crossattn": crossattn.__version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "numpy": np.__version__,
    }


def processor() -> str:
    """The processor's name and architecture: numbers repeat to the last digit on one kind only.

    Example:
      >>> platform.machine() in processor()
      True
    """
    machine = platform.machine() or "unknown architecture"
    name = _model_name() or platform.processor()
    return f"{name} ({machine})" if name and name != machine else machine


def _model_name() -> str:
    """What /proc/cpuinfo calls the processor; ARM processors have numbers there, and no name."""
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    known: dict[str, str] = {}
    for line in lines:
        name, _, value = (part.strip() for part in line.partition(":"))
        known.setdefault(name, value)
    if known.get("model name"):
        return known["model name"]
    parts = [f"{name} {known[name]}" for name in ("CPU implementer", "CPU part") if known.get(name)]
    return ", ".join(parts)


def write_record(folder: Path, record: RunRecord) -> None:
    """Write run.json, unless the folder has one: the versions are those that began the run.

    One that cannot be read is written anew.
    """
    path = folder / FILE
    try:
        read_record(folder)
    except RecordError:  # there is none, or none that says what the run is
        folder.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, **dataclasses.asdict(record)}
        write_atomically(path, json.dumps(content, indent=1) + "\n")


def read_record(folder: Path) -> RunRecord:
    """The run of a folder.

    Raises:
      RecordError: there is no run.json, or none that this version understands.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp())
      >>> write_record(folder, RunRecord("fusion", "blind", 3, Run(steps=7), library_versions()))
      >>> read_record(folder).run == Run(steps=7)
      True
    """
    path = folder / FILE
    try:
        content = json.loads(contents(path))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise RecordError(f"{path} is damaged: it is no JSON") from None
    if not isinstance(content, dict) or "format" not in content:
        raise RecordError(f"{path} is damaged: it describes no run")
    wrote = _writer(content)
    if content.pop("format") != FORMAT:
        raise RecordError(f"{path} has another format than this crossattn reads{wrote}")
    content.setdefault("grouping", dict(UNGROUPED))
    try:
        return _build(RunRecord, content, "")
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path} is damaged or of another version: {error}{wrote}") from None


def _writer(content: dict[str, Any]) -> str:
    """Which version wrote a record, where it says so and is not this one."""
    there = content.get("versions")
    wrote = there.get("crossattn") if isinstance(there, dict) else None
    here = crossattn.__version__
    return f" (written by crossattn {wrote}, this is {here})" if wrote and wrote != here else ""


def _build(hint: Any, value: Any, name: str) -> Any:
    """A value of an annotated type from what JSON made of it: tuples and dataclasses come back."""
    if dataclasses.is_dataclass(hint):
        return _build_dataclass(typing.cast(type, hint), value, name)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_build(arguments[0], item, name) for item in value)
    if origin is dict and isinstance(value, dict):
        return value
    if origin is typing.Literal and value in arguments:
        return value
    if len(several := options_of(hint)) > 1:
        return _build_one_of(several, value, name)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"{name} cannot be {value!r}")


def _build_one_of(hints: tuple[Any, ...], value: Any, name: str) -> Any:
    """A value as the first annotation that it fits; else what is wrong with it as the first."""
    wrong = []
    for hint in hints:
        try:
            return _build(hint, value, name)
        except (TypeError, ValueError) as error:
            wrong.append(error)
    raise wrong[0]


def _build_dataclass(hint: type, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{name or 'the run'} cannot be {value!r}")
    # The settings of data are those of their source.
    hint = hint.kind_of(value) if hasattr(hint, "kind_of") else hint
    hints = typing.get_type_hints(hint)
    dot = f"{name}." if name else ""
    late = LATE_FIELDS
    for part in name.split(".")[1:]:
        late = late.get(part) or {}
    value = {field: late[field] for field in hints if field in late} | value
    for field in dict.fromkeys((*hints, *value)):
        if field not in value:
            raise ValueError(f"{dot}{field} is missing")
        if field not in hints:
            raise ValueError(f"{dot}{field} is unknown")
    return hint(**{field: _build(hints[field], value[field], dot + field) for field in hints})
