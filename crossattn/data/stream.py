"""Training batches of records through Grain: never held in memory, exactly resumable."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import SupportsIndex

import grain
import numpy as np

from crossattn.data.batches import Share
from crossattn.data.picture_texts import Geometry, ImageRecords, record_arrays
from crossattn.data.survey import Survey

__all__ = ["FIELDS", "RecordStream", "StreamedRecords"]

FIELDS = ("tokens", "target", "grounded", "images", "coverage", "shown")
TEXT_FIELDS = ("tokens", "target", "grounded")
# Batches that are read ahead, and threads that read them: decoding releases the lock.
READ = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)


class RecordStream:
    """Batches as a pure function of seed and step.

    Each epoch visits all records in a new order that the seed decides; process p of n takes every
    n-th of that order, from the p-th on, so that the processes' shares are disjoint. Of every
    picture `texts` texts are drawn (repeated where it has fewer). What is left of an epoch when no
    whole batch remains is dropped.

    Args:
        load: number of a record to its arrays: `FIELDS`, those of texts with a leading axis E;
            "shown" may be missing.
        records: numbers of the records.
        images: pictures in a batch of this process.
        texts: texts of each picture.
        seed: of the order and of the texts drawn.
        process: this process.
        processes: how many there are.

    Raises:
        ValueError: the records do not fill one batch.

    Example:
        >>> def load(index):
        ...     arrays = {name: np.full((3, 1), index) for name in TEXT_FIELDS}
        ...     return arrays | {"images": np.full(1, index), "coverage": np.zeros(1)}
        >>> size = {"images": 4, "texts": 2}
        >>> stream = RecordStream(load, range(10), **size, seed=0, process=0, processes=1)
        >>> batch = stream.batch(5)
        >>> batch["tokens"].shape, stream.position(5)
        ((8, 1), {'epoch': 2, 'batch': 1})
    """

    def __init__(
        self,
        load: Callable[[int], dict[str, np.ndarray]],
        records: Sequence[int] | np.ndarray,
        *,
        images: int,
        texts: int,
        seed: int,
        process: int,
        processes: int,
    ):
        self.images = images
        # Every process has the same number of batches.
        share = len(records) // processes
        self.batches_per_epoch = share // images
        if self.batches_per_epoch == 0:
            raise ValueError(
                f"{len(records)} training images do not fill one batch of {images} images in each "
                f"of {processes} processes: lower batch_size"
            )

        def draw(index: SupportsIndex, random: np.random.Generator) -> dict[str, np.ndarray]:
            arrays = load(int(index))
            count = len(arrays["tokens"])
            rows = random.permutation(count)[np.arange(texts) % count]
            return {
                name: arrays[name][rows] if name in TEXT_FIELDS else arrays[name]
                for name in FIELDS
                if name in arrays
            }

        self.dataset = (
            grain.MapDataset.source(np.asarray(records))
            .seed(seed)
            .shuffle()
            .slice(slice(process, share * processes, processes))
            .random_map(draw)
            .batch(images, drop_remainder=True)
            .repeat()
        )

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Arrays of a step: texts (images * texts, ...), pictures (images, ...)."""
        return _flat(self.dataset[step])

    def batches(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        """All batches from a step on, without end, read ahead by threads."""
        return map(_flat, iter(self.dataset[start:].to_iter_dataset(READ)))

    def position(self, step: int) -> dict[str, int]:
        """Epoch and batch of a step, as checkpoints record it."""
        return {"epoch": step // self.batches_per_epoch, "batch": step % self.batches_per_epoch}


def _flat(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Texts of a picture become neighbours: (images, texts, ...) to (images * texts, ...)."""
    return {
        name: values.reshape(-1, *values.shape[2:]) if name in TEXT_FIELDS else values
        for name, values in batch.items()
    }


@dataclasses.dataclass(frozen=True)
class StreamedRecords:
    """Training records whose pictures are read while a run trains.

    Attributes:
        records: read by their number.
        survey: which of them are trained on, and how their texts become tokens.
        geometry: of the pictures.
    """

    records: ImageRecords
    survey: Survey
    geometry: Geometry

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.geometry.grid

    def __len__(self) -> int:
        return len(self.survey.trained)

    def drawn(self, size: int, texts_per_image: int, seed: int, share: Share) -> RecordStream:
        """The batches of one seed; each of several processes reads its share of every batch.

        Raises:
            ValueError: the records do not fill a batch, or it does not divide by the processes.
        """
        images, rest = divmod(size, texts_per_image * share.parts)
        if rest or not images:
            raise ValueError(
                f"batch_size {size} is not a multiple of data.texts_per_image {texts_per_image} "
                f"times {share.parts} processes"
            )
        return RecordStream(
            lambda index: record_arrays(self.records, index, self.survey, self.geometry),
            self.survey.trained,
            images=images,
            texts=texts_per_image,
            seed=seed,
            process=share.part,
            processes=share.parts,
        )
