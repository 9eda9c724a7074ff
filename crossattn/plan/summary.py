"""What a plan says: the content of plan.json, tables and advice, from what was compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from crossattn.report.render.blocks import DASH, Table
from crossattn.train.run import Run

from .chips import GIB, Topology
from .estimate import Cost, Work, cost, line, roofline, sizes_of_line
from .programs import STEPS, Programs

MIB = 2**20
PARTS = {"products": "matrix products", "memory": "HBM", "wire": "interconnect"}


def described(
    found: dict[str, Any], programs: Programs, whole: Work, slice_: Topology
) -> dict[str, Any]:
    """What was compiled for a mesh beside what formulas say: an entry of plan.json."""
    by_formula = cost(programs, whole, sizes_of_line(found["mesh"]))
    wire = by_formula.wire
    if found.get("train", {}).get("fits"):
        wire = float(sum(one["bytes"] for one in found["train"]["collectives"]))
    return {
        **found,
        "topology": slice_.name,
        "batch_size": programs.run.batch_size,
        "estimate": dataclasses.asdict(by_formula),
        "roofline_estimate": roofline(
            slice_.chip, flops=by_formula.flops, traffic=by_formula.traffic, wire=wire
        ),
    }


def fits(entry: dict[str, Any]) -> bool:
    """Whether both programs of a mesh were compiled within the memory."""
    return all(entry.get(name, {}).get("fits", False) for name in STEPS)


def verdict(entry: dict[str, Any], slice_: Topology) -> str:
    """One line: fits or not, and by how much."""
    where = f"{slice_.name} ({slice_.devices} device{'s' * (slice_.devices > 1)}), {entry['mesh']}"
    if "died" in entry:
        return f"{where}: nobody knows whether it fits, {entry['died']}"
    memory = size(slice_.chip.memory)
    for name, title in STEPS.items():
        if not entry[name]["fits"]:
            over, needed = entry[name]["over"], entry[name]["needed"]
            return (
                f"{where}: DOES NOT FIT. The {title} step needs {size(needed)} of {memory} a "
                f"device, {size(over)} ({over:,} bytes) over what the compiler may use"
            )
    most = max(sum(entry[name]["bytes"].values()) for name in STEPS)
    return f"{where}: fits, {size(most)} of {memory} a device"


def memory_table(entry: dict[str, Any]) -> Table:
    """Bytes of a device by kind, in each step."""
    by_formula = entry["estimate"]
    columns = {}
    for name in STEPS:
        if not entry[name]["fits"]:
            continue
        held = entry[name]["bytes"]
        state = by_formula["parameters"] + by_formula["optimizer"] * (name == "train")
        columns[name] = {
            "parameters": by_formula["parameters"],
            "optimizer": by_formula["optimizer"] if name == "train" else None,
            "batch": held["arguments"] - state,
            **{kind: held[kind] for kind in held if kind != "arguments"},
            "in all": sum(held.values()),
        }
    kinds = list(dict.fromkeys(kind for column in columns.values() for kind in column))
    rows = [[kind, *(size(column.get(kind)) for column in columns.values())] for kind in kinds]
    return ["bytes a device", *(STEPS[name] for name in columns)], rows


def collective_table(entry: dict[str, Any]) -> Table:
    """What a device sends, by kind and axis of the mesh."""
    rows = [
        [STEPS[name], one["kind"], one["axes"], str(one["times"]), size(one["bytes"])]
        for name in STEPS
        for one in entry[name].get("collectives", ())
    ]
    return ["step", "collective", "along", "times", "a device sends"], rows


def roofline_line(entry: dict[str, Any]) -> str:
    """The estimate in words."""
    times = entry["roofline_estimate"]
    slowest = max(times, key=lambda part: times[part])
    said = ", ".join(f"{PARTS[part]} {milliseconds(times[part])}" for part in times)
    return (
        f"Roofline estimate of a training step, not measured: {said}; at least "
        f"{milliseconds(times[slowest])}, bound by {PARTS[slowest]}."
    )


def work_line(entry: dict[str, Any], whole: Work) -> str:
    """FLOPs and activations."""
    by_formula = entry["estimate"]
    return (
        f"By formula: matrix products of a training step {whole.flops:.3g} FLOPs, "
        f"{by_formula['flops']:.3g} a device; activations kept for the backward pass up to "
        f"{size(by_formula['activations'])}, gradients {size(by_formula['parameters'])}."
    )


def time_line(entry: dict[str, Any]) -> str:
    """What compiling took, and how far it went."""
    said = [f"{STEPS[name]} step {entry[name]['seconds']['compilation']:.0f} s" for name in STEPS]
    return (
        f"Compiled without a TPU, {', '.join(said)}, as far as buffers are assigned; machine code "
        "comes on top."
    )


def advice(programs: Programs, whole: Work, slice_: Topology, sizes: dict[str, int]) -> list[str]:
    """What to change where it does not fit: each with what a device would then hold, by formula."""
    memory, now = slice_.chip.memory, cost(programs, whole, sizes)
    lines = []
    split = dict(sizes, data=1, fsdp=sizes.get("data", 1) * sizes.get("fsdp", 1))
    if (
        split != {"data": 1, "fsdp": 1} | sizes
        and (c := cost(programs, whole, split)).held < memory
    ):
        lines.append(f"--mesh {line(_several(split))}: about {size(c.held)} a device")
    larger = dict(split)
    while (c := cost(programs, whole, larger)).held > 0.8 * memory and larger["fsdp"] < 4096:
        larger["fsdp"] *= 2
    if larger["fsdp"] > split["fsdp"]:
        devices = larger["fsdp"] * sizes.get("tensor", 1)
        slices = f"a slice of {devices} devices or more with --mesh fsdp=-1"
        lines.append(f"{slices}: about {size(c.held)} a device")
    lines += _smaller_batch(programs.run, now, memory)
    lines.append(
        "a smaller --model.width or --model.layers; a run has no options for remat and bfloat16, "
        "which the stacks of crossattn.nn have as fields (remat=, dtype=)"
    )
    return [f"Now about {size(now.held)} a device, by formula. To make it fit:", *lines]


def _smaller_batch(run: Run, now: Cost, memory: int) -> list[str]:
    """The largest half, quarter and so on of the batch that fits; [] where none does."""
    batch = run.batch_size
    while batch % (2 * run.data.texts_per_image) == 0:
        batch //= 2
        held = now.held - int(now.activations * (1 - batch / run.batch_size))
        if held < memory:
            return [f"--batch-size {batch}: about {size(held)} a device"]
    return []


def _several(sizes: dict[str, int]) -> dict[str, int]:
    return {axis: number for axis, number in sizes.items() if number > 1}


def sweep_table(
    found: Sequence[tuple[dict[str, int], Cost]], entries: dict[str, Any], slice_: Topology
) -> Table:
    """All meshes of a slice by the formula's rank, with what was compiled of some."""
    header = ["mesh", "held", "sent", "at least", "compiled: held", "sent", "fits"]
    rows = []
    for sizes, one in found:
        times = roofline(slice_.chip, flops=one.flops, traffic=one.traffic, wire=one.wire)
        row = [line(sizes), size(one.held), size(one.wire), milliseconds(max(times.values()))]
        entry = entries.get(line(sizes))
        if entry is None:
            row += [DASH, DASH, "by formula" if one.held <= slice_.chip.memory else "hardly"]
        else:
            row += _compiled(entry)
        rows.append(row)
    return header, rows


def scaling_table(entries: Sequence[dict[str, Any]]) -> Table:
    """Slices of several sizes, with what was compiled of each."""
    header = ["slice", "devices", "mesh", "texts a step", "held", "sent", "sent by formula", "fits"]
    rows = []
    for entry in entries:
        row = [entry["topology"], str(entry.get("devices", DASH)), entry["mesh"]]
        row += [str(entry["batch_size"]), *_compiled(entry)]
        rows.append([*row[:-1], size(entry["estimate"]["wire"]), row[-1]])
    return header, rows


def _compiled(entry: dict[str, Any]) -> list[str]:
    """What a device holds and sends in training, and whether that fits."""
    if not fits(entry):
        return [DASH, DASH, "died" if "died" in entry else "no"]
    step = entry["train"]
    sent = sum(one["bytes"] for one in step["collectives"])
    return [size(sum(step["bytes"].values())), size(sent), "yes"]


def size(count: int | float | None) -> str:
    """Bytes for people.

    Example:
      >>> size(20 * MIB), size(3.2 * GIB), size(None)
      ('20.0 MiB', '3.20 GiB', '-')
    """
    if count is None:
        return DASH
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"


def milliseconds(seconds: float) -> str:
    """A short time.

    Example:
      >>> milliseconds(0.0123), milliseconds(0.000004)
      ('12.3 ms', '0.004 ms')
    """
    return f"{seconds * 1e3:.3g} ms"
