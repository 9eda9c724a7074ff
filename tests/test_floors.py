"""The house has floors: a room imports lower floors and its own room only."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Rooms on one floor do not know each other; configs and experiments are outside the package.
FLOORS = {
    "crossattn.shapes": 0,
    "crossattn.files": 0,
    "crossattn.processes": 0,
    "crossattn.spelling": 0,
    "crossattn.renamed": 0,
    "crossattn.fields": 1,
    "crossattn.viewer": 1,
    "crossattn.ops": 2,
    "crossattn.sharding": 3,
    "crossattn.nn": 4,
    "crossattn.align": 4,
    "crossattn.data": 4,
    "crossattn.models": 5,
    "crossattn.train": 6,
    "crossattn.report": 6,
    "crossattn.interop": 6,
    "crossattn.bench": 7,
    "crossattn.plan": 7,
    "crossattn.launch": 7,
    "crossattn.pretrained": 7,
    "configs": 7,
    "crossattn.lab": 8,
    "experiments": 9,
}
NO_FLAX = ("crossattn.shapes", "crossattn.ops", "crossattn.align", "crossattn.data")
# The front door shows the operation and nothing that needs Flax.
FRONT_DOOR = "crossattn"


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module):
    matches = [name for name in FLOORS if module == name or module.startswith(name + ".")]
    return max(matches, key=len) if matches else None


def imported(path):
    """(module, name) of every import, None for a name where a whole module is imported."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((stem, alias.name) for alias in node.names)


def imports(path):
    for stem, name in imported(path):
        yield from (stem, f"{stem}.{name}") if name else (stem,)


def sources():
    for top in ("crossattn", "configs", "experiments"):
        yield from sorted((ROOT / top).rglob("*.py"))


def violations(path):
    here = room(module_name(path))
    for target in imports(path):
        there = room(target)
        if module_name(path) == FRONT_DOOR:
            if there is not None and FLOORS[there] > FLOORS["crossattn.ops"]:
                yield f"{module_name(path)} imports {target}"
        elif there is not None and there != here and FLOORS[there] >= FLOORS[here]:
            yield f"{module_name(path)} (floor {FLOORS[here]}) imports {target}"


def test_every_module_has_a_floor():
    homeless = [module_name(p) for p in sources() if room(module_name(p)) is None]
    assert homeless == [FRONT_DOOR]


def test_imports_go_down():
    assert [v for path in sources() for v in violations(path)] == []


def test_no_import_cycle():
    """Neither between modules, imports within functions included, nor between rooms."""
    modules = {module_name(path): path for path in sources()}
    graph = {}
    for module, path in modules.items():
        # `from package import module` runs the package's door, but needs nothing of it.
        found = set()
        for stem, name in imported(path):
            found.add(f"{stem}.{name}" if f"{stem}.{name}" in modules else stem)
        graph[module] = found & set(modules) - {module}
    rooms = {name: set() for name in FLOORS}
    for module in set(graph) - {FRONT_DOOR}:
        rooms[room(module)] |= set(map(room, graph[module])) - {room(module), None}
    for one in (graph, rooms):
        TopologicalSorter(one).prepare()  # raises a CycleError that names the cycle
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"b"}}).prepare()


def test_operation_does_not_know_flax():
    flax = [
        (module_name(path), target)
        for path in sources()
        if room(module_name(path)) in NO_FLAX
        for target in imports(path)
        if target.split(".")[0] in ("flax", "optax", "orbax")
    ]
    assert flax == []


def test_no_heavy_frameworks():
    banned = {"tensorflow", "torch", "clu", "transformers"}
    assert [t for path in sources() for t in imports(path) if t.split(".")[0] in banned] == []
