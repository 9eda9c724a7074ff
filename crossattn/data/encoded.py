"""Features of the pictures or recordings of a set in files: which row is of what, and sees what.

A folder holds `encoder.json` and NAME.npy for each part, an array of rows (key, seen, features):
the key of the picture, the window of it that the tokens cover, and their vectors.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from crossattn.data.dataset import CELL, Dataset
from crossattn.data.errors import DataError
from crossattn.data.examples import Examples
from crossattn.shapes import Bool, Float

__all__ = [
    "ABOUT",
    "WHOLE_PICTURE",
    "Encoder",
    "FeatureRows",
    "match_keys",
    "row_type",
    "seen_coverage",
    "through_encoder",
    "with_encoder",
]

ABOUT = "encoder.json"
# ymin, xmin, ymax, xmax in shares of the sides; beyond 0 to 1 where black is put around a picture.
Window = tuple[float, float, float, float]
WHOLE_PICTURE: Window = (0.0, 0.0, 1.0, 1.0)
LONGEST = 100_000


class Encoder(NamedTuple):
    """What made the features of a folder.

    Attributes:
      digest: of its weights and of what it does to pictures.
      name: for messages.
      grid: rows and columns of tokens; () where the tokens of the data are meant.
    """

    digest: str
    name: str
    grid: tuple[int, ...] = ()

    @classmethod
    def of(cls, folder: str | Path) -> "Encoder | None":
        """That of a folder; None where a run's own encoder has written, which says nothing.

        Raises:
          DataError: the file is damaged.
        """
        path = Path(folder) / ABOUT
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file:
                found = json.loads(file.read(LONGEST))
            return cls(str(found["digest"]), str(found["name"]), tuple(map(int, found["grid"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}: encode into another folder") from None


def with_encoder(fingerprint: str, folder: str) -> str:
    """The fingerprint of data whose images an encoder has read, if one has: others are others."""
    encoder = Encoder.of(folder) if folder else None
    if encoder is None:
        return fingerprint
    said = f"{fingerprint} {encoder.digest}".encode()
    return hashlib.blake2b(said, digest_size=4).hexdigest()


def row_type(tokens: int, width: int) -> np.dtype:
    """The type of a row: of one picture."""
    return np.dtype([("key", "<u8"), ("seen", "<f8", (4,)), ("features", "<f4", (tokens, width))])


def match_keys(there: np.ndarray, wanted: np.ndarray, path: Path) -> slice | np.ndarray:
    """Rows that hold what is wanted: a slice where they are the first ones.

    Raises:
      DataError: some have no row: the features are of another set.

    Example:
      >>> match_keys(np.array([5, 7, 9]), np.array([9, 5]), Path("train.npy")).tolist()
      [2, 0]
    """
    if np.array_equal(there[: len(wanted)], wanted):
        return slice(len(wanted))
    order = np.argsort(there, kind="stable")
    at = np.minimum(np.searchsorted(there[order], wanted), len(there) - 1)
    rows = order[at]
    if missing := int((there[rows] != wanted).sum()):
        raise DataError(
            f"{path} lacks {missing:,} of the {len(wanted):,} images of these data: it was made of "
            "another set, or with other data options: encode these into another folder"
        )
    return rows


class FeatureRows:
    """The rows of records of a part, which stay in their file until they are read.

    Args:
      file: all rows, of `row_type`.
      grid: rows and columns of tokens.
      rows: record to row.
    """

    def __init__(self, file: np.ndarray, grid: tuple[int, ...], rows: Mapping[int, int]):
        self.file, self.grid, self.rows = file, grid, rows

    def through(self, arrays: dict[str, Any], record: int) -> dict[str, Any]:
        """The arrays of a record, with features in place of pixels and regions as tokens see them.

        Args:
          arrays: as `record_arrays` makes them.
          record: its number.
        """
        own = self.file[self.rows[record]]
        coverage = seen_coverage(arrays["areas"], tuple(own["seen"]), self.grid)
        grounded = arrays["grounded"] & coverage.any(axis=-1)
        changed = {"images": own["features"], "coverage": coverage, "grounded": grounded}
        return arrays | changed


def seen_coverage(
    areas: Bool[np.ndarray, "O h w"], seen: Window, grid: tuple[int, ...]
) -> Float[np.ndarray, "O P"]:
    """The fraction of each token's window that an area covers: nothing of what none of them sees.

    Args:
      areas: over the whole picture.
      seen: the part of it that all tokens cover.
      grid: their rows and columns.

    Example:
      >>> left = np.array([[[True, True, False, False]]])
      >>> seen_coverage(left, (0.0, 0.25, 1.0, 1.0), (1, 3)).tolist()
      [[1.0, 0.0, 0.0]]
    """
    rows = _overlaps(areas.shape[1], seen[0], seen[2], grid[0])
    columns = _overlaps(areas.shape[2], seen[1], seen[3], grid[1])
    found = np.einsum("rh,ohw,cw->orc", rows, areas.astype(np.float64), columns, optimize=True)
    return np.clip(found, 0, 1).astype(np.float32).reshape(len(areas), -1)


def _overlaps(pixels: int, low: float, high: float, count: int) -> np.ndarray:
    """Share of each of `count` equal stretches from low to high that lies in each pixel."""
    edges = (low + (high - low) * np.arange(count + 1) / count) * pixels
    begins, ends = edges[:-1, None], edges[1:, None]
    at = np.arange(pixels)
    shared = np.minimum(ends, at + 1) - np.maximum(begins, at)
    return np.clip(shared, 0, None) / (ends - begins)


def through_encoder(dataset: Dataset, rows: Mapping[str, np.ndarray], grid: Any) -> Dataset:
    """The data as tokens see them: regions on their grid, and pictures as far as they are seen.

    Args:
      dataset: the data.
      rows: part to the rows (N,) of its images, of those that are held in memory.
      grid: rows and columns of tokens.
    """
    parts, draw, outline = {}, _by_part(dataset.draw), _by_part(dataset.outline)
    for name, own in rows.items():
        part = dataset.held[name]
        parts[name] = _seen_examples(dataset, name, part, own["seen"], own["features"], grid)
        size = grid[0] * CELL, grid[1] * CELL
        draw[name] = _cropped(dataset, name, own["seen"], size, masks=False)
        outline[name] = _cropped(dataset, name, own["seen"], size, masks=True)
    train = parts.pop("train", dataset.train)
    return dataclasses.replace(
        dataset, train=train, splits=parts, draw=draw, outline=outline, areas={}, window=1
    )


def _by_part(given: Any) -> dict[str, Any]:
    return dict(given) if isinstance(given, Mapping) else {}


def _seen_examples(
    dataset: Dataset, name: str, part: Examples, seen: Any, features: Any, grid: Any
) -> Examples:
    coverage = np.zeros((*part.coverage.shape[:2], grid[0] * grid[1]), np.float32)
    for image in range(len(coverage)):
        areas = dataset.whole_areas(image, name)
        coverage[image, : len(areas)] = seen_coverage(areas, tuple(seen[image]), grid)
    # Of what no token sees no word has a region.
    there = np.asarray(coverage.any(axis=-1))[part.image]
    places = part.places
    if places is not None:
        origin, side = seen[:, None, [0, 1, 0, 1]], np.tile(seen[:, 2:] - seen[:, :2], 2)[:, None]
        places = np.clip((places - origin) / side, 0, 1).astype(np.float32)
        places[(places[..., 2:] <= places[..., :2]).any(-1)] = np.nan
    return dataclasses.replace(
        part,
        images=features,
        coverage=coverage,
        grounded=part.grounded & there[:, None],
        grid=tuple(grid),
        places=places,
    )


def _cropped(dataset: Dataset, name: str, seen: Any, size: tuple[int, int], *, masks: bool) -> Any:
    """A function of image numbers, as `Dataset.draw` and `outline` have it."""
    whole = dataset.masks if masks else dataset.pictures
    resample = Image.Resampling.NEAREST if masks else Image.Resampling.BILINEAR

    def shown(chosen: np.ndarray) -> np.ndarray:
        found = []
        for number, picture in zip(np.asarray(chosen), whole(chosen, name), strict=True):
            h, w = picture.shape[:2]
            top, left, bottom, right = seen[number] * [h, w, h, w]
            scale = (right - left) / size[1], (bottom - top) / size[0]
            place = (scale[0], 0, left, 0, scale[1], top)
            image = Image.fromarray(np.asarray(picture, np.uint8))
            turned = image.transform(size[::-1], Image.Transform.AFFINE, place, resample)
            found.append(np.asarray(turned))
        return np.stack(found)

    return shown
