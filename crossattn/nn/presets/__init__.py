"""The published designs by name: their configurations, the modules that they make, their papers."""

from crossattn.nn.presets.registry import (
    ALONE,
    DESIGNS,
    TEXT,
    build,
    differences,
    names,
)

__all__ = ["ALONE", "DESIGNS", "TEXT", "build", "differences", "names"]
