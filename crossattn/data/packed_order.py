"""Which texts share a row of a batch: a pure function of seed and step, and rows of one width.

The images of an epoch are sorted by the words of their texts and dealt to rows, each with equally
many of them: long texts stand beside short ones. Which of the longest, second longest ... share a
row is found once, of the longest texts that can be drawn; whatever an epoch draws is no longer,
place by place, so that every row of every epoch and seed fits.
"""

import heapq

import numpy as np

from crossattn.data.order import Order
from crossattn.shapes import Bool, Int

__all__ = ["PackedOrder", "deal", "order_of", "packed_places", "read_words"]


def read_words(target: Bool[np.ndarray, "E T"]) -> Int[np.ndarray, " E"]:
    """How many words of each text are read to predict its last target: those behind never matter.

    Example:
        >>> read_words(np.array([[False, True, True, False], [False] * 4])).tolist()
        [2, 0]
    """
    last = target.shape[1] - 1 - np.argmax(target[:, ::-1], axis=1)
    return np.where(target.any(axis=1), last, 0).astype(np.int64)


def packed_places(
    words: Int[np.ndarray, " B"], rows: int, width: int, length: int
) -> Int[np.ndarray, "R L"]:
    """Which word stands at each place of the rows: number of the text in its row * length + place.

    Args:
        words: of each text; B / rows neighbours share a row, one behind the other.
        rows: R.
        width: L.
        length: places that each text has unpacked.

    Returns:
        int32, -1 behind the last text of a row.

    Raises:
        ValueError: the words of a row are more than it holds.

    Example:
        >>> packed_places(np.array([2, 1, 3, 0]), rows=2, width=4, length=5).tolist()
        [[0, 1, 5, -1], [0, 1, 2, -1]]
    """
    there = np.arange(length) < words.reshape(rows, -1, 1)
    there = there.reshape(rows, -1)
    if (most := int(there.sum(axis=1).max())) > width:
        raise ValueError(f"texts that share a row have {most} words, it holds {width}")
    # Those that are there come first, in their order.
    found = np.argsort(~there, axis=1, kind="stable")[:, :width]
    return np.where(np.take_along_axis(there, found, 1), found, -1).astype(np.int32)


def deal(sizes: Int[np.ndarray, " N"], each: int) -> Int[np.ndarray, "R K"]:
    """Places of sizes, the largest being first, in rows of `each`: the largest row is small.

    Each goes to the row with the least sum that has room (Graham 1969, longest first).

    Example:
        >>> deal(np.array([9, 5, 4, 3, 2, 1]), 2).tolist()
        [[0, 5], [1, 4], [2, 3]]
    """
    rows: list[list[int]] = [[] for _ in range(len(sizes) // each)]
    least = [(0, number) for number in range(len(rows))]
    for place, size in enumerate(sizes.tolist()):
        total, number = heapq.heappop(least)
        rows[number].append(place)
        if len(rows[number]) < each:
            heapq.heappush(least, (total + size, number))
    return np.array(rows)


class PackedOrder(Order):
    """An order in which the texts of `packing` images at a time share a row.

    As `Order` visits all images once an epoch and draws texts of each; of one batch the texts that
    share a row are neighbours.

    Args:
        image: (E,) the image of each text.
        words: (E,) those of each text that are read.
        packing: images that share a row; batches have a multiple of them.
        batch_size: as that of `Order`, as are the others.

    Attributes:
        width: L, words of a row: the same in all epochs, and of all seeds.

    Example:
        >>> image, words = np.arange(6), np.array([9, 1, 2, 3, 4, 5])
        >>> sizes = {"batch_size": 4, "texts_per_image": 1, "seed": 0}
        >>> order = PackedOrder(image, words, packing=2, **sizes)
        >>> order.width, bool((words[order.rows(3)].reshape(2, 2).sum(axis=1) <= 12).all())
        (12, True)
    """

    def __init__(self, image: np.ndarray, words: np.ndarray, *, packing: int, **sizes: int):
        super().__init__(image, **sizes)
        self.words = words
        longest = np.sort(words[self._first(-words)].sum(axis=1))[::-1]
        kept = longest[: self.batches * self.images_per_batch]
        self.places = deal(kept, packing)
        self.width = max(1, int(kept[self.places].sum(axis=1).max()))

    def _draw(self, epoch: int) -> np.ndarray:
        drawn = super()._draw(epoch)[: self.places.size]
        # Stable: which of equally long ones comes first is as random as what was drawn.
        longest = np.argsort(-self.words[drawn].sum(axis=1), kind="stable")
        rows = drawn[longest[self.places]]
        random = np.random.default_rng((self.seed, epoch, 1))
        return random.permutation(rows).reshape(drawn.shape)


def order_of(image: np.ndarray, words: np.ndarray, packing: int = 0, **sizes: int) -> Order:
    """The order of texts, of which those of so many images share a row; 0: none does."""
    if packing:
        return PackedOrder(image, words, packing=packing, **sizes)
    return Order(image, **sizes)
