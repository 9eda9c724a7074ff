"""The order of training data: a pure function of seed and step, so that resuming is exact."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from crossattn.data.curriculum import ALL_TEXTS, Curriculum
from crossattn.data.examples import Examples
from crossattn.data.order import Order
from crossattn.data.packed_order import packed_places, read_words

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
        packed: (R, L) int32, the words of B / R neighbouring texts that stand in each row, see
            `packed_places`, or None where each text has a row of its own.
    """

    tokens: Any
    target: Any
    grounded: Any
    images: Any
    coverage: Any
    boxes: Any = None
    shown: Any = None
    packed: Any = None

    @property
    def units(self) -> int:
        """What a part of the batch has whole: images with their texts, or rows that they share."""
        return len(self.images if self.packed is None else self.packed)


class Picked(NamedTuple):
    """Which texts and pictures make a batch: what `gather` and `flip` need beside the examples.

    Attributes:
        rows: (B,) int32, texts.
        flipped: (I,) bool, pictures to mirror; None where none ever is.
        pictures: (I,) int32, which picture stands with the texts; None where it is always theirs.
        packed: as that of `Batch`.
    """

    rows: Any
    flipped: Any = None
    pictures: Any = None
    packed: Any = None


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


@runtime_checkable
class PackedRecords(TrainingRecords, Protocol):
    """Training data that are read while a run trains, whose texts can share rows."""

    def drawn_packed(
        self, size: int, texts_per_image: int, seed: int, share: Share, packing: int
    ) -> Drawn:
        """Batches in which the texts of `packing` images share a row."""


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
        packing: images whose texts share a row; 0: each text has a row of its own.
        share: the part of each batch that this process reads.

    Raises:
        ValueError: the images do not fill one batch, pictures give way in batches of one picture or
            of data that are read while a run trains, or such data cannot share rows.
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
        packing: int = 0,
        share: Share = WHOLE,
    ):
        self.train, self.seed, self.flip, self.share = train, seed, flip, share
        asked = size, texts_per_image, seed, share
        if isinstance(train, Examples):
            sizes = {"batch_size": size, "texts_per_image": texts_per_image, "seed": seed}
            order = curriculum.order(train, packing=packing, **sizes)
            self.drawn: Drawn = _InMemory(train, order, asked, packing, mismatched)
        elif mismatched:
            raise ValueError("data.mismatched is for data that are held in memory")
        elif not packing:
            self.drawn = train.drawn(*asked)
        elif isinstance(train, PackedRecords):
            self.drawn = train.drawn_packed(*asked, packing)
        else:
            raise ValueError(
                "data.packing: these data are read while a run trains and have no drawn_packed: "
                "set it to 0"
            )

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
        pictures, packed = self.drawn.pictures(step), self.drawn.packed(rows)
        return Picked(rows.astype(np.int32), flipped, pictures, packed)

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
    def __init__(
        self,
        examples: Examples,
        order: Any,
        asked: tuple[int, int, int, Share],
        packing: int,
        mismatched: float,
    ):
        if mismatched and order.images_per_batch < 2:
            raise ValueError("data.mismatched needs batches of at least two images")
        self.examples, self.order, (_, self.texts, _, self.share) = examples, order, asked
        self.mismatched, self.position, self.packing = mismatched, order.position, packing
        self.words = read_words(examples.target) if packing else None

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

    def packed(self, rows: np.ndarray) -> np.ndarray | None:
        """Which words of these texts stand at each place of the rows that they share."""
        if self.words is None:
            return None
        length = self.examples.tokens.shape[1] - 1
        count = len(rows) // (self.texts * self.packing)
        return packed_places(self.words[rows], count, self.order.width, length)

    def batch(self, step: int) -> Arrays:
        rows, pictures = self.rows(step), self.pictures(step)
        arrays = gather(self.examples, rows, texts_per_image=self.texts, pictures=pictures)
        return arrays | {"packed": self.packed(rows)}

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
