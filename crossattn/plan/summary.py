"""What a plan says: the content of plan.json, tables and advice, from what was compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from crossattn.report.render.blocks import DASH, Table
from crossattn.train.run import Run

from .chips import GIB, Topology
from .estimate import DeviceCost, Estimator, StepWork, mesh_line, mesh_sizes
from .programs import STEPS

MIB = 2**20
PARTS = {"products": "matrix products", "memory": "HBM", "wire": "interconnect"}


def mesh_entry(found: dict[str, Any], estimator: Estimator) -> dict[str, Any]:
    """What was compiled for a mesh beside what formulas say: an entry of plan.json."""
    by_formula = estimator.cost(mesh_sizes(found["mesh"]))
    wire = None
    if found.get("train", {}).get("fits"):
        wire = float(sum(one["bytes"] for one in found["train"]["collectives"]))
    return {
        **found,
        "topology": estimator.slice_.name,
        "batch_size": estimator.programs.run.batch_size,
        "estimate": dataclasses.asdict(by_formula),
        "roofline_estimate": by_formula.roofline(estimator.slice_.chip, wire),
    }


def mesh_fits(entry: dict[str, Any]) -> bool:
    """Whether both programs of a mesh were compiled within the memory."""
    return all(entry.get(name, {}).get("fits", False) for name in STEPS)


def verdict(entry: dict[str, Any], slice_: Topology) -> str:
    """One line: fits or not, and by how much."""
    where = f"{slice_.name} ({slice_.devices} device{'s' * (slice_.devices > 1)}), {entry['mesh']}"
    if "died" in entry:
        return f"{where}: it is not known whether it fits, {entry['died']}"
    memory = _size(slice_.chip.memory)
    for name, title in STEPS.items():
        if not entry[name]["fits"]:
            over, needed = entry[name]["over"], entry[name]["needed"]
            return (
                f"{where}: DOES NOT FIT. The {title} step needs {_size(needed)} of {memory} a "
                f"device, {_size(over)} ({over:,} bytes) over what the compiler may use"
            )
    most = max(sum(entry[name]["bytes"].values()) for name in STEPS)
    return f"{where}: fits, {_size(most)} of {memory} a device"


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
    rows = [[kind, *(_size(column.get(kind)) for column in columns.values())] for kind in kinds]
    return ["bytes a device", *(STEPS[name] for name in columns)], rows


def collective_table(entry: dict[str, Any]) -> Table:
    """What a device sends, by kind and axis of the mesh."""
    rows = [
        [STEPS[name], one["kind"], one["axes"], str(one["times"]), _size(one["bytes"])]
        for name in STEPS
        for one in entry[name].get("collectives", ())
    ]
    return ["step", "collective", "along", "times", "a device sends"], rows


def roofline_line(entry: dict[str, Any]) -> str:
    """The estimate in words."""
    times = entry["roofline_estimate"]
    slowest = max(times, key=lambda part: times[part])
    said = ", ".join(f"{PARTS[part]} {_milliseconds(times[part])}" for part in times)
    return (
        f"Roofline estimate of a training step, not measured: {said}; at least "
        f"{_milliseconds(times[slowest])}, bound by {PARTS[slowest]}."
    )


def work_line(entry: dict[str, Any], work: StepWork) -> str:
    """FLOPs and activations."""
    by_formula = entry["estimate"]
    return (
        f"By formula: matrix products of a training step {work.flops:.3g} FLOPs, "
        f"{by_formula['flops']:.3g} a device; activations kept for the backward pass up to "
        f"{_size(by_formula['activations'])}, gradients {_size(by_formula['parameters'])}."
    )


def time_line(entry: dict[str, Any]) -> str:
    """What compiling took, and how far it went."""
    said = [f"{STEPS[name]} step {entry[name]['seconds']['compilation']:.0f} s" for name in STEPS]
    return (
        f"Compiled without a TPU, {', '.join(said)}, as far as buffers are assigned; machine code "
        "comes on top."
    )


def advice(estimator: Estimator, sizes: dict[str, int]) -> list[str]:
    """What to change where it does not fit: each with what a device would then hold, by formula."""
    memory, now = estimator.slice_.chip.memory, estimator.cost(sizes)
    lines = []
    split = dict(sizes, data=1, fsdp=sizes.get("data", 1) * sizes.get("fsdp", 1))
    if split != {"data": 1, "fsdp": 1} | sizes and (c := estimator.cost(split)).held < memory:
        several = {axis: number for axis, number in split.items() if number > 1}
        lines.append(f"--mesh {mesh_line(several)}: about {_size(c.held)} a device")
    larger = dict(split)
    while (c := estimator.cost(larger)).held > 0.8 * memory and larger["fsdp"] < 4096:
        larger["fsdp"] *= 2
    if larger["fsdp"] > split["fsdp"]:
        devices = larger["fsdp"] * sizes.get("tensor", 1)
        slices = f"a slice of {devices} devices or more with --mesh fsdp=-1"
        lines.append(f"{slices}: about {_size(c.held)} a device")
    lines += _smaller_batch(estimator.programs.run, now, memory)
    lines.append(
        "--model.remat everything, --model.dtype bfloat16, a smaller --model.width or "
        "--model.layers: not in these estimates"
    )
    return [f"Now about {_size(now.held)} a device, by formula. To make it fit:", *lines]


def _smaller_batch(run: Run, now: DeviceCost, memory: int) -> list[str]:
    """The largest half, quarter and so on of the batch that fits; [] where none does."""
    batch = run.batch_size
    while batch % (2 * run.texts_together) == 0:
        batch //= 2
        held = now.held - int(now.activations * (1 - batch / run.batch_size))
        if held < memory:
            return [f"--batch-size {batch}: about {_size(held)} a device"]
    return []


def sweep_table(
    found: Sequence[tuple[dict[str, int], DeviceCost]], entries: dict[str, Any], slice_: Topology
) -> Table:
    """All meshes of a slice by the formula's rank, with what was compiled of some."""
    header = ["mesh", "held", "sent", "at least", "compiled: held", "sent", "fits"]
    rows = []
    for sizes, one in found:
        longest = max(one.roofline(slice_.chip).values())
        row = [mesh_line(sizes), _size(one.held), _size(one.wire), _milliseconds(longest)]
        entry = entries.get(mesh_line(sizes))
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
        rows.append([*row[:-1], _size(entry["estimate"]["wire"]), row[-1]])
    return header, rows


def _compiled(entry: dict[str, Any]) -> list[str]:
    """What a device holds and sends in training, and whether that fits."""
    if not mesh_fits(entry):
        return [DASH, DASH, "died" if "died" in entry else "no"]
    step = entry["train"]
    sent = sum(one["bytes"] for one in step["collectives"])
    return [_size(sum(step["bytes"].values())), _size(sent), "yes"]


def _size(count: int | float | None) -> str:
    """Bytes for people.

    Example:
      >>> _size(20 * MIB), _size(3.2 * GIB), _size(None)
      ('20.0 MiB', '3.20 GiB', '-')
    """
    if count is None:
        return DASH
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"


def _milliseconds(seconds: float) -> str:
    """A short time.

    Example:
      >>> _milliseconds(0.0123), _milliseconds(0.000004)
      ('12.3 ms', '0.004 ms')
    """
    return f"{seconds * 1e3:.3g} ms"
