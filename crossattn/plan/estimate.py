"""What a step costs on a mesh, by formula: estimates from shapes and a chip's peaks."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from crossattn.sharding import AXES
from crossattn.sharding.rules import entry_axes
from crossattn.train import step as steps
from crossattn.train.run import Run

from .chips import Chip, Topology
from .dry_run import matrix_flops
from .programs import Programs

# Sums over the axis tensor in a layer: what leaves self-attention, cross-attention, feed-forward.
SUMS_IN_A_LAYER = 3
FLOAT32 = 4


@dataclasses.dataclass(frozen=True)
class Work:
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


def work(programs: Programs) -> Work:
    """By tracing the step: nothing is compiled or computed."""
    run, batch, state = programs.run, programs.sizes.train, programs.state

    def kept(params: Any, batch: Any) -> Any:
        def objective(params: Any) -> Any:
            return steps.losses(steps.forward(programs.model, params, batch)[0], batch)

        return jax.vjp(objective, params, has_aux=True)[1]

    residuals = jax.eval_shape(kept, state.params, batch)
    step = jax.make_jaxpr(programs.step)(state, batch, 1.0)
    texts, length = batch.tokens.shape
    return Work(
        flops=matrix_flops(step),
        # Parameters are among what it keeps.
        activations=max(0, _bytes(residuals) - _bytes(state.params)),
        batch=_bytes(batch),
        stream=texts * (length - 1) * run.model.width * FLOAT32,
        layers=run.model.layers,
    )


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@dataclasses.dataclass(frozen=True)
class Cost:
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


def cost(programs: Programs, whole: Work, sizes: dict[str, int]) -> Cost:
    """On a mesh of such sizes by axis.

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
    stream = whole.stream / (data * fsdp)
    # In the forward pass and again in the backward pass.
    wire += 2 * whole.layers * SUMS_IN_A_LAYER * 2 * _share(tensor) * stream
    activations = whole.activations // (data * fsdp * tensor)
    moved = 2 * (parameters + optimizer) + 2 * gathered + 2 * parameters + 2 * activations
    return Cost(
        parameters=parameters,
        optimizer=optimizer,
        batch=whole.batch // (data * fsdp),
        activations=activations,
        flops=whole.flops / (data * fsdp * tensor),
        traffic=float(moved),
        wire=wire,
    )


def _stand_in(shape: tuple[int, ...]) -> Mesh:
    """A mesh of any size, for shapes only: one device stands for all that are not here."""
    devices = np.full(shape, jax.devices()[0])
    return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _share(n: int) -> float:
    """Of the whole, what each of n devices sends when all get it."""
    return (n - 1) / n


def roofline(chip: Chip, *, flops: float, traffic: float, wire: float) -> dict[str, float]:
    """Seconds of each part at the chip's peak: the step takes at least the longest.

    Example:
      >>> from crossattn.plan.chips import CHIPS
      >>> roofline(CHIPS["v5e"], flops=197e9, traffic=819e6, wire=1e6)
      {'products': 0.001, 'memory': 0.001, 'wire': 1e-05}
    """
    return {
        "products": flops / chip.flops,
        "memory": traffic / chip.bandwidth,
        "wire": wire / chip.link,
    }


def meshes(run: Run, devices: int) -> list[dict[str, int]]:
    """All ways to spread a run over devices that divide its images, heads and width evenly.

    Example:
      >>> meshes(Run(batch_size=4), 4)
      [{'data': 2, 'tensor': 2}, {'fsdp': 2, 'tensor': 2}, {'tensor': 4}]
    """
    images = run.batch_size // run.data.texts_per_image
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


def line(sizes: dict[str, int]) -> str:
    """A mesh as `crossattn.sharding.make_mesh` reads it.

    Example:
      >>> line({"data": 2, "tensor": 4}), line({})
      ('data=2,tensor=4', 'data=1')
    """
    return ",".join(f"{axis}={size}" for axis, size in sizes.items()) or "data=1"


def sizes_of_line(text: str) -> dict[str, int]:
    """Sizes by axis of a line as results have it, without -1.

    Example:
      >>> sizes_of_line("data=2,tensor=4"), sizes_of_line("one device")
      ({'data': 2, 'tensor': 4}, {})
    """
    pairs = [part.partition("=") for part in text.split(",") if "=" in part]
    return {axis: int(size) for axis, _, size in pairs}


def ranked(programs: Programs, whole: Work, slice_: Topology) -> list[tuple[dict[str, int], Cost]]:
    """All meshes of a slice, the best first: what fits, then by the longest part of the step."""
    found = [(s, cost(programs, whole, s)) for s in meshes(programs.run, slice_.devices)]

    def order(pair: tuple[dict[str, int], Cost]) -> tuple[bool, float, float]:
        one = pair[1]
        times = roofline(slice_.chip, flops=one.flops, traffic=one.traffic, wire=one.wire)
        longest = max(times.values())
        # Parts may overlap or not: their sum tells equals apart.
        return one.held > slice_.chip.memory, longest, sum(times.values())

    return sorted(found, key=order)
