"""The suites: those that come with crossattn, those of the working directory, and any file.

In a checkout the former are `configs`; a wheel carries them as `crossattn_configs`, beside
`crossattn_experiments`, because the short names would clash with other people's. A suite of one's
own is a file with a `SUITE`: named by its path, or by its name where it lies in `configs/` of the
working directory or can be imported.
"""

import ast
import contextlib
import importlib
import importlib.util
import pkgutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.spelling import nearest
from crossattn.train.suite import Suite

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "crossattn_configs" if (ROOT / "crossattn_configs").is_dir() else "configs"
OWN = "configs"
# The name by which a file and its neighbours import one another while it is read.
NEIGHBOURS = "crossattn_suites_beside"


def _shipped() -> types.ModuleType:
    """The package of the suites that came with this package, whatever else has its name."""
    beside = ROOT / PACKAGE
    # The file of another package of this name is not run.
    spec = importlib.util.find_spec(PACKAGE)
    found = (spec and spec.submodule_search_locations) or ()
    if not beside.is_dir() or any(Path(place).resolve() == beside for place in found):
        return importlib.import_module(PACKAGE)
    package = types.ModuleType("crossattn_configs")
    package.__path__ = [str(beside)]
    return sys.modules.setdefault(package.__name__, package)


def shipped_names() -> list[str]:
    """The suites that came with this package."""
    return sorted(module.name for module in pkgutil.iter_modules(_shipped().__path__))


def _own() -> dict[str, Path]:
    """Files with a SUITE in `configs/` of the working directory; they are not run to find out."""
    folder = Path(OWN)
    with contextlib.suppress(OSError):
        if any(folder.resolve() == Path(place).resolve() for place in _shipped().__path__):
            return {}
        return {file.stem: file for file in sorted(folder.glob("[!_]*.py")) if _parsed(file)}
    return {}


def _parsed(file: Path) -> ast.Module | None:
    """A file's syntax where it makes a SUITE, or cannot be parsed and may mean to."""
    try:
        text = file.read_bytes()
    except (OSError, ValueError):
        return None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], []) if b"SUITE" in text else None
    bound = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    }
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return tree if "SUITE" in bound | imported else None


def suite_names() -> list[str]:
    """All suites that a name finds without importing anything."""
    return sorted({*shipped_names(), *_own()})


def titles() -> dict[str, str]:
    """What each suite is about: of the working directory's, the first line that they say."""
    found = {}
    own = _own()
    for name in sorted({*suite_names(), *own}):
        if name in own:
            tree = _parsed(own[name])
            said = (tree and ast.get_docstring(tree)) or "of your own"
            found[name] = f"{said.splitlines()[0]} ({own[name]})"
        else:
            found[name] = find(name).title
    return found


def find(name: str) -> Suite:
    """A suite by its name or its path.

    The working directory's comes before the one of the same name that crossattn has, and before
    what can be imported.

    Raises:
      ValueError: there is none, with the one that was probably meant; or its file makes none.
    """
    if name.endswith(".py") or "/" in name:
        return _from_file(Path(name))
    if own := _own().get(name):
        if name in shipped_names():
            print(f"{name} is {own} here, not crossattn's suite of that name", file=sys.stderr)
        return _from_file(own)
    if name in suite_names():
        return find_shipped(name)
    if _parsed(Path(f"{name}.py")):
        return _from_file(Path(f"{name}.py"))
    module = _importable(name)
    if module is None:
        meant = nearest(name, suite_names())
        raise ValueError(f"there is no suite {name!r}: {meant}, or give the path of a file")
    return _suite(module, name)


def find_shipped(name: str) -> Suite:
    """A suite that came with crossattn."""
    return _suite(importlib.import_module(f"{_shipped().__name__}.{name}"), name)


def _from_file(path: Path) -> Suite:
    try:
        if not path.is_file():
            what = "it is a folder" if path.is_dir() else "there is no such file"
            raise ValueError(f"no suite {path}: {what}")
    except OSError as error:
        said = str(path) if len(str(path)) < 100 else f"{str(path)[:97]}..."
        raise ValueError(f"no suite {said}: {error.strerror}") from None
    path = path.resolve()
    with _beside(path.parent), _plain(path):
        module_name = f"{NEIGHBOURS}.{path.stem.replace('.', '_')}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise ValueError("it is no Python file, whose name ends with .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return _suite(module, str(path))


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Within, what is imported may lie in a folder, as neighbour (`from .base import ...`) or not.

    The suites of crossattn are found as crossattn_configs, installed or not.
    """
    package = types.ModuleType(NEIGHBOURS)
    package.__path__ = [str(folder)]
    for name in [one for one in sys.modules if one.partition(".")[0] == NEIGHBOURS]:
        del sys.modules[name]
    sys.modules[NEIGHBOURS] = package
    sys.modules.setdefault("crossattn_configs", _shipped())
    sys.path.append(str(folder))
    compiled, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it is not our folder
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = compiled


def _importable(name: str) -> types.ModuleType | None:
    """The module of a dotted name, where there is one that makes a suite."""
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    with _plain(name):
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            return None
    # What is no file of a suite is not run: any word may be the name of some module.
    if spec is None or not spec.origin or not _parsed(Path(spec.origin)):
        return None
    with _plain(spec.origin):
        return importlib.import_module(name)


@contextlib.contextmanager
def _plain(what: object) -> Iterator[None]:
    """What goes wrong in somebody's file, as one line that names the place."""
    try:
        yield
    except SyntaxError as error:
        at = f", line {error.lineno}" if error.lineno else ""
        raise ValueError(f"{error.filename or what}{at}: {error.msg}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{what}{_line(error, what)}: {kind}{error}") from None


def _line(error: BaseException, what: object) -> str:
    """At which line of a file an error arose."""
    found, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(what):
            found = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _suite(module: types.ModuleType, what: str) -> Suite:
    with _plain(what):
        suite: Any = getattr(module, "SUITE", None)
    if suite is None:
        raise ValueError(f"{what} makes no SUITE: it needs SUITE = Suite(...)")
    if not isinstance(suite, Suite):
        raise ValueError(f"SUITE of {what} is no Suite but {type(suite).__name__}")
    return suite
