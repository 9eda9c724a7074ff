"""What is measured by the clock: shapes without a mask, and masks at one shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..benchmarks.attention import OURS
from ..cases import Case, Shape

FORCED = {
    "cpu": ("chunked",),
    "gpu": ("cudnn", "split_kv", "chunked"),
    "tpu": ("splash", "split_kv", "chunked"),
}
TORCH = ("torch-flash", "torch-cudnn", "torch-efficient", "torch-default")
DEVICE_PEERS = {
    "cpu": ("jax.nn", "torch-default"),
    "gpu": ("jax.nn", "cudnn", "tokamax", *TORCH),
    "tpu": ("jax.nn", "splash"),
}
# The call without a mask on as many keys as a query sees.
VISIBLE = "what is visible"
# Beside masks: a library that is given them written out.
MASK_PEERS = ("jax.nn", "torch-default")
# A shape whose batch is ragged.
RAGGED_SHAPES = ("odd-1000",)


@dataclasses.dataclass(frozen=True)
class DeviceCase(Case):
    """A case that is timed inside one program and as plain calls; `mask` names one of `HIDINGS`."""

    mask: str | None = None

    @property
    def title(self) -> str:
        """What distinguishes it from the other cases of one run, apart from the shape."""
        direction = {"backward": "forward + backward"}.get(self.direction, self.direction)
        return f"{direction}, {self.dtype}{', masks' if VISIBLE in self.contestants else ''}"

    @property
    def label(self) -> str:
        """What it is, in words."""
        mask = f", {self.mask}" if self.mask and VISIBLE not in self.contestants else ""
        return f"{self.shape}{mask}, {self.title}"


def device_cases(
    shapes: Sequence[Shape],
    masks: Sequence[str],
    mask_shape: Shape,
    settings: Sequence[dict],
    contestants: Sequence[str],
) -> list[DeviceCase]:
    """All shapes first, each in every setting, then the masks."""
    ragged = dict.fromkeys(RAGGED_SHAPES, "lengths")
    found = [
        DeviceCase(
            "attention", shape, contestants=contestants, mask=ragged.get(shape.name), **setting
        )
        for shape in shapes
        for setting in settings
    ]
    peers = [name for name in contestants if name in MASK_PEERS]
    named = [OURS, VISIBLE, f"{OURS}[chunked]", *peers]
    return found + [
        DeviceCase(
            "attention",
            dataclasses.replace(mask_shape, name=f"mask {mask}"),
            contestants=named,
            beside={OURS: VISIBLE},
            mask=mask,
            **setting,
        )
        for mask in masks
        for setting in settings
    ]
