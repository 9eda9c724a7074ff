"""Training batches of records through Grain: never held in memory, exactly resumable."""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsIndex

import numpy as np

from crossattn.data.batches import Share
from crossattn.data.encoded import FeatureRows
from crossattn.data.packed_order import PackedOrder, packed_places, read_words
from crossattn.data.picture_texts import Geometry, ImageRecords, record_arrays
from crossattn.data.survey import Survey

__all__ = ["FIELDS", "RecordStream", "StreamedRecords"]

FIELDS = ("tokens", "target", "grounded", "images", "coverage", "shown")
TEXT_FIELDS = ("tokens", "target", "grounded")


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
            return _chosen(arrays, random.permutation(count)[np.arange(texts) % count])

        import grain  # Where a stream is made: runs of data in memory do without it.

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
        return map(_flat, _read_ahead(self.dataset[start:]))

    def position(self, step: int) -> dict[str, int]:
        """Epoch and batch of a step, as checkpoints record it."""
        return {"epoch": step // self.batches_per_epoch, "batch": step % self.batches_per_epoch}


class PackedStream:
    """Batches as a pure function of seed and step, in which texts share rows.

    The order is known before a record is read; a process reads its share of each batch.

    Args:
        load: as that of `RecordStream`, of places among the images of the order.
        order: of all texts, those of an image being neighbours.
        share: the part of each batch that this process reads.
        packing: images that share a row.
    """

    def __init__(
        self,
        load: Callable[[int], dict[str, np.ndarray]],
        order: PackedOrder,
        share: Share,
        packing: int,
    ):
        self.load, self.order, self.share, self.packing = load, order, share, packing
        self.first = np.concatenate([[0], np.cumsum(order.counts)])
        self.position = order.position

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Arrays of a step, as those of `RecordStream`, and `packed`.

        Raises:
            ValueError: texts are longer than they were said to be.
        """
        rows = self.share.cut(self.order.rows(step)).reshape(-1, self.order.texts)
        found = []
        for texts in rows:
            image = int(self.order.image[texts[0]])
            found.append(_chosen(self.load(image), texts - self.first[image]))
        arrays = _flat({name: np.stack([one[name] for one in found]) for name in found[0]})
        count, length = len(rows) // self.packing, arrays["tokens"].shape[1] - 1
        words = read_words(arrays["target"])
        return arrays | {"packed": packed_places(words, count, self.order.width, length)}

    def batches(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        """All batches from a step on, without end, read ahead by threads."""
        import grain

        steps = grain.MapDataset.range(start, sys.maxsize).map(lambda step: self.batch(int(step)))
        return _read_ahead(steps)


def _read_ahead(dataset: Any) -> Iterator[Any]:
    """Elements of a `grain.MapDataset`, four ahead, by four threads: decoding releases the lock."""
    import grain

    options = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)
    return iter(dataset.to_iter_dataset(options))


def _chosen(arrays: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of a picture that batches have, with these of its texts."""
    return {
        name: arrays[name][rows] if name in TEXT_FIELDS else arrays[name]
        for name in FIELDS
        if name in arrays
    }


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
        features: which stand for them; None: their pixels are read.
    """

    records: ImageRecords
    survey: Survey
    geometry: Geometry
    features: FeatureRows | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.features.grid if self.features else self.geometry.grid
        return rows, columns

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
            self._load,
            self.survey.trained,
            images=images,
            texts=texts_per_image,
            seed=seed,
            process=share.part,
            processes=share.parts,
        )

    def drawn_packed(
        self, size: int, texts_per_image: int, seed: int, share: Share, packing: int
    ) -> PackedStream:
        """The same, in which the texts of `packing` images share a row.

        Raises:
            ValueError: the records do not fill a batch, or its rows do not divide by the processes.
        """
        if size % (together := texts_per_image * packing * share.parts):
            raise ValueError(
                f"batch_size {size} is not a multiple of {together}: data.texts_per_image "
                f"{texts_per_image} x data.packing {packing} x {share.parts} processes"
            )
        image = np.repeat(np.arange(len(self), dtype=np.int32), self.survey.texts)
        sizes = {"batch_size": size, "texts_per_image": texts_per_image, "seed": seed}
        order = PackedOrder(image, self.survey.words, packing=packing, **sizes)
        load = lambda place: self._load(int(self.survey.trained[place]))
        return PackedStream(load, order, share, packing)

    def encoded(self, file: np.ndarray, grid: tuple[int, ...], at: np.ndarray) -> "StreamedRecords":
        """The same with features in place of pictures, which are not read any more.

        Args:
            file: rows of `experiments.encode`.
            grid: rows and columns of tokens.
            at: the row of each record that is trained on.
        """
        rows = dict(zip(self.survey.trained.tolist(), at.tolist(), strict=True))
        records: Any = self.records
        features = FeatureRows(file, grid, rows)
        return dataclasses.replace(self, records=records.unread(), features=features)

    def _load(self, index: int) -> dict[str, np.ndarray]:
        arrays = record_arrays(self.records, index, self.survey, self.geometry)
        return self.features.through(arrays, index) if self.features else arrays
