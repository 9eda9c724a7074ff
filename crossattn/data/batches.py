"""The order of training data: a pure function of seed and step, so that resuming is exact."""

import numpy as np

from crossattn.data.examples import Examples


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


def gather(
    examples: Examples, rows: np.ndarray, *, texts_per_image: int = 1
) -> dict[str, np.ndarray]:
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


def flip(
    batch: dict[str, np.ndarray], grid: tuple[int, int], chosen: np.ndarray
) -> dict[str, np.ndarray]:
    """Mirror the chosen pictures (I,) bool from left to right, and their regions with them."""
    images, coverage = batch["images"].copy(), batch["coverage"].copy()
    images[chosen] = images[chosen][:, :, ::-1]
    shape = (-1, coverage.shape[1], *grid)
    coverage[chosen] = coverage[chosen].reshape(shape)[..., ::-1].reshape(-1, *coverage.shape[1:])
    return {**batch, "images": images, "coverage": coverage}
