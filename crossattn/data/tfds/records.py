"""Prepared TFDS directories, read without TensorFlow: records as bytes, in any order.

A prepared directory is what TensorFlow Datasets leaves on the disk: `dataset_info.json`,
`features.json` and shards. Shards in the array_record form have an index of their own and are read
through Grain. Shards in the TFRecord form have none: one pass over the headers of the records
(length in 8 bytes, its checksum in 4; the data and 4 more bytes follow) finds where each begins.
The checksum of every length is compared when a split is opened, that of the data whenever a record
is read (1 us for 30 kB).
"""

import bisect
import contextlib
import io
import itertools
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import google_crc32c
import numpy as np

from crossattn.data.errors import DataError, one_line
from crossattn.data.tfds import metadata
from crossattn.shapes import Int

__all__ = ["DataError", "Records", "opened", "package", "prepared", "records"]

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
# TFRecord files rotate a CRC-32C and add this constant.
MASK_DELTA = 0xA282EAD8


@runtime_checkable
class Shard(Protocol):
    """One file of records."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...


def package() -> ModuleType:
    """Import TensorFlow Datasets; only this kind of data needs it, and it takes a second.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import tensorflow_datasets
    except ModuleNotFoundError as error:
        if error.name != "tensorflow_datasets":
            raise
        raise ModuleNotFoundError(
            "TFDS directories are read with the package tensorflow-datasets, which is not "
            "installed; type: pip install tensorflow-datasets",
            name=error.name,
        ) from None
    return tensorflow_datasets


def prepared(directory: str | Path) -> Any:
    """Open a prepared directory: the TFDS builder of what it holds, its `info` above all.

    Raises:
        DataError: there is no such directory, it is empty, or it is no prepared TFDS directory.
        ModuleNotFoundError: TensorFlow Datasets is not installed.
    """
    path = Path(directory).expanduser()
    if not path.is_dir():
        raise DataError(f"there is no directory {path}")
    if not any(path.iterdir()):
        raise DataError(f"{path} is empty: expected a prepared TFDS directory")
    missing = [
        name for name in ("dataset_info.json", "features.json") if not (path / name).is_file()
    ]
    if missing:
        # People name the folder of all versions, or of all data sets.
        inside = [place for depth in (1, 2, 3) for place in path.glob("*/" * depth + missing[0])]
        hint = f"; did you mean {min(inside).parent}?" if inside else ""
        raise DataError(
            f"{path} is no prepared TFDS directory: it has no {' and no '.join(missing)}{hint}"
        )
    tfds = package()
    metadata.check_metadata(path, tfds)
    try:
        # Where a feature needs TensorFlow, TFDS prints ten lines before it raises.
        with contextlib.redirect_stdout(io.StringIO()):
            builder = tfds.builder_from_directory(path)
        features = builder.info.features
    except Exception as error:  # a damaged JSON file raises whatever its parser meets
        raise DataError(
            f"{path}: dataset_info.json or features.json cannot be read "
            f"({type(error).__name__}: {one_line(error)})"
        ) from None
    if not isinstance(features, tfds.features.FeaturesDict):
        raise DataError(f"{path}: its features have no names, so that no picture can be found")
    metadata.check_labels(path, tfds, features)
    return builder


# Not Sequence[bytes]: who checks annotations at run time would read a record to see what it is.
class Records(Sequence):
    """The records of one split, over all of its shards, in the order in which they were written.

    Reading is thread-safe: no file position is shared.
    """

    def __init__(self, files: Sequence[Path], shards: Sequence[Shard]):
        self.files, self.shards = tuple(files), tuple(shards)
        self.ends = list(itertools.accumulate(len(shard) for shard in shards))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: Any) -> Any:
        """Bytes of one record.

        Raises:
            DataError: the shard is damaged there.
            IndexError: there is no such record.
        """
        shard, place = self._locate(index)
        try:
            return self.shards[shard][place]
        except (OSError, RuntimeError) as error:
            raise DataError(f"{self.where(index)} cannot be read: {one_line(error)}") from None

    def where(self, index: int) -> str:
        """Spell where a record lies, for messages."""
        shard, place = self._locate(index)
        return f"{self.files[shard]}, record {place}"

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        shard = bisect.bisect_right(self.ends, index)
        return shard, index - (self.ends[shard - 1] if shard else 0)


def records(directory: str | Path, split: str) -> Records:
    """Open a split of a prepared directory for random access to its serialized examples.

    Args:
        directory: with `dataset_info.json`, `features.json` and shards.
        split: one that the directory has.

    Returns:
        A sequence of bytes; `prepared(directory).info.features.deserialize_example_np` reads them.

    Raises:
        DataError: there is no such split, a shard is missing, truncated or damaged, or the shards
            are neither array_record nor TFRecord files.
        ModuleNotFoundError: TensorFlow Datasets is not installed.
    """
    return opened(directory, prepared(directory).info, split)


def opened(directory: str | Path, info: Any, split: str) -> Records:
    """Open a split of a directory that `prepared` has read, as `records` does."""
    if split not in info.splits:
        there = one_line(", ".join(info.splits)) or "none"
        raise DataError(f"{directory} has no split {split!r}: it has {there}")
    form = info.file_format.value if info.file_format else "unknown"
    if form not in ("tfrecord", "array_record"):
        raise DataError(
            f"{directory} holds shards in the form {form}: expected array_record or tfrecord"
        )
    files = _shard_files(Path(directory).expanduser(), info.splits[split])
    shards: list[Shard] = []
    for file, length in zip(files, info.splits[split].shard_lengths, strict=True):
        if not file.is_file():
            raise DataError(f"the shard {file} is missing")
        try:
            shard = _TFRecordShard(file) if form == "tfrecord" else _array_record_shard(file)
        except OSError as error:
            raise DataError(f"{file} cannot be read: {one_line(error)}") from None
        if len(shard) != length:
            raise DataError(
                f"{file} holds {len(shard)} records, dataset_info.json says {length}: "
                "the shard is truncated, or is another one's"
            )
        shards.append(shard)
    return Records(files, shards)


def _shard_files(directory: Path, split: Any) -> list[Path]:
    try:
        files = [Path(name) for name in split.filepaths]
    except (KeyError, ValueError) as error:
        raise DataError(f"{directory} has a split of no files: {one_line(error)}") from None
    for file in files:
        if not Path(os.path.normpath(file)).is_relative_to(os.path.normpath(directory)):
            raise DataError(f"{directory} names the shard {one_line(file)}, outside of itself")
    return files


def _array_record_shard(file: Path) -> Shard:
    import grain

    try:
        return grain.sources.ArrayRecordDataSource([str(file)])
    except RuntimeError as error:
        raise DataError(f"{file} is truncated or damaged: {one_line(error)}") from None


class _TFRecordShard:
    def __init__(self, file: Path):
        self.file, self.places = file, index(file)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> bytes:
        start, length = (int(value) for value in self.places[number])
        with self.file.open("rb") as handle:
            handle.seek(start)
            data = handle.read(length)
            footer = handle.read(FOOTER.size)
        if len(footer) != FOOTER.size:
            raise DataError(f"{self.file} is truncated in record {number}")
        if FOOTER.unpack(footer) != (masked_crc(data),):
            raise DataError(
                f"{self.file} is damaged in record {number} (bytes {start} to {start + length}): "
                "the checksum of its data is wrong"
            )
        return data


def index(file: Path) -> Int[np.ndarray, "N 2"]:
    """Find the records of a TFRecord file by their headers alone.

    Returns:
        (N, 2) int64: the byte at which the data of each record begin, and their length.

    Raises:
        DataError: the file ends within a record, or the checksum of a length is wrong.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "one.tfrecord"
        >>> header = (5).to_bytes(8, "little")
        >>> _ = file.write_bytes(header + masked_crc(header).to_bytes(4, "little") + b"hello crc")
        >>> index(file).tolist()
        [[12, 5]]
    """
    places: list[tuple[int, int]] = []
    with file.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        start = 0
        while start < size:
            head = os.pread(handle.fileno(), HEADER.size, start)
            if len(head) < HEADER.size:
                raise DataError(f"{file} is truncated in record {len(places)}")
            length, checksum = HEADER.unpack(head)
            if masked_crc(head[:8]) != checksum:
                raise DataError(
                    f"{file} is damaged at record {len(places)} (byte {start}): "
                    "the checksum of its length is wrong"
                )
            end = start + HEADER.size + length + FOOTER.size
            if end > size:
                raise DataError(f"{file} is truncated in record {len(places)}")
            places.append((start + HEADER.size, length))
            start = end
    return np.array(places, np.int64).reshape(-1, 2)


def masked_crc(data: bytes) -> int:
    """Masked CRC-32C, as TFRecord files carry it behind a length and behind the data.

    Example:
        >>> hex(masked_crc(b"123456789"))  # CRC-32C of the check string is e3069283
        '0xc78ab0e5'
    """
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF
