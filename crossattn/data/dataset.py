"""What a run learns from and is judged by: what every source of data loads."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from crossattn.data.batches import TrainingRecords
from crossattn.data.errors import DataError
from crossattn.data.examples import Examples
from crossattn.data.originals import Originals, keys_of_pixels
from crossattn.data.samples import PartSample, draw_sample

__all__ = ["CELL", "Dataset"]

# Side of the cells that image encoders read, in pixels.
CELL = 8
# Image numbers (n,) to values (n, h, w, ...) of their pixels.
Painted = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training examples and evaluation splits; the same for all variants and seeds of a suite.

    Attributes:
        train: examples to learn from, held in memory or read while a run trains.
        splits: evaluation splits; "validation" chooses layers (and learning rates), "swap" holds
            pairs in the order of `scenes`.
        main: the split on which attention, causal use and captions are measured.
        draw: image numbers (n,) of the main split to pixels (n, h, w, 3) in uint8, or such a
            function for each of several parts ("train" and splits). Where not given, the images
            themselves, or grey pictures of the regions where these are features.
        outline: image numbers (n,) to pixels (n, h, w): 0 ground, o + 1 for region o; of the main
            split, or for each of several parts. Where not given, the patches that each region
            covers most.
        window: cells along a side of what a patch sees; patches overlap where it is over 1.
        notes: what a reader of a report must know of these data, in sentences.
        fingerprint: of what was read, for a source with the setting `fingerprint`: data on the disk
            may change between two commands.
        about: what the pictures and the texts are, in sentences, for readers of a report.
        parts_about: part to a sentence on what it holds, and how that differs from training.
        sample: some training examples, to show one where `train` is read while a run trains.
        originals: part to the pictures or recordings behind its images, where these are not
            already what `draw` gives.
        areas: part to a function of the number of an image, to the pixels (O, h, w) bool of its
            regions, where these may overlap.
    """

    train: Examples | TrainingRecords
    splits: dict[str, Examples]
    main: str
    draw: Painted | Mapping[str, Painted] | None = None
    outline: Painted | Mapping[str, Painted] | None = None
    window: int = 1
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    about: str = ""
    parts_about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sample: Examples | None = None
    originals: Mapping[str, Originals] = dataclasses.field(default_factory=dict)
    areas: Mapping[str, Callable[[int], np.ndarray]] = dataclasses.field(default_factory=dict)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words, by token."""
        return self.splits[self.main].vocabulary

    @property
    def trained(self) -> int:
        """Number of images to train on."""
        return len(self.train.images if isinstance(self.train, Examples) else self.train)

    @functools.cached_property
    def samples(self) -> tuple[PartSample, ...]:
        """An example of each part that is held in memory, training first."""
        return tuple(
            draw_sample(
                name,
                part,
                functools.partial(self.pictures, part=name),
                functools.partial(self.masks, part=name),
            )
            for name, part in self.held.items()
        )

    def describe(self) -> dict[str, Any]:
        """What the data are, as results.json has it: in words, and how many pictures and texts."""
        parts: dict[str, Any] = {"train": {"images": self.trained, "texts": {}}}
        if isinstance(self.train, Examples):
            parts["train"]["texts"] = self.train.counts()
        for name, part in self.splits.items():
            parts[name] = {"images": len(np.unique(part.image)), "texts": part.counts()}
        for name, said in parts.items():
            said["about"] = self.parts_about.get(name, "")
        return {"about": self.about, "parts": parts}

    def pictures(self, images: np.ndarray, part: str = "") -> np.ndarray:
        """Pixels (n, h, w, 3) in uint8 of images of a part, of the main split if none is named."""
        if (draw := self._painted(self.draw, part)) is not None:
            return draw(images)
        examples = self.held[part or self.main]
        if examples.images.dtype == np.uint8:
            return examples.images[images]
        grey = np.clip(examples.coverage[images].sum(axis=1), 0, 1) * 255
        return np.repeat(self._over_cells(grey.astype(np.uint8))[..., None], 3, axis=-1)

    def masks(self, images: np.ndarray, part: str = "") -> np.ndarray:
        """Regions (n, h, w) of images of a part: 0 ground, o + 1 for region o."""
        if (outline := self._painted(self.outline, part)) is not None:
            return outline(images)
        examples = self.held[part or self.main]
        coverage = examples.coverage[images]
        most = np.where(coverage.max(axis=1) >= examples.covered, coverage.argmax(axis=1) + 1, 0)
        return self._over_cells(most)

    def original(self, part: str) -> Originals:
        """What is behind the images of a part, for an encoder to read.

        Raises:
            DataError: the source gives no pictures.
        """
        if part in self.originals:
            return self.originals[part]
        held = self.held.get(part)
        drawn = self._painted(self.draw, part) is not None
        if held is None or not (drawn or held.images.dtype == np.uint8):
            raise DataError(f"the source of these data gives no pictures of {part} to encode")
        draw = functools.partial(self.pictures, part=part)
        keys = keys_of_pixels(draw, len(held.images))
        return Originals(keys, lambda number: draw(np.array([number]))[0])

    def whole_areas(self, image: int, part: str) -> np.ndarray:
        """Pixels (O, h, w) bool of the regions of an image of a part."""
        if part in self.areas:
            return self.areas[part](image)
        things = self.held[part].coverage.shape[1]
        return self.masks(np.array([image]), part) == 1 + np.arange(things)[:, None, None]

    @property
    def held(self) -> dict[str, Examples]:
        """The parts that are held in memory; of training perhaps a sample."""
        train = self.train if isinstance(self.train, Examples) else self.sample
        return ({} if train is None else {"train": train}) | self.splits

    def _painted(self, given: Painted | Mapping[str, Painted] | None, part: str) -> Painted | None:
        """What the source has given for a part."""
        part = part or self.main
        if isinstance(given, Mapping):
            return given.get(part)
        return given if part == self.main else None

    def _over_cells(self, patches: np.ndarray) -> np.ndarray:
        """Values (n, P) of patches as pixels (n, h, w)."""
        square = patches.reshape(-1, *self.splits[self.main].grid)
        more = self.window - 1
        return (
            np.pad(square, ((0, 0), (0, more), (0, more)), "edge").repeat(CELL, 1).repeat(CELL, 2)
        )

    def cut(self) -> "Dataset":
        """The texts cut to the length that they need, where all are held in memory."""
        if not isinstance(self.train, Examples):
            return self
        every = (self.train, *self.splits.values())
        length = 1 + max(int(np.flatnonzero(part.target.any(axis=0))[-1]) for part in every)
        splits = {name: part.cut(length) for name, part in self.splits.items()}
        return dataclasses.replace(self, train=self.train.cut(length), splits=splits)

    def check(self, *, pixels: bool | None, boxes: bool) -> None:
        """Make sure that the parts can be used, and belong together.

        Args:
            pixels: whether images must be pixels or else features of patches; None takes any.
            boxes: whether boxes must be there.

        Raises:
            ValueError: names the part and what is wrong with it.
        """
        for name in ("validation", self.main):
            if name not in self.splits:
                raise ValueError(f"it has no split {name!r}; it has {', '.join(self.splits)}")
        train = [("train", self.train)] if isinstance(self.train, Examples) else []
        whole = self.splits[self.main]
        for name, part in (*train, *self.splits.items()):
            try:
                part.check()
                _check_images(part, self.window, pixels)
                for field in ("vocabulary", "groups", "grid"):
                    if getattr(part, field) != getattr(whole, field):
                        raise ValueError(f"its {field} is not that of {self.main}")
                if boxes and part.boxes is None:
                    raise ValueError("it has no boxes")
                if name not in ("train", "swap"):
                    _check_chance(part)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        for name in (self.main, *(name for name in self.held if name != self.main)):
            self._check_shown(name)

    def _check_shown(self, part: str) -> None:
        shown = np.arange(1)
        picture, mask = self.pictures(shown, part), self.masks(shown, part)
        if picture.dtype != np.uint8 or picture.shape != (*mask.shape, 3):
            where = "" if part == self.main else f"{part}: "
            raise ValueError(
                f"{where}pictures are {picture.dtype} {picture.shape} beside masks {mask.shape}: "
                "expected uint8 (n, height, width, 3) beside (n, height, width)"
            )


def _check_images(part: Examples, window: int, pixels: bool | None) -> None:
    """Images are what their encoder reads, and have the patches that `coverage` is about."""
    images = part.images
    found = f"images are {images.dtype} {images.shape}"
    if pixels:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"{found}, this encoder reads pixels: uint8 (N, height, width, 3)")
        grid = tuple(side // CELL - window + 1 for side in images.shape[1:3])
        if any(side % CELL for side in images.shape[1:3]) or grid != part.grid:
            raise ValueError(
                f"{found}: windows of {window} cells of {CELL} x {CELL} pixels make a grid of "
                f"{grid[0]} x {grid[1]} patches, coverage has {part.grid[0]} x {part.grid[1]}"
            )
    elif pixels is False and (images.ndim != 3 or images.dtype != np.float32):
        raise ValueError(f"{found}, this encoder reads features of patches: float32 (N, P, F)")
    elif pixels is False and images.shape[1] != part.coverage.shape[-1]:
        raise ValueError(f"{found}, coverage has {part.coverage.shape[-1]} patches")


def _check_chance(part: Examples) -> None:
    for kind in np.unique(part.kind[part.answer > 0]):
        if part.kinds[kind] not in part.chance:
            raise ValueError(f"chance lacks {part.kinds[kind]!r}, whose rows have answers")
