"""What a compiled program holds and sends: from the program, or from files that the compiler dumps.

The files are what XLA writes into `xla_dump_to`: the last text of the program, which has all of
its collectives, and the assignment of buffers. Both are those of the whole compilation, which goes
on for ten times as long with machine code that changes neither.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from crossattn.sharding.wire import collectives

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
ALLOCATION = re.compile(r"^allocation \d+: size (\d+)(.*):$", re.MULTILINE)


def read_program(program: Any, mesh: Mesh) -> dict[str, Any]:
    """Of a program that was compiled to the end."""
    memory = program.memory_analysis()
    held = {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }
    return {"fits": True, "bytes": held, "collectives": exchanged(program.as_text(), mesh)}


def early(dump: Path, mesh: Mesh) -> dict[str, Any] | None:
    """Of a program whose buffers are assigned; None as long as they are not."""
    # It is the last to be written.
    if not list(dump.glob("*after_optimizations_after_buffer_assignment.txt")):
        return None
    (text,) = dump.glob("*after_optimizations.txt")
    (buffers,) = dump.glob("*after_optimizations-buffer-assignment.txt")
    held = assigned(buffers.read_text())
    return {"fits": True, "bytes": held, "collectives": exchanged(text.read_text(), mesh)}


def assigned(text: str) -> dict[str, int]:
    """Bytes of HBM by kind in an assignment of buffers; arguments that are outputs count once.

    Example:
      >>> assigned('''BufferAssignment:
      ... allocation 0: size 512, parameter 0, shape |f32[12]| at ShapeIndex {}, maybe-live-out:
      ... allocation 1: size 64, output shape is |(f32[12])|, maybe-live-out:
      ... allocation 2: size 4096, color 1, preallocated-temp:
      ... allocation 3: size 2048, preallocated-temp:
      ... ''')
      {'arguments': 512, 'outputs': 64, 'temporaries': 2048}
    """
    held = {"arguments": 0, "outputs": 0, "temporaries": 0}
    for size, words in ALLOCATION.findall(text):
        # Colours are other memories, on the chip; what is local to a fusion is in none.
        if re.search(r", color [1-9]|, thread-local", words):
            continue
        parameter, out = ", parameter " in words, "maybe-live-out" in words
        held["arguments" if parameter else "outputs" if out else "temporaries"] += int(size)
    return held


def exceeded(message: str) -> dict[str, int] | None:
    """How much memory a program needs and by how much that is too much; None of other errors.

    The compiler says it in two ways: early, where it is far too much, and late.

    Example:
      >>> exceeded("memory required for HLO temporaries (20.50G) exceeds available HBM (16G).")
      {'needed': 22011707392, 'over': 4831838208}
      >>> exceeded("Ran out of memory. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.")
      {'needed': 22011707392, 'over': 5100273664}
    """
    number = r"([\d.]+)([KMGT]?)"
    early = re.search(rf"\({number}\) exceeds available HBM \({number}\)", message)
    late = re.search(rf"Used {number} of {number} hbm", message)
    if not (match := early or late):
        return None
    needed, there = (int(float(match[n]) * UNITS[match[n + 1]]) for n in (1, 3))
    return {"needed": needed, "over": needed - there}


def exchanged(text: str, mesh: Mesh) -> list[dict[str, Any]]:
    """Collectives of a program by kind and by the axes of the mesh that they run along."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in collectives(text):
        if not one.wire:
            continue
        key = one.kind, along(one.groups, mesh)
        entry = found.setdefault(key, {"kind": key[0], "axes": key[1], "times": 0, "bytes": 0})
        entry["times"] += one.times
        entry["bytes"] += one.wire
    return sorted(found.values(), key=lambda entry: -entry["bytes"])


def along(groups: tuple[tuple[int, ...], ...], mesh: Mesh) -> str:
    """The axes along which the members of a group differ."""
    shape = tuple(mesh.shape.values())
    differ = np.zeros(len(shape), bool)
    for group in groups:
        places = np.array(np.unravel_index(group, shape))
        differ |= (places != places[:, :1]).any(axis=1)
    return "+".join(axis for axis, here in zip(mesh.shape, differ, strict=True) if here)
