"""The published designs by name: their entries, configurations and modules.

`published` has the entries; a preset of a known family is one more of them.
"""

from crossattn.nn.presets.published import TEXT, Composed, Preset
from crossattn.nn.presets.registry import build, config, differences, get, names

__all__ = ["TEXT", "Composed", "Preset", "build", "config", "differences", "get", "names"]
