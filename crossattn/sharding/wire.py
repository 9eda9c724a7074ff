"""What a compiled program sends between devices, read from its text.

`jax.jit(f).lower(...).compile(compiler_options=COUNTABLE).as_text()` holds every collective with
its shapes and its groups of devices. Bytes are those that one device puts on the wire where each
piece goes to its receiver once: (n-1)/n of the whole for a gather, a scatter of sums, or an
exchange of parts, twice that for a sum that all get. For a TPU program,

    %all_gather.3 = bf16[1,256,16,128]{3,1,2,0} all-gather(%copy), replica_groups={{0,1,2,3}}, ...

moves 3/4 of the 1 MiB that each of 4 devices has in the end.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import numpy as np

__all__ = ["COUNTABLE", "Collective", "collectives", "wire_bytes"]

# Options for TPU programs: fused with computation, collectives would hide in several operations.
# As words, which every compiler reads as the type that it has for the option: to some it is a bool,
# to others (libtpu 0.0.23, of jax 0.7.2) one of several names, and these refuse Python's False.
COUNTABLE = {
    "xla_tpu_enable_async_collective_fusion": "false",
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather": "false",
    "xla_tpu_enable_async_collective_fusion_multiple_steps": "false",
}

KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "reduce-scatter",
)
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_WHILE = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}")
_TURNED = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"
_IOTA = re.compile(rf"replica_groups=\[([\d,]+)\]<={_TURNED}")
_MESH = re.compile(
    rf"replica_groups=@?mesh\[([^\]]*)\](?:, device_ids=\({_TURNED}\))?[^{{]*\{{([^}}]*)\}}"
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
      kind: one of `KINDS`.
      bytes: of the whole of its group: what is gathered, summed, exchanged or sent.
      groups: the devices that take part together, by number; of a permute, pairs (from, to).
      times: how often it runs, by the trips of the loops around it; a loop whose trips the text
        does not say counts once.
    """

    kind: str
    bytes: int
    groups: tuple[tuple[int, ...], ...]
    times: int = 1

    @property
    def wire(self) -> int:
        """Bytes that one device sends, all times together."""
        n = len(self.groups[0]) if self.groups else 1
        whole = self.bytes * self.times
        if self.kind == "collective-permute":
            return whole if any(a != b for a, b in self.groups) else 0
        if self.kind == "collective-broadcast":
            return whole if n > 1 else 0
        return (2 if self.kind == "all-reduce" else 1) * whole * (n - 1) // n


def collectives(text: str) -> tuple[Collective, ...]:
    """Every collective of a compiled program, with how often it runs.

    >>> line = "%x = f32[8,4]{1,0} all-gather(%p), replica_groups=[2,4]<=[8], dimensions={0}"
    >>> (found,) = collectives("ENTRY %main (p: f32[2,4]) -> f32[8,4] {\\n" + line + "\\n}")
    >>> found.kind, found.bytes, found.wire, found.groups
    ('all-gather', 128, 96, ((0, 1, 2, 3), (4, 5, 6, 7)))
    """
    bodies, entry = _computations(text)
    times = _times(bodies, entry)
    partitions = re.search(r"num_partitions=(\d+)", text)
    everyone = tuple(range(int(partitions[1]))) if partitions else (0,)
    return tuple(
        _read(match, line, everyone, count)
        for name, count in times.items()
        for line in bodies[name]
        if (match := _COLLECTIVE.search(line))
    )


def wire_bytes(text: str) -> dict[str, int]:
    """Bytes that one device sends, by kind of collective; only kinds that are there."""
    out: dict[str, int] = {}
    for found in collectives(text):
        out[found.kind] = out.get(found.kind, 0) + found.wire
    return out


def _read(match: re.Match[str], line: str, everyone: tuple[int, ...], times: int) -> Collective:
    shape, kind, start = match.groups()
    if start and kind in ("all-gather", "collective-permute"):
        shape = _elements(shape)[1]  # (operands, results, ...)
    groups = _groups(line) or (everyone,)
    size = sum(_bytes(*found.groups()) for found in _ARRAY.finditer(shape))
    return Collective(
        kind, size * (len(groups[0]) if kind == "reduce-scatter" else 1), groups, times
    )


def _bytes(dtype: str, bits: str | None, sizes: str) -> int:
    # Less than a byte an element is packed; pred has a byte.
    count = int(np.prod([int(n) for n in sizes.split(",") if n], dtype=np.int64))
    return count if bits is None else count * int(bits) // 8


def _elements(shape: str) -> list[str]:
    """Of a tuple's text, at its top level."""
    depth, found = 0, [""]
    for letter in shape.strip()[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def _groups(line: str) -> tuple[tuple[int, ...], ...]:
    """In each of three spellings; () where all devices are one group."""
    if match := _LISTED.search(line):
        return tuple(_numbers(group) for group in re.findall(r"\{([\d,]*)\}", match[1]))
    if match := _IOTA.search(line):
        return _rows(_turned(match[2], match[3]).reshape(_numbers(match[1])))
    if match := _MESH.search(line):
        axes = {n: int(size) for n, size in re.findall(r"'([^']*)'=(\d+)", match[1])}
        named = re.findall(r"'([^']*)'", match[4])
        every = match[2] or str(int(np.prod(list(axes.values()))))
        devices = _turned(every, match[3]).reshape(*axes.values())
        last = [list(axes).index(name) for name in named]
        others = [axis for axis in range(len(axes)) if axis not in last]
        count = int(np.prod([axes[name] for name in named]))
        return _rows(devices.transpose(*others, *last).reshape(-1, count))
    return ()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


def _turned(sizes: str, order: str | None) -> np.ndarray:
    """All devices in their order, laid out in these sizes, whose axes then change their order."""
    devices = np.arange(np.prod(_numbers(sizes))).reshape(_numbers(sizes))
    return devices.transpose(_numbers(order)) if order else devices


def _rows(devices: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(n) for n in row) for row in devices)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of every computation, and the name of the first that runs."""
    bodies: dict[str, list[str]] = {}
    entry = here = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            here = match[2]
            bodies[here] = []
            entry = here if match[1] else entry
        elif here:
            bodies[here].append(line)
    return bodies, entry


def _times(bodies: dict[str, list[str]], entry: str) -> dict[str, int]:
    """How often each computation runs; of a condition's branches, each as often as all of it."""
    times: dict[str, int] = {}

    def visit(name: str, count: int) -> None:
        times[name] = times.get(name, 0) + count
        for line in bodies[name]:
            for called, trips in _calls(line, bodies):
                visit(called, count * trips)

    visit(entry, 1)
    return times


def _calls(line: str, bodies: dict[str, list[str]]) -> Iterator[tuple[str, int]]:
    """Which computations a line runs, and how often."""
    if "async-done(" in line or "async-update(" in line:
        return  # they name again what async-start has begun
    if match := _WHILE.search(line):
        yield match[2], _trips(line, bodies.get(match[1], []))
        return
    names = _CALLED.findall(line)
    if match := _BRANCHES.search(line):
        names += [name.strip().lstrip("%") for name in match[1].split(",")]
    yield from ((name, 1) for name in names if name in bodies)


def _trips(line: str, condition: list[str]) -> int:
    """TPU programs do not say it; a loop from 0 compares its counter with a constant."""
    if match := _TRIPS.search(line):
        return int(match[1])
    limits = [int(n) for x in condition for n in re.findall(r"s32\[\]\S* constant\((\d+)\)", x)]
    below = any("direction=LT" in x for x in condition)
    return limits[0] if below and len(limits) == 1 else 1
