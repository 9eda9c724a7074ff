"""Prepared TFDS directories, read without TensorFlow: records as bytes, in any order.

A prepared directory is what TensorFlow Datasets leaves on the disk: `dataset_info.json`,
`features.json` and shards. Shards in the array_record form have an index of their own and are read
through Grain, those in the TFRecord form by `tfrecord`.
"""

import bisect
import contextlib
import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from crossattn.data.errors import DataError, one_line
from crossattn.data.tfds import metadata
from crossattn.data.tfds.tfrecord import TFRecordShard

__all__ = ["DataError", "Records", "opened", "package", "prepared", "records"]


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
            shard = TFRecordShard(file) if form == "tfrecord" else _array_record_shard(file)
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
