"""Lets an editable install know experiments and configs by their names in a wheel, too."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Copies would go stale: these packages have no files but look where those of the checkout lie.
LINK = """\
import importlib

__path__ = importlib.import_module(__name__.removeprefix("crossattn_")).__path__
"""


class WheelNames(BuildHookInterface):
    """Puts links where the wheel has `crossattn_experiments` and `crossattn_configs`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the build; `version` is "standard" or "editable"."""
        self.folder = Path(tempfile.mkdtemp())
        if version == "editable":
            included = build_data["force_include_editable"]
            for name in ("configs", "experiments"):
                link = self.folder / f"{name}.py"
                link.write_text(LINK)
                included[str(link)] = f"crossattn_{name}/__init__.py"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called after the build."""
        shutil.rmtree(self.folder)
