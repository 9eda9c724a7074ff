"""Values by name in a temporary file: what is held in memory is 40 bytes for each."""

import hashlib
import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Groups", "Spool", "name_key"]


class Spool:
    """Values of JSON under names; several may have the same name.

    Values are appended first and looked up afterwards, by any thread. The file has no name and is
    gone with the object.

    Example:
        >>> spool = Spool()
        >>> for name, value in (("a", 1), ("b", [2]), ("a", 3)):
        ...     spool.add(name, value)
        >>> spool.get("b"), [[spool.value(place) for place in group] for group in spool.groups()]
        ([2], [[1, 3], [[2]]])
    """

    def __init__(self):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the object)
        weakref.finalize(self, self.file.close)
        self.keys, self.starts, self.sizes = array("Q"), array("Q"), array("Q")
        self.end = 0
        self._order: np.ndarray | None = None
        self._sorted = np.zeros(0, np.uint64)

    def __len__(self) -> int:
        """Number of values."""
        return len(self.keys)

    def add(self, name: str, value: Any) -> None:
        """One more value."""
        written = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        self.file.write(written)
        self.keys.append(name_key(name))
        self.starts.append(self.end)
        self.sizes.append(len(written))
        self.end += len(written)
        self._order = None

    def value(self, place: int) -> Any:
        """The value that was added at a place."""
        if self._order is None:
            self._sort()
        return json.loads(os.pread(self.file.fileno(), self.sizes[place], self.starts[place]))

    def get(self, name: str) -> Any:
        """The first value of a name.

        Raises:
            KeyError: there is none.
        """
        if self._order is None:
            self._sort()
        key = np.uint64(name_key(name))
        at = int(np.searchsorted(self._sorted, key))
        if self._order is None or at == len(self._sorted) or self._sorted[at] != key:
            raise KeyError(name)
        return self.value(int(self._order[at]))

    def repeated(self) -> tuple[int, int] | None:
        """The places of two values that have one name, if there are such."""
        self._sort()
        assert self._order is not None
        same = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])[:1]
        return (int(self._order[same[0]]), int(self._order[same[0] + 1])) if len(same) else None

    def groups(self) -> "Groups":
        """The places of the values of each name, in the order in which names first occur."""
        self._sort()
        assert self._order is not None
        new = np.ones(len(self), bool)
        new[1:] = self._sorted[1:] != self._sorted[:-1]
        begins = np.flatnonzero(new)
        ends = np.append(begins[1:], len(self))
        first = np.argsort(self._order[begins], kind="stable")
        return Groups(self._order, begins[first], ends[first])

    def _sort(self) -> None:
        self.file.flush()
        keys = np.array(self.keys, np.uint64)
        order = np.argsort(keys, kind="stable")
        self._sorted, self._order = keys[order], order


class Groups(Sequence):
    """Places of a spool, by the name that they have."""

    def __init__(self, order: np.ndarray, begins: np.ndarray, ends: np.ndarray):
        self.order, self.begins, self.ends = order, begins, ends

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, index: Any) -> Any:
        return self.order[self.begins[index] : self.ends[index]].tolist()


def name_key(name: str) -> int:
    """64 bits of a name: of ten million names two share theirs once in 400,000 sets."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
