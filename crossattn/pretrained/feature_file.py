"""A file of features that grows by whole rows, and goes on where a process was killed."""

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from crossattn.data.encoded import row_type
from crossattn.data.errors import DataError
from crossattn.shapes import Float

__all__ = ["FeatureFile"]


class FeatureFile:
    """NAME.npy once it is whole; NAME.npy.partial, which is appended to, until then.

    Args:
      path: of the whole file.
      keys: (N,) uint64 of its rows.

    Attributes:
      done: rows that are there.

    Raises:
      DataError: what is there is of other keys, or damaged.
    """

    def __init__(self, path: Path, keys: np.ndarray):
        self.path, self.keys, self.done = path, keys, 0
        self.partial = path.with_name(f"{path.name}.partial")
        self._file: BinaryIO | None = None
        if path.exists():
            self._check(self._whole(), path)
            self.done = len(keys)
        elif self.partial.exists():
            self._resume()

    def __enter__(self) -> "FeatureFile":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, seen: Float[np.ndarray, "n 4"], features: Float[np.ndarray, "n P M"]) -> None:
        """The next rows. The last one makes the file whole."""
        rows = np.empty(len(features), row_type(*features.shape[1:]))
        rows["key"] = self.keys[self.done : self.done + len(rows)]
        rows["seen"], rows["features"] = seen, features
        if self._file is None:
            self._file = self.partial.open("wb")
            header = npy.header_data_from_array_1_0(rows) | {"shape": (len(self.keys),)}
            npy.write_array_header_2_0(self._file, header)
        self._file.write(rows.tobytes())
        self._file.flush()
        self.done += len(rows)
        if self.done == len(self.keys):
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self.partial, self.path)

    def _whole(self) -> np.ndarray:
        try:
            return np.load(self.path, mmap_mode="r")
        except (ValueError, EOFError):
            raise DataError(
                f"{self.path} is damaged: remove it, and the same command encodes it again"
            ) from None

    def _resume(self) -> None:
        """Find the whole rows of a file that was begun; a header that is not whole is none."""
        file = self.partial.open("r+b")
        try:
            npy.read_magic(file)
            (count,), _, kind = npy.read_array_header_2_0(file)
        except ValueError:
            file.close()
            return
        begins = file.tell()
        whole = (os.fstat(file.fileno()).st_size - begins) // kind.itemsize
        rows = np.memmap(self.partial, kind, "r", begins, whole) if whole else np.empty(0, kind)
        if count != len(self.keys):
            file.close()
            raise self._foreign(self.partial)
        self._check(rows, self.partial)
        file.seek(begins + whole * kind.itemsize)
        file.truncate()
        self._file, self.done = file, whole

    def _check(self, rows: np.ndarray, path: Path) -> None:
        named = rows.dtype.names == ("key", "seen", "features")
        complete = path != self.path or len(rows) == len(self.keys)
        if not (named and complete and np.array_equal(rows["key"], self.keys[: len(rows)])):
            raise self._foreign(path)

    def _foreign(self, path: Path) -> DataError:
        return DataError(f"{path} is of another set, or of other data options: name another folder")
