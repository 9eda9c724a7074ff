"""Which of their tensors, or of our parameters, fits which entry of a layout."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from crossattn.interop.table import (
    NUMBER,
    Entry,
    Fit,
    Layout,
    Line,
    Place,
    Problem,
    SelectionError,
    Shape,
    parsed,
    size_of,
)

__all__ = ["exported", "imported", "pattern"]

Variable = tuple[str, str]
LAYER = ("", "i")
# Layers that read a context, which may be every second one.
SPARSE = "c"
ORDER = ("unknown", "missing", "misshaped", "dtype", "config", "")


def imported(
    layout: Layout,
    shapes: Mapping[str, Shape],
    *,
    prefix: str = "",
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = (),
    like: Mapping[str, Shape] | None = None,
) -> Fit:
    """How tensors of these shapes fit a layout; arguments as in `huggingface.load`."""
    entries = _under(prefix, layout)
    numbered = NUMBER.search(prefix) is not None
    numbers = _numbers(entries, shapes, layers, numbered=numbered)
    every = [place for entry in entries for place in _places(entry, numbers)]
    tied = {prefix + one: prefix + other for one, other in layout.tied.items()}
    every = _stored(every, tied, shapes)
    wanted = [p for p in every if not parts or _within(p.entry.ours, parts)]
    there = [p for p in wanted if p.name in shapes]
    sizes = _votes([(p.entry.shape.split(), shapes[p.name]) for p in there])
    lines = [] if like is None else _against(like, wanted, numbers, sizes)
    absent = _no_layers(wanted, shapes)
    lines += [Line("missing", f"{start}.*", needed="a layer at least") for start in absent]
    for place in wanted:
        if place.name.startswith(tuple(f"{start}." for start in absent)):
            continue
        found, letters = shapes.get(place.name), place.entry.shape.split()
        lines.append(_judged(place.name, found, letters, sizes))
    known = {place.name for place in every} | set(tied)
    claimed, ignored = _claimed(layout, prefix, numbers, shapes)
    lines += [Line("unknown", name, _shown(shapes[name])) for name in claimed if name not in known]
    lines.sort(key=lambda line: ORDER.index(line.problem))
    same = {one: other for one, other in tied.items() if {one, other} <= shapes.keys()}
    return Fit(tuple(wanted), tuple(lines), sizes, {} if parts else same, ignored)


def _no_layers(places: Sequence[Place], shapes: Mapping[str, Shape]) -> list[str]:
    """How names begin of layers behind a first one, where there is none, but other tensors are."""
    behind: dict[str, bool] = {}
    for place in places:
        match = NUMBER.search(place.entry.theirs)
        if match and match[1]:
            start = f"{place.entry.theirs[: match.start()]}{_first(_variable(match[0]))}"
            behind[start] = behind.get(start, False) or place.name in shapes
    some = any(place.name in shapes for place in places)
    return [start for start, there in behind.items() if some and not there]


def _stored(
    places: Sequence[Place], tied: Mapping[str, str], shapes: Mapping[str, Shape]
) -> list[Place]:
    """Under the names that there are: of tensors that are tied the file may have the other one."""
    other = {name: one for one, name in tied.items() if one in shapes and name not in shapes}
    return [dataclasses.replace(place, name=other.get(place.name, place.name)) for place in places]


def exported(
    layout: Layout,
    shapes: Mapping[str, Shape],
    *,
    prefix: str = "",
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = (),
) -> Fit:
    """How parameters of these shapes, by path, fit a layout; their layers get these numbers."""
    entries = _under(prefix, layout)
    entries = [e for e in entries if not parts or _within(e.ours, parts)]
    entries = _unrolled(entries, shapes)
    paths = [(path, entry) for entry in entries for path in (*entry.ours, *entry.zeros)]
    bare = {path: shapes[path][e.stacked :] for path, e in paths if path in shapes}
    sizes = _votes([(e.target, bare[path]) for path, e in paths if path in bare])
    lines: list[Line] = []
    depth: dict[Variable, int] = {}
    for path, entry in paths:
        line = _judged(path, bare.get(path), entry.target, sizes)
        if path in bare and entry.stacked:
            many = depth.setdefault(_variable(entry.theirs), shapes[path][0])
            if many != shapes[path][0]:
                line = Line("misshaped", path, _shown(shapes[path]), f"{many} layers")
        lines.append(line)
    known = {path for path, _ in paths}
    lines += [Line("unknown", path, _shown(shapes[path])) for path in shapes if path not in known]
    lines.sort(key=lambda line: ORDER.index(line.problem))
    numbers = {v: [_first(v) + k for k in range(size)] for v, size in depth.items()}
    if layers is not None and LAYER in numbers:
        numbers[LAYER] = list(layers)
    places = tuple(place for entry in entries for place in _places(entry, numbers))
    return Fit(places, tuple(lines), sizes)


def _votes(found: Iterable[tuple[Sequence[str], Shape]]) -> dict[str, int]:
    """The size that most tensors agree on, for each letter: one bad tensor blames no other."""
    votes: dict[str, collections.Counter] = {}
    for letters, shape in found:
        if len(letters) == len(shape):
            for (factor, letter), size in zip(map(parsed, letters), shape, strict=True):
                if letter and size % factor == 0:
                    votes.setdefault(letter, collections.Counter())[size // factor] += 1
    return {letter: count.most_common(1)[0][0] for letter, count in votes.items()}


def _judged(
    name: str, found: Shape | None, letters: Sequence[str], sizes: Mapping[str, int]
) -> Line:
    fits = found is not None and _fits(letters, found, sizes)
    problem: Problem = "" if fits else "missing" if found is None else "misshaped"
    return Line(problem, name, _shown(found), _needed(letters, sizes))


def _fits(letters: Sequence[str], shape: Shape, sizes: Mapping[str, int]) -> bool:
    return len(letters) == len(shape) and all(
        size == size_of(token, sizes) for token, size in zip(letters, shape, strict=True)
    )


def _against(
    like: Mapping[str, Shape],
    wanted: Sequence[Place],
    numbers: Mapping[Variable, Sequence[int]],
    sizes: dict[str, int],
) -> list[Line]:
    """Let our own shapes decide the letters; returns what only one side has."""
    paths = {path: p.entry for p in wanted for path in (*p.entry.ours, *p.entry.zeros)}
    lines = [Line("missing", path, needed=_shown(like[path])) for path in like if path not in paths]
    for path, entry in paths.items():
        if path not in like:
            lines.append(Line("unknown", entry.theirs, needed=f"there is no {path} in like"))
    both = {path: entry for path, entry in paths.items() if path in like}
    sizes |= _votes((e.target, like[path][e.stacked :]) for path, e in both.items())
    for path, entry in both.items():
        layers = len(numbers[_variable(entry.theirs)]) if entry.stacked else 0
        if entry.stacked and like[path][0] != layers:
            lines.append(Line("misshaped", path, f"{layers} layers", _shown(like[path])))
    return lines


def _needed(letters: Sequence[str], sizes: Mapping[str, int]) -> str:
    named = "(" + ", ".join(letters) + ")"
    known = [size for token in letters if (size := size_of(token, sizes)) is not None]
    if len(known) < len(letters) or not any(parsed(token)[1] for token in letters):
        return named
    return f"{named} = {_shown(tuple(known))}"


def _shown(shape: Shape | None) -> str:
    return "-" if shape is None else "(" + ", ".join(map(str, shape)) + ")"


def _within(paths: Sequence[str], parts: Sequence[str]) -> bool:
    return any(f"{path}/".startswith(f"{part}/") for path in paths for part in parts)


def _variable(name: str) -> Variable:
    before, after = NUMBER.findall(name)[0]
    return before, after


def _first(variable: Variable) -> int:
    return int(variable[0] or 0)


def pattern(name: str, numbers: Mapping[Variable, Sequence[int]]) -> str:
    """A regular expression of what a name with {i} stands for; any number without `numbers`."""
    pieces, end = [], 0
    for match in NUMBER.finditer(name):
        before, after = match.groups(default="")
        known = numbers.get((before, after))
        pieces += [re.escape(name[end : match.start()]), _either(known)]
        end = match.end()
    return "".join([*pieces, re.escape(name[end:])])


def _under(prefix: str, layout: Layout) -> list[Entry]:
    entries = [dataclasses.replace(e, theirs=prefix + e.theirs) for e in layout.entries]
    if any(len(NUMBER.findall(entry.theirs)) > 1 for entry in entries):
        raise SelectionError(
            f"prefix {prefix!r} numbers layers, but this layout has its own: leave it out"
        )
    return entries


def _either(numbers: Sequence[int] | None) -> str:
    return r"(\d+)" if numbers is None else "(" + "|".join(map(str, numbers)) + ")"


def _claimed(
    layout: Layout,
    prefix: str,
    numbers: Mapping[Variable, Sequence[int]],
    names: Iterable[str],
) -> tuple[list[str], tuple[str, ...]]:
    """Names that the layout ought to know, and those that its class ignores."""
    start = pattern(prefix, numbers)
    own = re.compile(start + f"({'|'.join(map(re.escape, layout.scopes))})")
    buffers = [re.compile(start + buffer + r"\Z") for buffer in layout.buffers]
    ours = [name for name in names if own.match(name)]
    ignored = tuple(name for name in ours if any(b.match(name) for b in buffers))
    return [name for name in ours if name not in set(ignored)], ignored


def _numbers(
    entries: Sequence[Entry],
    names: Iterable[str],
    layers: Sequence[int] | None,
    *,
    numbered: bool,
) -> dict[Variable, list[int]]:
    """The numbers of layers: those that are asked for, or those that have the first tensor.

    Where the prefix is not `numbered` none is left out: a gap is a layer that is missing.
    """
    found: dict[Variable, list[int]] = {}
    for entry in entries:
        if NUMBER.search(entry.theirs) and _variable(entry.theirs) not in found:
            variable = _variable(entry.theirs)
            found[variable] = _there(entry.theirs, names)
            if not numbered and variable[1] != SPARSE:
                found[variable] = _with_first_gap(found[variable], _first(variable))
    if layers is not None and LAYER in found:
        found[LAYER] = list(layers)
    return found


def _with_first_gap(numbers: list[int], first: int) -> list[int]:
    """Not every number of a gap: a file may speak of a layer 10^12.

    >>> _with_first_gap([0, 1, 4, 9], 0)
    [0, 1, 2, 4, 9]
    """
    gap = next((first + k for k, n in enumerate(numbers) if n != first + k), None)
    return numbers if gap is None else sorted([*numbers, gap])


def _there(name: str, names: Iterable[str]) -> list[int]:
    """The numbers for which there is such a name; the first possible one where there is none."""
    first, numbered = _first(_variable(name)), re.compile(pattern(name, {}) + r"\Z")
    there = sorted(int(m[1]) for m in map(numbered.match, names) if m)
    return [n for n in there if n >= first] or [first]


def _unrolled(entries: Sequence[Entry], paths: Iterable[str]) -> list[Entry]:
    """Entries whose paths have a number, for each number that there is."""
    numbers: dict[Variable, list[int]] = {}
    for entry in entries:
        if NUMBER.search(entry.ours[0]):
            numbers.setdefault(_variable(entry.ours[0]), _there(entry.ours[0], paths))
    return [
        one
        for entry in entries
        for one in (
            [place.entry for place in _places(entry, numbers)]
            if NUMBER.search(entry.ours[0])
            else [entry]
        )
    ]


def _places(entry: Entry, numbers: Mapping[Variable, Sequence[int]]) -> list[Place]:
    if not NUMBER.search(entry.theirs):
        return [Place(entry.theirs, entry, 0)]
    which = list(enumerate(numbers[_variable(entry.theirs)]))
    if entry.stacked:
        return [Place(NUMBER.sub(str(n), entry.theirs), entry, k) for k, n in which]
    filled = lambda n, paths: tuple(NUMBER.sub(str(n), path) for path in paths)
    for_one = lambda n: dataclasses.replace(
        entry,
        theirs=NUMBER.sub(str(n), entry.theirs),
        ours=filled(n, entry.ours),
        zeros=filled(n, entry.zeros),
    )
    return [Place(one.theirs, one, 0) for one in (for_one(n) for _, n in which)]
