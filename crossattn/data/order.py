"""Which texts stand in the batch of a step: a pure function of seed and step."""

import numpy as np

__all__ = ["Order"]


class Order:
    """Which texts stand in the batch of a step.

    Images are visited in a new random order in each epoch; of every image `texts_per_image`
    different texts are drawn (repeated where it has fewer). What is left of an epoch when no whole
    batch remains is dropped. Nothing is kept but the current epoch's order, so that a step can be
    asked for in any sequence.

    Attributes:
      width: words of a row that several texts share; 0: none do.

    Example:
      >>> order = Order(np.array([0, 0, 1, 1, 2, 2]), batch_size=4, texts_per_image=2, seed=0)
      >>> rows = order.rows(7)
      >>> rows.shape, order.position(7)
      ((4,), {'epoch': 7, 'batch': 0})
    """

    width = 0

    def __init__(self, image: np.ndarray, *, batch_size: int, texts_per_image: int, seed: int):
        self.image, self.seed = image, seed
        self.texts, self.images_per_batch = texts_per_image, batch_size // texts_per_image
        self.images, self.counts = np.unique(image, return_counts=True)
        self.batches = len(self.images) // self.images_per_batch
        if self.batches == 0:
            raise ValueError(
                f"{len(self.images)} images do not fill one batch of {self.images_per_batch} "
                f"images: lower batch_size to {len(self.images) * texts_per_image} or less, or "
                "raise data.images"
            )
        # One attribute, that threads which read ahead cannot mix two epochs.
        self._drawn = -1, np.zeros((0, texts_per_image), np.int64)

    def position(self, step: int) -> dict[str, int]:
        """Epoch and batch of a step, as checkpoints record it."""
        return {"epoch": step // self.batches, "batch": step % self.batches}

    def rows(self, step: int) -> np.ndarray:
        """Text rows (batch_size,) of a step."""
        epoch, batch = step // self.batches, step % self.batches
        drawn = self._drawn
        if epoch != drawn[0]:
            drawn = self._drawn = epoch, self._draw(epoch)
        start = batch * self.images_per_batch
        return drawn[1][start : start + self.images_per_batch].reshape(-1)

    def _draw(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng((self.seed, epoch))
        # Shuffled within each image: its first texts are a random choice.
        return self._first(random.random(len(self.image)))[random.permutation(len(self.images))]

    def _first(self, rank: np.ndarray) -> np.ndarray:
        """The texts (images, texts) of each image that are first by their rank (E,)."""
        rows = np.lexsort((rank, self.image))
        first = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        return rows[first[:, None] + np.arange(self.texts)[None, :] % self.counts[:, None]]
