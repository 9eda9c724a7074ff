"""Which texts a run learns, and when: a curriculum that is a pure function of seed and step."""

from typing import Any, NamedTuple

import numpy as np

from crossattn.data.examples import Examples
from crossattn.data.order import Order
from crossattn.data.packed_order import order_of, read_words

__all__ = ["ALL_TEXTS", "Curriculum", "Staged"]


class Curriculum(NamedTuple):
    """Which texts are learned, and which of them first (Bengio et al. 2009, "Curriculum learning").

    Attributes:
        words: texts that have one of them are learned; all when empty.
        first: in the first steps texts that have one of these alone.
        steps: so many steps are the first.
    """

    words: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    steps: int = 0

    def order(self, examples: Examples, **sizes: Any) -> "Order | Staged":
        """The order of the texts; `sizes` are the other arguments of `order_of`.

        Raises:
            ValueError: no text has one of the words, or the images with those do not fill a batch.
        """
        stages = [(0, self.first)] if self.steps else []
        stages.append((self.steps, self.words))
        if stages == [(0, ())]:
            return order_of(examples.image, read_words(examples.target), **sizes)
        return Staged(
            [(start, having(examples, words)) for start, words in stages], examples, sizes
        )


ALL_TEXTS = Curriculum()


def having(examples: Examples, words: tuple[str, ...]) -> np.ndarray:
    """Rows of the texts that have one of these words; all rows when there are no words.

    Raises:
        ValueError: there are none.

    Example:
        >>> from crossattn.data import scenes
        >>> rows = having(scenes.examples("iid", 100, seed=0), ("left", "right"))
        >>> len(rows)
        12
    """
    if not words:
        return np.arange(len(examples.tokens))
    known = [number for number, word in enumerate(examples.vocabulary) if word in words]
    rows = np.flatnonzero(np.isin(examples.tokens, known).any(axis=1))
    if not len(rows):
        raise ValueError(f"no text to learn has one of the words {', '.join(words)}")
    return rows


class Staged:
    """An order of some texts after that of others, each from its own beginning.

    Args:
        stages: the first step and the rows of each, in the order of the steps, from 0 on.
        examples: that the rows are of.
        sizes: the arguments of each `order_of` but its images and words.

    Attributes:
        width: that of rows which hold those of each order, where texts share rows.

    Example:
        >>> from crossattn.data import scenes
        >>> data = scenes.examples("iid", 100, seed=0)
        >>> sizes = {"batch_size": 10, "texts_per_image": 1, "seed": 0}
        >>> staged = Staged([(0, having(data, ("how",))), (3, having(data, ()))], data, sizes)
        >>> all("how" in data.words(row) for row in staged.rows(2))
        True
        >>> staged.position(5)
        {'epoch': 0, 'batch': 2}
    """

    def __init__(
        self, stages: list[tuple[int, np.ndarray]], examples: Examples, sizes: dict[str, Any]
    ):
        words = read_words(examples.target)
        self.stages = [
            (start, rows, order_of(examples.image[rows], words[rows], **sizes))
            for start, rows in stages
        ]
        self.width = max(order.width for *_, order in self.stages)
        last = self.stages[-1][-1]
        self.seed, self.images_per_batch = last.seed, last.images_per_batch

    def position(self, step: int) -> dict[str, int]:
        """Epoch and batch of a step within its stage, as checkpoints record it."""
        start, _, order = self._stage(step)
        return order.position(step - start)

    def rows(self, step: int) -> np.ndarray:
        """Text rows (batch_size,) of a step."""
        start, rows, order = self._stage(step)
        return rows[order.rows(step - start)]

    def _stage(self, step: int) -> tuple[int, np.ndarray, Order]:
        return next(stage for stage in reversed(self.stages) if stage[0] <= step)
