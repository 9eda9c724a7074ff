"""The order of training data: a pure function of seed and step, so that resuming is exact."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from crossattn.data.examples import Examples

__all__ = ["WHOLE", "Batch", "Batches", "Order", "Share", "TrainingRecords", "flip", "gather"]

Arrays = dict[str, np.ndarray]


class Batch(NamedTuple):
    """Texts over images; B = I times the texts per image, the texts of an image being neighbours.

    Attributes:
        tokens: (B, T) int32, 0 is padding.
        target: (B, T) bool, words that the model must predict.
        grounded: (B, T, O) bool, regions that each word refers to.
        images: (I, P, F) float32 or (I, h, w, 3) uint8.
        coverage: (I, O, P) float32, share of each patch that each region covers.
        boxes: (I, O, 3) float32, place and size of each region, or None: see `Examples`.
    """

    tokens: Any
    target: Any
    grounded: Any
    images: Any
    coverage: Any
    boxes: Any = None


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
        share: the part of each batch that this process reads.

    Raises:
        ValueError: the images do not fill one batch.
    """

    def __init__(
        self,
        train: Examples | TrainingRecords,
        size: int,
        *,
        texts_per_image: int,
        seed: int,
        flip: bool = False,
        share: Share = WHOLE,
    ):
        self.train, self.seed, self.flip, self.share = train, seed, flip, share
        if isinstance(train, Examples):
            self.drawn: Drawn = _InMemory(train, size, texts_per_image, seed, share)
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

    def _finish(self, step: int, arrays: Arrays) -> Batch:
        if self.flip:
            every = len(arrays["images"]) * self.share.parts
            chosen = np.random.default_rng((self.seed, 1, step)).random(every) < 0.5
            arrays = flip(arrays, self.train.grid, self.share.cut(chosen))
        return Batch(**arrays)


class Order:
    """Which texts stand in the batch of a step.

    Images are visited in a new random order in each epoch; of every image `texts_per_image`
    different texts are drawn (repeated where it has fewer). What is left of an epoch when no whole
    batch remains is dropped. Nothing is kept but the current epoch's order, so that a step can be
    asked for in any sequence.

    Example:
      >>> order = Order(np.array([0, 0, 1, 1, 2, 2]), batch_size=4, texts_per_image=2, seed=0)
      >>> rows = order.rows(7)
      >>> rows.shape, order.position(7)
      ((4,), {'epoch': 7, 'batch': 0})
    """

    def __init__(self, image: np.ndarray, *, batch_size: int, texts_per_image: int, seed: int):
        self.image, self.seed = image, seed
        self.texts, self.images_per_batch = texts_per_image, batch_size // texts_per_image
        self.images, self.counts = np.unique(image, return_counts=True)
        self.batches = len(self.images) // self.images_per_batch
        if self.batches == 0:
            raise ValueError(
                f"{len(self.images)} images do not fill one batch of {self.images_per_batch} "
                "images: lower batch_size or raise data.images"
            )
        self.epoch, self.drawn = -1, np.zeros((0, texts_per_image), np.int64)

    def position(self, step: int) -> dict[str, int]:
        """Epoch and batch of a step, as checkpoints record it."""
        return {"epoch": step // self.batches, "batch": step % self.batches}

    def rows(self, step: int) -> np.ndarray:
        """Text rows (batch_size,) of a step."""
        epoch, batch = step // self.batches, step % self.batches
        if epoch != self.epoch:
            self.epoch, self.drawn = epoch, self._draw(epoch)
        start = batch * self.images_per_batch
        return self.drawn[start : start + self.images_per_batch].reshape(-1)

    def _draw(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng((self.seed, epoch))
        # Rows sorted by image, shuffled within each image: its first texts are a random choice.
        rows = np.lexsort((random.random(len(self.image)), self.image))
        first = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        chosen = first[:, None] + np.arange(self.texts)[None, :] % self.counts[:, None]
        return rows[chosen][random.permutation(len(self.images))]


class _InMemory:
    def __init__(self, examples: Examples, size: int, texts: int, seed: int, share: Share):
        self.examples, self.texts, self.share = examples, texts, share
        self.order = Order(examples.image, batch_size=size, texts_per_image=texts, seed=seed)
        self.position = self.order.position

    def batch(self, step: int) -> Arrays:
        # The texts of an image are neighbours, and a share holds whole images.
        rows = self.share.cut(self.order.rows(step))
        return gather(self.examples, rows, texts_per_image=self.texts)

    def batches(self, start: int) -> Iterator[Arrays]:
        return map(self.batch, itertools.count(start))


def gather(examples: Examples, rows: np.ndarray, *, texts_per_image: int = 1) -> Arrays:
    """Arrays of the chosen texts; every `texts_per_image` neighbours share one image."""
    image = examples.image[rows[::texts_per_image]]
    return {
        "tokens": examples.tokens[rows],
        "target": examples.target[rows],
        "grounded": examples.grounded[rows],
        "images": examples.images[image],
        "coverage": examples.coverage[image],
        "boxes": None if examples.boxes is None else examples.boxes[image],
    }


def flip(batch: Arrays, grid: tuple[int, int], chosen: np.ndarray) -> Arrays:
    """Mirror the chosen pictures (I,) bool from left to right, and their regions with them."""
    images, coverage = batch["images"].copy(), batch["coverage"].copy()
    images[chosen] = images[chosen][:, :, ::-1]
    shape = (-1, coverage.shape[1], *grid)
    coverage[chosen] = coverage[chosen].reshape(shape)[..., ::-1].reshape(-1, *coverage.shape[1:])
    return {**batch, "images": images, "coverage": coverage}
