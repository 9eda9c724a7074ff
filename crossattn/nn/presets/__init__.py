"""The published designs by name: their entries, configurations and modules.

`published` has the entries; a preset of a known family is one more of them.
"""

from typing import Any

from crossattn import renamed
from crossattn.nn.presets.published import TEXT, Composed, Preset
from crossattn.nn.presets.registry import build, config, differences, get, names, table

__all__ = [
    "TEXT",
    "Composed",
    "Preset",
    "build",
    "config",
    "differences",
    "get",
    "names",
    "table",
]


def __getattr__(name: str) -> Any:
    if name != "DESIGNS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    renamed.warn(f"{__name__}.DESIGNS[name]", f"{__name__}.config(name)")
    return {one: config(one) for one in names() if get(one).family == "block"}
