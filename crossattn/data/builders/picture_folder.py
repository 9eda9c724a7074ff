"""Writes the folder that the source `folder` reads: pictures, masks of regions, a file of texts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crossattn.shapes import UInt8

__all__ = ["PictureFolder"]


class PictureFolder:
    """Pictures, with the regions of things as numbers of a mask, and lines of texts about them.

    Attributes:
        directory: where they are written.
        counts: split to the number of its pictures.

    Example:
        >>> import tempfile
        >>> folder = PictureFolder(Path(tempfile.mkdtemp()))
        >>> region = np.ones((8, 8), np.uint8)
        >>> folder.add("train", np.zeros((8, 8, 3), np.uint8), region, [({"caption": "night"}, {"night": [1]})])
        >>> (folder.directory / "texts.jsonl").read_text().split("masks", 1)[1]
        '": {"night": ["masks/train-00000.png#1"]}}\\n'
    """  # noqa: E501

    def __init__(self, directory: Path):
        self.directory, self.counts = directory, dict[str, int]()
        for name in ("images", "masks"):
            (directory / name).mkdir()
        self._lines = directory / "texts.jsonl"

    def add(
        self,
        split: str,
        pixels: UInt8[np.ndarray, "H W 3"],
        regions: UInt8[np.ndarray, "H W"],
        texts: Sequence[tuple[Mapping[str, Any], Mapping[str, Sequence[int]]]],
    ) -> None:
        """One more picture.

        Args:
            split: train, validation, test, or another that the source knows.
            pixels: uint8.
            regions: uint8, 0 is ground.
            texts: the columns of each line, and the numbers of the regions of its phrases.
        """
        number = self.counts.get(split, 0)
        self.counts[split] = number + 1
        name = f"{split}-{number:05d}.png"
        for folder, values in (("images", pixels), ("masks", regions)):
            Image.fromarray(values).save(self.directory / folder / name)
        with self._lines.open("a", encoding="utf-8") as file:
            for columns, phrases in texts:
                masks = {
                    phrase: [f"masks/{name}#{one}" for one in numbers]
                    for phrase, numbers in phrases.items()
                }
                line = {"image": f"images/{name}", "split": split, **columns, "masks": masks}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
