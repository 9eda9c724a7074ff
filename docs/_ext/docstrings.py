"""The house's docstrings as reStructuredText: summaries, links, tables, signatures."""

import importlib
import re
import reprlib
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

ROOM = re.compile(r"^\.\. automodule:: (\S+)$", re.MULTILINE)
# What Linen adds to every module's arguments: nobody gives it.
LINEN = re.compile(r",? (parent|name): [^,()]*(\([^()]*\))?[^,()]* = (<[^<>]*>|None)")
FIELDS = re.compile(r"(?<=[=(, ])([A-Z]\w+)\([^()]*\)")
ARRAY = re.compile(r"jax(lib\._jax|\.jaxlib\._jax)\.Array")
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxother = 1, 60
# Words of these names mean arguments more often than the functions.
WORDS = (
    *("config", "get", "names", "build", "preset", "create", "partition", "generate", "write"),
    *("ablate", "train", "evaluate", "compare"),
)


def public_names(module: ModuleType) -> list[str]:
    """What autodoc shows of a module."""
    if (named := getattr(module, "__all__", None)) is not None:
        return list(named)
    own = lambda value: getattr(value, "__module__", None) == module.__name__
    return [name for name, value in vars(module).items() if name[0] != "_" and own(value)]


def rooms(folder: Path) -> dict[str, str]:
    """Public names of all pages of the API, with where each is described."""
    found: dict[str, str] = {}
    for page in sorted(folder.glob("*.rst")):
        for name in ROOM.findall(page.read_text()):
            for public in public_names(importlib.import_module(name)):
                found.setdefault(public, f"{name}.{public}")
    return found


def public_role(name: str, rawtext: str, text: str, *_: Any) -> tuple[list[nodes.Node], list[Any]]:
    """`Mask` is a link to what it names, `words` and `q k + bias` are code."""
    first, dot, rest = text.partition(".")
    literal = nodes.literal(rawtext, text, classes=["py", "docutils"])
    if first not in NAMES or first in WORDS:
        return [literal], []
    target = f"{NAMES[first]}{dot}{rest}"
    link = addnodes.pending_xref("", literal, refdomain="py", reftype="name", reftarget=target)
    return [link], []


NAMES: dict[str, str] = {}
SENTENCES: dict[str, list[str]] = {}


def resolve(app: Sphinx, env: Any, node: addnodes.pending_xref, content: nodes.Node) -> Any:
    """A name of `public_role` that has no description stays code, without a warning."""
    return content if node.get("reftype") == "name" else None


def docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Tables of Markdown become those of reStructuredText; a module begins with its summary."""
    if what == "attribute":
        SENTENCES[name] = list(lines)
    lines[:] = tables(code(bars(lines)))
    if what == "module":
        lines += summary(obj)


def sentence(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """What is said of an attribute, in which Google's style would take a colon for a type."""
    lines[:] = SENTENCES.get(name, lines)


def summary(module: ModuleType) -> list[str]:
    """A table of what a module has, and its constants, which have no docstrings, with values."""
    values = {name: getattr(module, name) for name in public_names(module)}
    ours = lambda value: str(getattr(value, "__module__", "")).startswith("crossattn")
    described = [f"   {name}" for name, value in values.items() if callable(value) and ours(value)]
    lines = ["", ".. autosummary::", "   :nosignatures:", "", *described] if described else []
    for name, value in values.items():
        if get_origin(value) or not (callable(value) or isinstance(value, ModuleType)):
            lines += ["", f".. py:data:: {name}", f"   :value: {SHORT.repr(value)}"]
    return [*lines, ""]


def bars(lines: list[str]) -> list[str]:
    """Lines whose |S| in a sentence is no substitution."""
    found: list[str] = []
    doctest = False
    for line in lines:
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        parts = line.split("`")
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        found.append(line if doctest or line.lstrip().startswith("|") else "`".join(parts))
    return found


def code(lines: list[str]) -> list[str]:
    """Lines with what is indented after a paragraph as a literal block."""
    found: list[str] = []
    for i, line in enumerate(lines):
        begins = i > 1 and line.startswith("    ") and not lines[i - 1] and lines[i - 2]
        if begins and lines[i - 2][0] not in " *|":
            found += ["::", ""]
        found.append(line)
    return found


def tables(lines: list[str]) -> list[str]:
    """Lines with `| a | b |` as a list-table."""
    found: list[str] = []
    for i, line in enumerate(lines):
        if not line.startswith("|"):
            found.append(line)
            continue
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if set(line) <= set("|-: "):
            continue
        if i == 0 or not lines[i - 1].startswith("|"):
            found += [".. list-table::", "   :header-rows: 1", ""]
        found += [f"   {'* -' if n == 0 else '  -'} {cell}" for n, cell in enumerate(cells)]
        if i + 1 == len(lines) or not lines[i + 1].startswith("|"):
            found.append("")
    return found


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, returns: Any
) -> tuple[str | None, Any] | None:
    """Without what Linen adds, with short names of arrays, and defaults without their fields."""
    if arguments is None:
        return None
    arguments = LINEN.sub("", arguments)
    while (shorter := FIELDS.sub(r"\1", arguments)) != arguments:
        arguments = shorter
    return ARRAY.sub("Array", arguments), ARRAY.sub("Array", returns or "") or None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", lambda app: NAMES.update(rooms(Path(app.srcdir) / "api")))
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("autodoc-process-docstring", sentence, priority=600)
    app.connect("autodoc-process-signature", signature)
    app.connect("missing-reference", resolve)
    app.add_role("public", public_role)
    return {"parallel_read_safe": True}
