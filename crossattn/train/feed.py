"""What a training run is fed with: batches in an order that the seed decides."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from crossattn.data.batches import Order, flip, gather
from crossattn.data.examples import Examples
from crossattn.data.tfds.stream import RecordStream
from crossattn.train.run import Run
from crossattn.train.step import Batch


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


class Feed:
    """The batches of one seed of a run, each a pure function of the step."""

    def __init__(self, run: Run, examples: Examples, seed: int, share: Share = WHOLE):
        self.run, self.examples, self.seed, self.share = run, examples, seed, share
        self.learning_rate = np.float32(run.optimizer.learning_rate)
        self.order = Order(
            examples.image,
            batch_size=run.batch_size,
            texts_per_image=run.data.texts_per_image,
            seed=seed,
        )

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        texts = self.run.data.texts_per_image
        # The texts of an image are neighbours, and a share holds whole images.
        rows = self.share.cut(self.order.rows(step))
        arrays = gather(self.examples, rows, texts_per_image=texts)
        if self.run.data.flip:
            arrays = flip(arrays, self.examples.grid, self._mirrored(step, len(arrays["images"])))
        return Batch(**arrays)

    def _mirrored(self, step: int, images: int) -> np.ndarray:
        every = np.random.default_rng((self.seed, 1, step)).random(images * self.share.parts)
        return self.share.cut(every) < 0.5

    def batches(self, start: int) -> Iterator[Batch]:
        """All batches from a step on, without end."""
        return map(self.batch, itertools.count(start))

    def position(self, step: int) -> dict[str, int]:
        """Where the data stand before a step, as checkpoints record it."""
        return self.order.position(step)


class StreamFeed(Feed):
    """The batches of one seed of a run from data that are read while it trains."""

    def __init__(
        self,
        run: Run,
        stream: RecordStream,
        grid: tuple[int, int],
        seed: int,
        share: Share = WHOLE,
    ):
        self.run, self.stream, self.grid = run, stream, grid
        self.seed, self.share = seed, share
        self.learning_rate = np.float32(run.optimizer.learning_rate)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        return self._finish(step, self.stream.batch(step))

    def batches(self, start: int) -> Iterator[Batch]:
        """All batches from a step on, without end, read ahead by threads."""
        return map(self._finish, itertools.count(start), self.stream.batches(start))

    def position(self, step: int) -> dict[str, int]:
        """Where the data stand before a step, as checkpoints record it."""
        return self.stream.position(step)

    def _finish(self, step: int, arrays: dict[str, np.ndarray]) -> Batch:
        if self.run.data.flip:
            arrays = flip(arrays, self.grid, self._mirrored(step, len(arrays["images"])))
        return Batch(**arrays)
