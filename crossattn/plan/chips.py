"""What a TPU chip can do at best, and slices of them by name."""

from __future__ import annotations

import dataclasses
import math
import re

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peaks of one device, as JAX counts devices.

    Attributes:
      flops: bfloat16 products a second; float32 products run so too by default.
      memory: bytes of HBM.
      bandwidth: bytes a second between HBM and the chip.
      link: bytes a second that leave it along one axis of the torus, both directions together.
      devices: of one chip.
      source: where these numbers are from.
    """

    flops: float
    memory: int
    bandwidth: float
    link: float
    devices: int
    source: str


def _chip(
    name: str, teraflops: float, gibibytes: int, gigabytes: float, ports: tuple[int, int]
) -> Chip:
    """From the units of the vendor's pages: interconnect in GB/s both ways, over so many links."""
    interconnect, links = ports
    # A TPU7x chip is two devices to JAX; the two cores of a v5p are one.
    devices = 2 if name == "tpu7x" else 1
    return Chip(
        flops=teraflops * 1e12 / devices,
        memory=gibibytes * GIB // devices,
        bandwidth=gigabytes * 1e9 / devices,
        # Of a link half is what goes out, and an axis has two links.
        link=interconnect / links * 1e9 / devices,
        devices=devices,
        source=f"docs.cloud.google.com/tpu/docs/{name}",
    )


CHIPS = {
    "v5e": _chip("v5e", 197.0, 16, 819.0, (400, 4)),
    "v5p": _chip("v5p", 459.0, 95, 2765.0, (1200, 6)),
    "v6e": _chip("v6e", 918.0, 32, 1638.0, (800, 4)),
    "tpu7x": _chip("tpu7x", 2307.0, 192, 7380.0, (1200, 6)),
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice.

    Attributes:
      name: as in "v5e:2x4".
      chip: what it is made of.
      shape: chips along each axis.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def host(self) -> tuple[int, int, int]:
        """Chips of one machine along each axis: 2 x 2, or fewer where the slice has no more."""
        return (2 - self.shape[0] % 2, 2 - self.shape[1] % 2, 1)

    @property
    def devices(self) -> int:
        """Devices as JAX counts them."""
        return math.prod(self.shape) * self.chip.devices


def topology(name: str) -> Topology:
    """The slice of a name.

    Raises:
      ValueError: for a chip that is not known, or a shape that is none.

    Example:
      >>> topology("tpu7x:2x2x1").devices
      8
    """
    kind, colon, shape = name.partition(":")
    axes = 3 if kind in ("v5p", "tpu7x") else 2
    example = "2x2x1" if axes == 3 else "2x4"
    if kind not in CHIPS:
        known = ", ".join(CHIPS)
        raise ValueError(f"unknown topology {name!r}: choose one of {known}, as in v5e:2x4")
    if not colon or not re.fullmatch(rf"[1-9]\d*(x[1-9]\d*){{{axes - 1}}}", shape):
        raise ValueError(
            f"unknown topology {name!r}: a slice of {kind} has {axes} axes, as in {kind}:{example}"
        )
    return Topology(name, CHIPS[kind], tuple(int(size) for size in shape.split("x")))
