"""Pictures of any shape beside texts of any length, packed into rows (NaViT, Dehghani et al. 2023).

A picture keeps its aspect ratio: it becomes as many whole patches as a budget allows. Several pairs
of a text and its pictures share a row; segments say what belongs together, so that nothing leaks
and nothing is padded but the end of a row. Packing is Grain's first fit.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grain
import numpy as np
from PIL import Image

from crossattn.data.pictures import decode
from crossattn.ops import Mask
from crossattn.shapes import Bool, Float, Int

__all__ = ["NativeResolution", "PackedBatch", "PackedPairs", "PicturedText"]

# What is packed along the words of a row, and along its patches.
WORDS, PATCHES = ("tokens", "target"), ("patches", "places")


@dataclasses.dataclass(frozen=True)
class NativeResolution:
    """How many patches a picture becomes: its aspect ratio is kept as whole patches allow.

    Attributes:
        most: patches of a picture at most.
        side: of a patch, in pixels.

    Raises:
        ValueError: a number below 1.

    Example:
        >>> NativeResolution(most=48).grid((640, 480)), NativeResolution(most=48).grid((16, 8))
        ((6, 8), (1, 2))
    """

    most: int = 64
    side: int = 8

    def __post_init__(self):
        if self.most < 1 or self.side < 1:
            raise ValueError(f"most and side are 1 or more, got {self.most} and {self.side}")

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches of a picture of this width and height; it is not enlarged."""
        width, height = size
        scale = min(1.0, math.sqrt(self.most * self.side**2 / (width * height)))
        # Rounding up may be one patch too many.
        near = lambda length: max(1, round(length * scale / self.side))
        rows, columns = near(height), near(width)
        while rows * columns > self.most:
            longer = rows / height > columns / width
            rows, columns = (rows - 1, columns) if longer and rows > 1 else (rows, columns - 1)
        return rows, max(1, columns)

    def patches(self, encoded: bytes) -> tuple[Float[np.ndarray, "P F"], Float[np.ndarray, "P 2"]]:
        """The patches of a picture file, in 0 to 1, and the places of their centres.

        Returns:
            (P, side * side * 3) float32 in row-major order; (P, 2) down and along, as shares.

        Raises:
            DataError: the picture cannot be decoded.
        """
        pixels = decode(encoded)
        rows, columns = self.grid((pixels.shape[1], pixels.shape[0]))
        side = self.side
        picture = Image.fromarray(pixels).resize(
            (columns * side, rows * side), Image.Resampling.BILINEAR
        )
        square = np.asarray(picture).reshape(rows, side, columns, side, 3).swapaxes(1, 2)
        down, along = (np.arange(count) + 0.5 for count in (rows, columns))
        places = np.stack(np.meshgrid(down / rows, along / columns, indexing="ij"), axis=-1)
        values = square.reshape(rows * columns, -1).astype(np.float32) / 255
        return values, places.reshape(-1, 2).astype(np.float32)

    def coverage(
        self, boxes: Float[np.ndarray, "O 4"], grid: tuple[int, int]
    ) -> Float[np.ndarray, "O P"]:
        """The share of each patch that a box (ymin, xmin, ymax, xmax in shares) covers.

        Example:
            >>> NativeResolution().coverage(np.array([[0, 0, 0.5, 0.75]]), (1, 2)).tolist()
            [[0.5, 0.25]]
        """
        inside = []
        for axis, count in enumerate(grid):
            edge = np.arange(count) / count
            low = np.maximum(boxes[:, axis, None], edge)
            high = np.minimum(boxes[:, axis + 2, None], edge + 1 / count)
            inside.append(np.maximum(high - low, 0) * count)
        return np.einsum("or,oc->orc", *inside).reshape(len(boxes), -1)


class PicturedText(NamedTuple):
    """A text and the patches of its pictures.

    Attributes:
        tokens: (T,) int32.
        target: (T,) bool, the words to predict; never the first one.
        patches: (P, F) float32.
        places: (P, 2) float32, as `NativeResolution.patches` gives them.
    """

    tokens: np.ndarray
    target: np.ndarray
    patches: np.ndarray
    places: np.ndarray


class PackedBatch(NamedTuple):
    """Rows of several pairs each; a segment is a pair, numbered from 1 in its row, 0 is padding.

    Attributes:
        tokens: (B, T) int32.
        target: (B, T) bool.
        positions: (B, T) int32, of a word in its own text.
        segments: (B, T) int32, of words.
        patches: (B, S, F) float32.
        places: (B, S, 2) float32.
        shown: (B, S) int32, the segments of patches.
    """

    tokens: Int[np.ndarray, "B T"]
    target: Bool[np.ndarray, "B T"]
    positions: Int[np.ndarray, "B T"]
    segments: Int[np.ndarray, "B T"]
    patches: Float[np.ndarray, "B S F"]
    places: Float[np.ndarray, "B S 2"]
    shown: Int[np.ndarray, "B S"]

    @property
    def mask(self) -> Mask:
        """What of the patches each word may see: those of its own pair."""
        return Mask.segments(self.segments, self.shown)

    @property
    def self_mask(self) -> Mask:
        """What of the words each word may see: those before it in its own text, and itself."""
        return Mask.segments(self.segments, self.segments) & Mask.causal(0)


class PackedPairs:
    """Batches of packed pairs, in an order that a seed decides, without end.

    Each epoch visits all pairs in a new order; process p of n packs every n-th of them. A pair that
    is longer than a row is refused when it is met.

    Args:
        load: number of a pair to what it holds.
        count: how many pairs there are.
        rows: of a batch, B.
        words: of a row, T.
        patches: of a row, S.
        seed: of the order.
        process: this process, of `processes`.

    Example:
        >>> def load(number):
        ...     words, patches = np.arange(1, 4 + number % 3, dtype=np.int32), 2 + number % 2
        ...     return PicturedText(words, words > 1, np.ones((patches, 5), np.float32),
        ...                         np.zeros((patches, 2), np.float32))
        >>> pairs = PackedPairs(load, 20, rows=2, words=12, patches=8, seed=0)
        >>> batches = pairs.batches()
        >>> batch = next(batches)
        >>> batch.tokens.shape, batch.patches.shape, int(batch.segments.max()) > 1
        ((2, 12), (2, 8, 5), True)
    """

    def __init__(
        self,
        load: Callable[[int], PicturedText],
        count: int,
        *,
        rows: int,
        words: int,
        patches: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ):
        def read(number: Any) -> dict[str, np.ndarray]:
            pair = load(int(number))
            if len(pair.tokens) > words or len(pair.patches) > patches:
                raise ValueError(
                    f"pair {int(number)} has {len(pair.tokens)} words and {len(pair.patches)} "
                    f"patches: a row holds {words} and {patches}"
                )
            return pair._asdict()

        share = count // processes
        if share < 1:
            raise ValueError(f"{count} pairs are none for each of {processes} processes")
        lengths = dict.fromkeys(WORDS, words) | dict.fromkeys(PATCHES, patches)
        numbers = grain.MapDataset.range(count).seed(seed).shuffle()
        own = numbers[process : share * processes : processes].repeat().map(read)
        packed = grain.experimental.FirstFitPackIterDataset(
            own.to_iter_dataset(), num_packing_bins=rows, length_struct=lengths, shuffle_bins=False
        )
        self.dataset = packed.batch(rows)

    def batches(self, state: dict[str, Any] | None = None) -> "PackedBatches":
        """All batches, or those from where a state was taken on."""
        return PackedBatches(iter(self.dataset), state)


class PackedBatches(Iterator[PackedBatch]):
    """Batches one after another, and the state to go on from."""

    def __init__(self, batches: Any, state: dict[str, Any] | None):
        self.iterator = batches
        if state is not None:
            self.iterator.set_state(state)

    def __next__(self) -> PackedBatch:
        found = next(self.iterator)
        return PackedBatch(
            found["tokens"],
            found["target"].astype(bool),
            found["tokens_positions"],
            found["tokens_segment_ids"],
            found["patches"],
            found["places"],
            found["patches_segment_ids"],
        )

    def state(self) -> dict[str, Any]:
        """What the batches that follow depend on, as JSON has it."""
        return self.iterator.get_state()
