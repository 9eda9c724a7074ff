"""How a published model wants its pictures: resized, cropped, rescaled, normalised."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from crossattn.interop.files import WeightsError
from crossattn.pretrained.checkpoint import Checkpoint

__all__ = ["ImageProcessor"]

Size = tuple[int, int]
BILINEAR, BICUBIC = 2, 3
# The longest side of a picture that is shown, not read, and of one that is read.
SHOWN, LARGEST = 768, 10_000


@dataclasses.dataclass(frozen=True)
class ImageProcessor:
    """The steps of preprocessor_config.json, as the slow processors of transformers take them.

    Attributes:
      size: (height, width) to which a picture is resized; None leaves it as it is.
      shortest: to which the shorter side is resized instead, with the aspect kept.
      crop: (height, width) of the middle that is kept; black is put around smaller pictures.
      resample: the filter, as Pillow numbers them: 2 bilinear, 3 bicubic.
      factor: by which values 0 to 255 are multiplied.
      mean, std: of each colour, taken away and divided by.

    Example:
      >>> process = ImageProcessor(size=(4, 6), mean=(0.5,) * 3, std=(0.5,) * 3)
      >>> pixels = process(np.full((9, 9, 3), 255, np.uint8))
      >>> pixels.shape, float(pixels.min())
      ((4, 6, 3), 1.0)
    """

    size: Size | None = None
    shortest: int | None = None
    crop: Size | None = None
    resample: int = BICUBIC
    factor: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "ImageProcessor":
        """That of a folder: its preprocessor_config.json, or its part of processor_config.json.

        Raises:
          WeightsError: there is none, or it asks for what is not done here.
        """
        found = checkpoint.preprocessing
        if not found:
            processor = checkpoint.settings("processor_config.json", missing={})
            found = processor.get("image_processor") or {}
        if not found:
            raise WeightsError(f"{checkpoint.where} has no preprocessor_config.json")
        try:
            return cls(**_steps(found))
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{checkpoint.where}/preprocessor_config.json is not understood: {error}"
            ) from None

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "H W 3"]:
        """The pixels that a tower reads, float32."""
        pixels = (self.fitted(image).astype(np.float64) * self.factor).astype(np.float32)
        mean, std = (np.asarray(one, np.float32) for one in (self.mean, self.std))
        return (pixels - mean) / std

    def fitted(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Resized and cropped.

        Raises:
          ValueError: the picture is something else.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            found = f"{image.dtype} of shape {image.shape}"
            raise ValueError(f"a picture is (h, w, 3), uint8, got {found}")
        h, w = image.shape[:2]
        if (size := self._resized_to(h, w)) != (h, w):
            image = _resized(image, size, self.resample)
        return image if self.crop is None else _cropped(image, self.crop)

    def window(self, size: Size, kept: Size) -> tuple[float, float, float, float]:
        """Where in a picture the first pixels that a tower reads lie: y, x, y, x in shares of it.

        Args:
          size: height and width of the picture.
          kept: rows and columns of what `fitted` gives, from the upper left on.

        Returns:
          Below 0 and above 1 where black is put around the picture.

        Example:
          >>> ImageProcessor(shortest=10, crop=(10, 10)).window((20, 40), (8, 10))
          (0.0, 0.25, 0.8, 0.75)
        """
        resized = self._resized_to(*size)
        corner = [0, 0]
        if self.crop is not None:
            corner = [_corner(*sides) for sides in zip(resized, self.crop, strict=True)]
        (top, left), (h, w) = corner, resized
        return top / h, left / w, (top + kept[0]) / h, (left + kept[1]) / w

    def _resized_to(self, h: int, w: int) -> Size:
        if self.shortest is None:
            return self.size or (h, w)
        longer = int(self.shortest * max(h, w) / min(h, w))
        size = (self.shortest, longer) if h <= w else (longer, self.shortest)
        if longer > LARGEST:
            made = f"it would become {size[0]} x {size[1]}, expected at most {LARGEST} a side"
            raise ValueError(f"a picture of {h} x {w} pixels is too thin: {made}: crop it")
        return size

    def shown(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """What of a picture a model sees, for people: as it is where nothing is cut off."""
        image = image if self.crop is None else self.fitted(image)
        h, w = image.shape[:2]
        if max(h, w) <= SHOWN:
            return image
        scale = SHOWN / max(h, w)
        return _resized(image, (max(1, round(h * scale)), max(1, round(w * scale))), BICUBIC)


def _steps(found: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an `ImageProcessor`."""
    kind = str(found.get("image_processor_type") or found.get("feature_extractor_type"))
    for step in ("do_pad", "do_convert_grayscale", "do_flip_channel_order"):
        if found.get(step):
            raise ValueError(f"{step} is true, and is not done here")
    steps: dict[str, Any] = {}
    resample = found.get("resample")
    if resample is None:  # what the classes take
        resample = BILINEAR if kind.startswith("ViT") else BICUBIC
    steps["resample"] = int(Image.Resampling(resample))
    if found.get("do_resize", True):
        steps |= _size(found["size"], kind)
    if found.get("do_center_crop", False):
        crop = found["crop_size"]
        sides = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
        steps["crop"] = _sides(*sides)
    scaled = found.get("do_rescale", True)
    steps["factor"] = float(found.get("rescale_factor") or 1 / 255) if scaled else 1.0
    if found.get("do_normalize", True):
        steps |= {"mean": tuple(found["image_mean"]), "std": tuple(found["image_std"])}
        numbers = np.array([steps["mean"], steps["std"]], np.float64)
        if numbers.shape != (2, 3) or not np.isfinite(numbers).all() or not (numbers[1] > 0).all():
            raise ValueError("image_mean and image_std are 3 numbers each, these above 0")
    return steps


def _size(size: Any, kind: str) -> dict[str, Any]:
    """Of a number, CLIP means the shorter side, all others both."""
    if isinstance(size, int):
        size = (
            {"shortest_edge": size} if kind.startswith("CLIP") else {"height": size, "width": size}
        )
    if "shortest_edge" in size and "longest_edge" not in size:
        return {"shortest": _sides(size["shortest_edge"])[0]}
    if "height" in size and "width" in size:
        return {"size": _sides(size["height"], size["width"])}
    raise ValueError(f"size {size}: a height and a width, or a shortest_edge alone, are known")


def _sides(*sides: Any) -> Any:
    """Numbers of pixels."""
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= LARGEST:
            raise ValueError(f"a side of {side!r} pixels: expected 1 to {LARGEST}")
    return sides


def _resized(image: np.ndarray, size: Size, resample: int) -> np.ndarray:
    height, width = size
    picture = Image.fromarray(image).resize((width, height), Image.Resampling(resample))
    return np.asarray(picture)


def _cropped(image: np.ndarray, crop: Size) -> np.ndarray:
    """The middle, as transformers rounds it; black around what is smaller."""
    top, left = (_corner(*sides) for sides in zip(image.shape[:2], crop, strict=True))
    (h, w), (height, width) = image.shape[:2], crop
    kept = np.zeros((height, width, 3), image.dtype)
    inside = image[max(0, top) : min(h, top + height), max(0, left) : min(w, left + width)]
    above, beside = max(0, -top), max(0, -left)
    kept[above : above + inside.shape[0], beside : beside + inside.shape[1]] = inside
    return kept


def _corner(side: int, crop: int) -> int:
    """Where the middle of a side begins; below 0 where the side is shorter."""
    above = -(-max(0, crop - side) // 2)
    return (max(side, crop) - crop) // 2 - above
