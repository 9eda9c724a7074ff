"""A mesh of devices from one line of text."""

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh

# From the slowest links to the fastest. Gradients cross data once a step, parameters cross fsdp
# and attention crosses context in every layer; tensor adds up every product, so that its devices
# are neighbours.
AXES = ("seed", "data", "fsdp", "context", "tensor")
# Axes that the rows of a batch are split over: fsdp splits the batch as data does, and besides it
# the parameters.
BATCH_AXES = ("data", "fsdp")


def make_mesh(
    axes: str | None = None, *, devices: Sequence[Any] | None = None, explicit: bool = False
) -> Mesh:
    """The mesh that a line such as "data=2,fsdp=2,tensor=2" describes.

    The mesh always has all of `AXES`, those that are not named with size 1: a rule may name any of
    them on any mesh, and a name that is unknown is a mistake. The devices of an axis further right
    in `AXES` are nearer to each other, in whatever order the line names them.

    | axis | what is split over it |
    |---|---|
    | seed | runs that differ in the seed |
    | data | rows of the batch |
    | fsdp | rows of the batch and the largest axis of each parameter |
    | context | queries or keys of one attention |
    | tensor | heads and hidden units |

    Args:
      axes: sizes by name; one of them may be -1, which takes the rest of the devices. None takes
        `default_axes`.
      devices: all of jax.devices() when None; else those of the mesh, of a topology for instance.
      explicit: whether shardings are part of the arrays' types (jax's explicit mode); else the
        compiler carries them on.

    Returns:
      A mesh of all the devices.

    Raises:
      TypeError: for what is no line.
      ValueError: for an axis that is unknown or named twice, a size that is not a number, two
        sizes of -1, or sizes that do not multiply to the number of devices.

    Example:
      >>> mesh = make_mesh("data=-1,tensor=2")
      >>> mesh.shape["data"] * mesh.shape["tensor"] == len(jax.devices())
      True
    """
    if not isinstance(axes, str | None):
        raise TypeError(f'make_mesh takes a line such as "data=-1,tensor=2", got {axes!r}')
    devices = list(jax.devices() if devices is None else devices)
    named = _sizes(default_axes(devices) if axes is None else axes, len(devices))
    shape = tuple(named.get(axis, 1) for axis in AXES)
    types = (AxisType.Explicit if explicit else AxisType.Auto,) * len(AXES)
    try:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    except NotImplementedError:
        # On a slice of 4 x 4 chips, tensor=8 takes two rows: jax asks before it cuts a column.
        grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(grid, AXES, axis_types=types)


def default_axes(devices: Sequence[Any]) -> str:
    """The line for these devices when none is given.

    One host splits the batch (data=n). Many hosts split it over the hosts and over the devices of
    each (data=hosts,fsdp=devices of a host): parameters that the rules split over fsdp are gathered
    within a host, where links are fast, and only gradients travel between hosts. Rules that do not
    name fsdp give the same programs as data=n.

    Example:
      >>> default_axes(jax.devices()[:1])
      'data=1'
    """
    hosts = Counter(device.process_index for device in devices)
    local = set(hosts.values())
    if len(hosts) > 1 and len(local) == 1:
        return f"data={len(hosts)},fsdp={local.pop()}"
    return f"data={len(devices)}"


def axes_of(mesh: Mesh | AbstractMesh) -> str:
    """The line of a mesh, without axes of size 1.

    Example:
      >>> axes_of(make_mesh("tensor=1,data=1", devices=jax.devices()[:1]))
      'one device'
    """
    sizes = [f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1]
    return ",".join(sizes) or "one device"


def suggest_name(name: str, known: Iterable[str]) -> str:
    """What to write instead of a name that is not known, for a message."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"write {close[0]!r}" if close else f"write one of {', '.join(known)}"


def _sizes(text: str, count: int) -> dict[str, int]:
    """Sizes by axis, which multiply to `count`."""
    named: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, size = (word.strip() for word in part.partition("="))
        if not equals:
            raise ValueError(f"mesh {text!r}: {part!r} is not axis=size; write data=-1,tensor=2")
        if axis not in AXES:
            raise ValueError(f"mesh {text!r}: unknown axis {axis!r}; {suggest_name(axis, AXES)}")
        if axis in named:
            raise ValueError(f"mesh {text!r}: {axis} stands twice; write it once")
        named[axis] = _size(text, axis, size)
    rest = [axis for axis, size in named.items() if size == -1]
    if len(rest) > 1:
        raise ValueError(
            f"mesh {text!r}: {' and '.join(rest)} cannot both take the rest; write one of them "
            "as a number"
        )
    fixed = math.prod(size for size in named.values() if size != -1)
    if count % fixed or (not rest and fixed != count):
        said = " x ".join(f"{axis}={size}" for axis, size in named.items())
        what = f"{count} is not a multiple of {fixed}" if rest else f"{fixed}"
        raise ValueError(f"{count} devices cannot be {said}: {what}; try {_suggest(named, count)}")
    return {axis: count // fixed if size == -1 else size for axis, size in named.items()}


def _size(text: str, axis: str, size: str) -> int:
    number = int(size) if size.lstrip("-").isdecimal() else 0
    if number < 1 and number != -1:
        raise ValueError(
            f"mesh {text!r}: {axis}={size} is not a size; write a number from 1, or -1 for the "
            "rest of the devices"
        )
    return number


def _suggest(named: dict[str, int], count: int) -> str:
    """The line with one axis that takes the rest, so that it fits."""
    for axis in named:
        others = {name: size for name, size in named.items() if name != axis and size != -1}
        if count % math.prod(others.values()) == 0:
            sizes = {axis: -1, **others}
            return ",".join(f"{name}={sizes[name]}" for name in named if name in sizes)
    return "data=-1"
