"""What a step costs on a mesh, by formula: estimates from shapes and a chip's peaks."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from crossattn.sharding import AXES
from crossattn.sharding.rules import entry_axes
from crossattn.train.memory import activation_bytes, tree_bytes
from crossattn.train.run import Run
from crossattn.train.utilization import matrix_flops

from .chips import Chip, Topology
from .programs import PlannedPrograms

# Sums over the axis tensor in a layer: what leaves self-attention, cross-attention, feed-forward.
SUMS_IN_A_LAYER = 3


@dataclasses.dataclass(frozen=True)
class StepWork:
    """What a training step does, whatever it is spread over.

    Attributes:
      flops: of its matrix products.
      activations: bytes that the forward pass keeps for the backward pass.
      batch: bytes of the batch.
      stream: bytes of the text stream of one layer.
      layers: number of layers.
    """

    flops: float
    activations: int
    batch: int
    stream: int
    layers: int


def step_work(programs: PlannedPrograms) -> StepWork:
    """By tracing the step: nothing is compiled or computed."""
    run, batch, state = programs.run, programs.sizes.train, programs.state
    step = jax.make_jaxpr(programs.step)(state, batch, 1.0)
    texts, length = batch.tokens.shape
    return StepWork(
        flops=matrix_flops(step),
        activations=activation_bytes(programs.model, state.params, batch),
        batch=tree_bytes(batch),
        stream=texts * (length - 1) * run.model.width * np.dtype(run.model.dtype).itemsize,
        layers=run.model.layers,
    )


@dataclasses.dataclass(frozen=True)
class DeviceCost:
    """What one device holds and does in a training step, by formula.

    Attributes:
      parameters, optimizer, batch, activations: bytes that it holds.
      flops: of its matrix products.
      traffic: bytes between HBM and the chip.
      wire: bytes that it sends to others.
    """

    parameters: int
    optimizer: int
    batch: int
    activations: int
    flops: float
    traffic: float
    wire: float

    @property
    def held(self) -> int:
        """Bytes in all, with a gradient as large as the parameters."""
        return 2 * self.parameters + self.optimizer + self.batch + self.activations

    def roofline(self, chip: Chip, wire: float | None = None) -> dict[str, float]:
        """Seconds of each part at the chip's peak: the step takes at least the longest.

        Args:
          chip: what the device is.
          wire: bytes sent, where more is known than the formula.

        Example:
          >>> from crossattn.plan.chips import CHIPS
          >>> DeviceCost(0, 0, 0, 0, flops=197e9, traffic=819e6, wire=1e6).roofline(CHIPS["v5e"])
          {'products': 0.001, 'memory': 0.001, 'wire': 1e-05}
        """
        return {
            "products": self.flops / chip.flops,
            "memory": self.traffic / chip.bandwidth,
            "wire": (self.wire if wire is None else wire) / chip.link,
        }


def device_cost(programs: PlannedPrograms, work: StepWork, sizes: dict[str, int]) -> DeviceCost:
    """The cost of a step on a mesh of such sizes by axis.

    The optimizer reads and writes its state and the parameters; both passes read the parameters as
    gathered over fsdp; gradient and activations are written once and read once.
    """
    size = lambda axis: sizes.get(axis, 1)
    data, fsdp, tensor = size("data"), size("fsdp"), size("tensor")
    leaves = programs.plan(_stand_in(tuple(map(size, AXES)))).leaves
    mine = [leaf for leaf in leaves if leaf.path.startswith("params/")]
    parameters = sum(leaf.bytes for leaf in mine)
    optimizer = sum(leaf.bytes for leaf in leaves) - parameters
    gathered, wire = 0, 0.0
    for leaf in mine:
        if "fsdp" in [axis for entry in leaf.spec for axis in entry_axes(entry)]:
            all_of_it = leaf.bytes * fsdp
            gathered += all_of_it
            # Gathered in both passes, its gradient scattered, then summed over data.
            wire += 3 * _share(fsdp) * all_of_it + 2 * _share(data) * leaf.bytes
        else:
            gathered += leaf.bytes
            wire += 2 * _share(data * fsdp) * leaf.bytes
    stream = work.stream / (data * fsdp)
    # In the forward pass and again in the backward pass.
    wire += 2 * work.layers * SUMS_IN_A_LAYER * 2 * _share(tensor) * stream
    activations = work.activations // (data * fsdp * tensor)
    moved = 2 * (parameters + optimizer) + 2 * gathered + 2 * parameters + 2 * activations
    return DeviceCost(
        parameters=parameters,
        optimizer=optimizer,
        batch=work.batch // (data * fsdp),
        activations=activations,
        flops=work.flops / (data * fsdp * tensor),
        traffic=float(moved),
        wire=wire,
    )


def _stand_in(shape: tuple[int, ...]) -> Mesh:
    """A mesh of any size, for shapes only: one device stands for all that are not here."""
    devices = np.full(shape, jax.devices()[0])
    return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _share(n: int) -> float:
    """Of the work, what each of n devices sends when all get it."""
    return (n - 1) / n


def possible_meshes(run: Run, devices: int) -> list[dict[str, int]]:
    """All ways to spread a run over devices that divide its images, heads and width evenly.

    Example:
      >>> possible_meshes(Run(batch_size=4), 4)
      [{'data': 2, 'tensor': 2}, {'fsdp': 2, 'tensor': 2}, {'tensor': 4}]
    """
    images = run.batch_size // run.texts_together
    found = []
    for tensor in _divisors(devices):
        for fsdp in _divisors(devices // tensor):
            data = devices // tensor // fsdp
            heads, width = run.model.heads % tensor, run.model.width % (fsdp * tensor)
            if images % (data * fsdp) or heads or width:
                continue
            sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
            found.append({axis: size for axis, size in sizes.items() if size > 1})
    return found


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def mesh_line(sizes: dict[str, int]) -> str:
    """A mesh as `crossattn.sharding.make_mesh` reads it.

    Example:
      >>> mesh_line({"data": 2, "tensor": 4}), mesh_line({})
      ('data=2,tensor=4', 'data=1')
    """
    return ",".join(f"{axis}={size}" for axis, size in sizes.items()) or "data=1"


def mesh_sizes(text: str) -> dict[str, int]:
    """Sizes by axis of a line as results have it, without -1.

    Example:
      >>> mesh_sizes("data=2,tensor=4"), mesh_sizes("one device")
      ({'data': 2, 'tensor': 4}, {})
    """
    pairs = [part.partition("=") for part in text.split(",") if "=" in part]
    return {axis: int(size) for axis, _, size in pairs}


class Estimator(NamedTuple):
    """Costs of a run's step on the meshes of a slice.

    Attributes:
      programs: of the run.
      work: what its step does.
      slice_: of chips.
    """

    programs: PlannedPrograms
    work: StepWork
    slice_: Topology

    def cost(self, sizes: dict[str, int]) -> DeviceCost:
        """`device_cost` on a mesh."""
        return device_cost(self.programs, self.work, sizes)

    def ranked(self) -> list[tuple[dict[str, int], DeviceCost]]:
        """All meshes, the best first: what fits, then by the longest part of the step."""

        def order(pair: tuple[dict[str, int], DeviceCost]) -> tuple[bool, float, float]:
            times = pair[1].roofline(self.slice_.chip).values()
            # Parts may overlap or not: their sum tells equals apart.
            return pair[1].held > self.slice_.chip.memory, max(times), sum(times)

        meshes = possible_meshes(self.programs.run, self.slice_.devices)
        return sorted(((sizes, self.cost(sizes)) for sizes in meshes), key=order)
