"""Examples as the JSON that the page reads: weights in 8 bits, pictures as data URIs."""

import base64
import io
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from crossattn.viewer.example import Example
from crossattn.viewer.markup import visible
from crossattn.viewer.outlines import covered_shares, outline_path

# Longest side of a picture on the page, and the bytes above which it is no PNG.
LONGEST, LARGEST_PNG = 640, 64_000
# Longest side of a picture whose pixels are shown as squares.
COARSE = 128
# Columns of a waveform.
COLUMNS = 400


def encode_runs(names: Sequence[str], runs: Sequence[Sequence[Example]]) -> dict[str, Any]:
    """Everything that the page shows, of one or two runs over the same examples.

    Pictures that several examples show are there once.
    """
    pictures: dict[str, int] = {}
    encoded = [
        {"name": visible(name), "examples": [_encode_example(one, pictures) for one in run]}
        for name, run in zip(names, runs, strict=True)
    ]
    return {"runs": encoded, "pictures": list(pictures)}


def _encode_example(example: Example, pictures: dict[str, int]) -> dict[str, Any]:
    picture = None
    if example.image is not None:
        picture = pictures.setdefault(data_uri(example.image), len(pictures))
    return {
        "words": [_shown(word) for word in example.words],
        "shape": example.weights.shape,
        "weights": pack_weights(example.weights),
        "kind": example.kind,
        "grid": example.grid,
        "picture": picture,
        "coarse": example.image is not None and max(example.image.shape) <= COARSE,
        "aspect": _aspect(example),
        "tokens": example.tokens and [_shown(token) for token in example.tokens],
        "seconds": example.seconds,
        "wave": None if example.waveform is None else _envelope(example.waveform),
        "caption": visible(example.caption),
        "readings": example.readings,
        "regions": _regions(example),
        "regionName": visible(example.region_name),
        "generated": example.generated,
        "answers": [
            {
                "hidden": visible(answer.hidden),
                "word": _shown(answer.word),
                "probability": float(answer.probability),
                "position": answer.position,
                "keys": [] if answer.keys is None else np.flatnonzero(answer.keys).tolist(),
            }
            for answer in example.answers
        ],
    }


def _shown(word: str) -> str:
    """A word that one can see and click."""
    return visible(word) if word.strip() else "␣" * max(1, len(word))


def _aspect(example: Example) -> float:
    """Width of the map for a height of 1."""
    size = example.grid if example.image is None else example.image.shape
    if example.image is None and example.regions is not None and example.regions.ndim == 3:
        size = example.regions.shape[1:]
    assert size is not None  # a checked example has a grid
    return size[1] / size[0]


def pack_weights(weights: np.ndarray) -> str:
    """Weights (L, H, T, S) as base64 of zlib of: bytes (L, H, T, S), peaks (L, H, T) in float32.

    A byte is the share of its row's largest weight, so a weight is off by peak / 510 at most,
    also where S is large and every weight small.

    Example:
      >>> packed = zlib.decompress(base64.b64decode(pack_weights(np.array([[[[0.5, 0.25]]]]))))
      >>> list(packed[:2]), np.frombuffer(packed[2:], "<f4").item()
      ([255, 128], 0.5)
    """
    peaks = weights.max(axis=-1, keepdims=True).astype("<f4")
    levels = np.rint(weights / np.where(peaks > 0, peaks, 1) * 255).astype(np.uint8)
    packed = zlib.compress(levels.tobytes() + peaks.tobytes())
    return base64.b64encode(packed).decode()


def data_uri(image: np.ndarray) -> str:
    """A picture (h, w, 3), uint8, of at most `LONGEST` pixels a side; photographs as JPEG.

    Example:
      >>> data_uri(np.zeros((4, 4, 3), np.uint8))[:22]
      'data:image/png;base64,'
    """
    picture = Image.fromarray(image)
    picture.thumbnail((LONGEST, LONGEST))
    kind, content = "png", _file(picture, "PNG", optimize=True)
    if len(content) > LARGEST_PNG:
        kind, content = "jpeg", _file(picture, "JPEG", quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _envelope(waveform: np.ndarray) -> list[int]:
    """The loudest sample of each column of the drawing, in percent of the loudest."""
    columns = np.array_split(np.abs(waveform), min(COLUMNS, len(waveform)))
    loudest = np.array([column.max() for column in columns])
    return np.rint(100 * loudest / (loudest.max() or 1)).astype(int).tolist()


def _regions(example: Example) -> list[dict[str, Any] | None]:
    """For each word the share of each key that lies in its region, and the outline to draw."""
    if example.regions is None:
        return [None] * len(example.words)
    return [_region(region, example) for region in example.regions]


def _region(region: np.ndarray, example: Example) -> dict[str, Any] | None:
    if not region.any():
        return None
    assert example.grid is not None  # a checked example has a grid
    if region.ndim == 2:
        shares, outline = covered_shares(region, example.grid).ravel(), region
    else:
        # Half of a key or more lies within, or as much as of any.
        shares, outline = region, (region >= min(0.5, region.max())).reshape(example.grid)
    height, width, path = outline_path(outline)
    keys = np.flatnonzero(shares)
    return {
        "keys": keys.tolist(),
        "shares": shares[keys].astype(float).round(3).tolist(),
        # Frames of a sound are outlined by the page.
        "size": [height, width] if example.kind == "grid" else list(example.grid),
        "path": path if example.kind == "grid" else "",
    }
