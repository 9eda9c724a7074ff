"""The order of training data: a pure function of seed and step, so that resuming is exact."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from crossattn.data.curriculum import ALL_TEXTS, Curriculum
from crossattn.data.examples import Examples
from crossattn.data.order import Order

__all__ = [
    "WHOLE",
    "Batch",
    "Batches",
    "Order",
    "Picked",
    "Share",
    "TrainingRecords",
    "flip",
    "gather",
]

Arrays = dict[str, Any]


class Batch(NamedTuple):
    """Texts over images; B = I times the texts per image, the texts of an image being neighbours.

    Attributes:
        tokens: (B, T) int32, 0 is padding.
        target: (B, T) bool, words that the model must predict.
        grounded: (B, T, O) bool, regions that each word refers to.
        images: (I, P, F) float32 or (I, h, w, 3) uint8.
        coverage: (I, O, P) float32, share of each patch that each region covers.
        boxes: (I, O, 3) float32, place and size of each region, or None: see `Examples`.
        shown: (I, P) bool, patches that show the picture, or None where all do.
    """

    tokens: Any
    target: Any
    grounded: Any
    images: Any
    coverage: Any
    boxes: Any = None
    shown: Any = None


class Picked(NamedTuple):
    """Which texts and pictures make a batch: what `gather` and `flip` need beside the examples.

    Attributes:
        rows: (B,) int32, texts.
        flipped: (I,) bool, pictures to mirror; None where none ever is.
        pictures: (I,) int32, which picture stands with the texts; None where it is always theirs.
    """

    rows: Any
    flipped: Any = None
    pictures: Any = None


class Share(NamedTuple):
    """Which of several equal parts of each batch a process reads: all of it where it is alone."""

    part: int = 0
    parts: int = 1

    def cut(self, rows: np.ndarray) -> np.ndarray:
        """This share of what stands along the first axis.

        Example:
            >>> Share(1, 3).cut(np.arange(6)).tolist()
            [2, 3]
        """
        size = len(rows) // self.parts
        return rows[self.part * size : (self.part + 1) * size]


WHOLE = Share()


@runtime_checkable
class Drawn(Protocol):
    """Batches of one order, as the arrays of `Batch`."""

    def batch(self, step: int) -> Arrays:
        """Those of a step."""

    def batches(self, start: int) -> Iterator[Arrays]:
        """Those from a step on, without end."""

    def position(self, step: int) -> dict[str, int]:
        """Epoch and batch of a step, as checkpoints record it."""


@runtime_checkable
class TrainingRecords(Protocol):
    """Training data that are read while a run trains, as many images as its length says."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""

    def __len__(self) -> int: ...

    def drawn(self, size: int, texts_per_image: int, seed: int, share: Share) -> Drawn:
        """Batches in the order of a seed; a ValueError where none is filled."""


class Batches:
    """The training batches of one seed, each a pure function of the step.

    Args:
        train: where they are drawn from.
        size: texts of a batch, over all processes.
        texts_per_image: of these, those of each image.
        seed: of the order.
        flip: whether half of the pictures are mirrored from left to right, at random.
        mismatched: share of the pictures that give way to another one of the batch, at random.
        curriculum: which texts are learned, and when.
        share: the part of each batch that this process reads.

    Raises:
        ValueError: the images do not fill one batch, or pictures give way in batches of one picture
            or of data that are read while a run trains.
    """

    def __init__(
        self,
        train: Examples | TrainingRecords,
        size: int,
        *,
        texts_per_image: int,
        seed: int,
        flip: bool = False,
        mismatched: float = 0.0,
        curriculum: Curriculum = ALL_TEXTS,
        share: Share = WHOLE,
    ):
        self.train, self.seed, self.flip, self.share = train, seed, flip, share
        if isinstance(train, Examples):
            sizes = {"batch_size": size, "texts_per_image": texts_per_image, "seed": seed}
            order = curriculum.order(train, **sizes)
            self.drawn: Drawn = _InMemory(train, order, texts_per_image, share, mismatched)
        elif mismatched:
            raise ValueError("data.mismatched is for data that are held in memory")
        else:
            self.drawn = train.drawn(size, texts_per_image, seed, share)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        return self._finish(step, self.drawn.batch(step))

    def batches(self, start: int) -> Iterator[Batch]:
        """All batches from a step on, without end."""
        return map(self._finish, itertools.count(start), self.drawn.batches(start))

    def position(self, step: int) -> dict[str, int]:
        """Where the data stand before a step, as checkpoints record it."""
        return self.drawn.position(step)

    def picked(self, step: int) -> Picked:
        """Which texts stand in the batch of a step, of data that are held in memory.

        Raises:
            TypeError: the data are read while a run trains.
        """
        if not isinstance(self.drawn, _InMemory):
            raise TypeError("data that are read while a run trains have no rows to pick")
        rows = self.drawn.rows(step)
        flipped = self._flipped(step, len(rows) // self.drawn.texts) if self.flip else None
        return Picked(rows.astype(np.int32), flipped, self.drawn.pictures(step))

    def _finish(self, step: int, arrays: Arrays) -> Batch:
        if self.flip:
            chosen = self._flipped(step, len(arrays["images"]))
            arrays = flip(arrays, self.train.grid, chosen)
        return Batch(**arrays)

    def _flipped(self, step: int, images: int) -> np.ndarray:
        """Which of this process's pictures of a step are mirrored."""
        every = images * self.share.parts
        return self.share.cut(np.random.default_rng((self.seed, 1, step)).random(every) < 0.5)


class _InMemory:
    def __init__(self, examples: Examples, order: Any, texts: int, share: Share, mismatched: float):
        if mismatched and order.images_per_batch < 2:
            raise ValueError("data.mismatched needs batches of at least two images")
        self.examples, self.order, self.texts, self.share = examples, order, texts, share
        self.mismatched, self.position = mismatched, order.position

    def rows(self, step: int) -> np.ndarray:
        # The texts of an image are neighbours, and a share holds whole images.
        return self.share.cut(self.order.rows(step))

    def pictures(self, step: int) -> np.ndarray | None:
        """Which pictures stand with the texts of a step; a chosen one gives way to another."""
        if not self.mismatched:
            return None
        own = self.examples.image[self.order.rows(step)[:: self.texts]]
        rng = np.random.default_rng((self.order.seed, 2, step))
        chosen = rng.random(len(own)) < self.mismatched
        other = np.roll(own, rng.integers(1, len(own)))
        return self.share.cut(np.where(chosen, other, own).astype(np.int32))

    def batch(self, step: int) -> Arrays:
        texts, pictures = self.texts, self.pictures(step)
        return gather(self.examples, self.rows(step), texts_per_image=texts, pictures=pictures)

    def batches(self, start: int) -> Iterator[Arrays]:
        return map(self.batch, itertools.count(start))


def gather(examples: Any, rows: Any, *, texts_per_image: int = 1, pictures: Any = None) -> Arrays:
    """Arrays of the chosen texts; every `texts_per_image` neighbours share one image.

    Args:
        examples: `Examples`, or an object with arrays of JAX under the same names.
        rows: (B,) whole numbers.
        texts_per_image: by which B divides.
        pictures: (I,) those that stand with the texts; in one that is not theirs words have no
            region. Theirs when None.
    """
    image, grounded = examples.image[rows[::texts_per_image]], examples.grounded[rows]
    if pictures is not None:
        theirs = (image == pictures).repeat(texts_per_image)
        image, grounded = pictures, grounded & theirs[:, None, None]
    return {
        "tokens": examples.tokens[rows],
        "target": examples.target[rows],
        "grounded": grounded,
        "images": examples.images[image],
        "coverage": examples.coverage[image],
        "boxes": None if examples.boxes is None else examples.boxes[image],
        "shown": None if examples.shown is None else examples.shown[image],
    }


def flip(
    batch: Arrays, grid: tuple[int, int], chosen: Any, where: Callable[..., Any] = np.where
) -> Arrays:
    """Mirror the chosen pictures (I,) bool from left to right, and their regions with them.

    `where` is that of the library that the arrays are of.
    """
    images, coverage = batch["images"], batch["coverage"]
    mirrored = coverage.reshape(*coverage.shape[:2], *grid)[..., ::-1].reshape(coverage.shape)
    return {
        **batch,
        "images": where(chosen[:, None, None, None], images[:, :, ::-1], images),
        "coverage": where(chosen[:, None, None], mirrored, coverage),
    }
