"""What a training run is fed with: batches in an order that the seed decides."""

import itertools
from collections.abc import Iterator

import numpy as np

from crossattn.data.batches import Order, flip, gather
from crossattn.data.examples import Examples
from crossattn.data.tfds_stream import Stream
from crossattn.train.run import Run
from crossattn.train.step import Batch


class Feed:
    """The batches of one seed of a run, each a pure function of the step."""

    def __init__(self, run: Run, examples: Examples, seed: int):
        self.run, self.examples, self.seed = run, examples, seed
        self.learning_rate = np.float32(run.optimiser.learning_rate)
        self.order = Order(
            examples.image,
            batch_size=run.batch_size,
            texts_per_image=run.data.texts_per_image,
            seed=seed,
        )

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        texts = self.run.data.texts_per_image
        arrays = gather(self.examples, self.order.rows(step), texts_per_image=texts)
        if self.run.data.flip:
            arrays = flip(arrays, self.examples.grid, self._mirrored(step, len(arrays["images"])))
        return Batch(**arrays)

    def _mirrored(self, step: int, images: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 1, step)).random(images) < 0.5

    def batches(self, start: int) -> Iterator[Batch]:
        """All batches from a step on, without end."""
        return map(self.batch, itertools.count(start))

    def position(self, step: int) -> dict[str, int]:
        """Where the data stand before a step, as checkpoints record it."""
        return self.order.position(step)


class StreamFeed(Feed):
    """The batches of one seed of a run from data that are read while it trains."""

    def __init__(self, run: Run, stream: Stream, grid: tuple[int, int], seed: int):
        self.run, self.stream, self.grid, self.seed = run, stream, grid, seed
        self.learning_rate = np.float32(run.optimiser.learning_rate)

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
