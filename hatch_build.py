"""Lets an editable install know experiments and configs by their names in a wheel, too."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def link(folder: Path) -> str:
    """A package without files of its own, which looks where those of the checkout lie.

    Copies would go stale, and a name ("configs") could be found in somebody's working directory.
    """
    return f'"""See {folder.name} in the checkout."""\n\n__path__ = [{str(folder)!r}]\n'


class WheelNames(BuildHookInterface):
    """Puts links where the wheel has `crossattn_experiments` and `crossattn_configs`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the build; `version` is "standard" or "editable"."""
        self.folder = Path(tempfile.mkdtemp())
        if version == "editable":
            included = build_data["force_include_editable"]
            for name in ("configs", "experiments"):
                package = self.folder / f"{name}.py"
                package.write_text(link(Path(self.root) / name))
                included[str(package)] = f"crossattn_{name}/__init__.py"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called after the build."""
        shutil.rmtree(self.folder)
