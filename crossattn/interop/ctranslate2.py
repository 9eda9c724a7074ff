"""Variables of a CTranslate2 model, each read when it is asked for; nothing in it is believed.

The format is that of `python/ctranslate2/specs/model_spec.py` of CTranslate2, versions 4 to 6: a
head, each variable with its name and shape in front of its bytes, and other names of variables.
"""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from crossattn.interop.files import WeightsError
from crossattn.interop.table import Shape

__all__ = ["Variables"]

VERSIONS = range(4, 7)
DTYPES: tuple[Any, ...] = ("f4", "i1", "i2", "i4", "f2", jnp.dtype("bfloat16"))
# What stands behind the name of a quantised variable: by what its numbers were multiplied.
SCALE = "_scale"


@dataclasses.dataclass(frozen=True)
class Variable:
    """An array of the file: so many bytes from `begin` on."""

    dtype: np.dtype
    shape: Shape
    begin: int
    size: int


class Variables(Mapping[str, np.ndarray]):
    """The variables of a model.bin, also under their other names, in one file or in its parts.

    Weights of 8 or 16 bit integers are divided by their scales, which are no variables of their
    own here: they are float32.

    Attributes:
      specification: what the model is, such as "WhisperSpec".
      shapes: of all variables.
      aliases: {another name: the name of the variable}.

    Raises:
      WeightsError: no such file, another format or version, or it is damaged or not whole.
    """

    def __init__(self, *parts: str | os.PathLike):
        self.parts = tuple(Path(part) for part in parts)
        self.where, self.names = str(self.parts[0]), list[str]()
        try:
            self.sizes = [part.stat().st_size for part in self.parts]
            self._read_head()
        except OSError as error:
            raise WeightsError(f"{self.where} cannot be read: {error.strerror}") from error
        self.shapes: dict[str, Shape] = {name: self._stored(name).shape for name in self}

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._array(self._stored(name))
        if (scale := self._scale(name)) is None:
            return array
        scale = scale.reshape(-1, *[1] * (array.ndim - 1))
        return array.astype(np.float32) / scale

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def _stored(self, name: str) -> Variable:
        return self.variables[self.aliases.get(name, name)]

    def _scale(self, name: str) -> np.ndarray | None:
        """By what integers were multiplied: one number, or one for each row."""
        stored = self._stored(name)
        scale = self.variables.get(f"{self.aliases.get(name, name)}{SCALE}")
        if scale is None:
            return None
        if scale.dtype != np.float32 or math.prod(scale.shape) not in (1, *stored.shape[:1]):
            raise self._damaged(f"{name} has scales {scale.dtype} of shape {scale.shape}")
        found = self._array(scale)
        if not np.all(np.isfinite(found) & (found > 0)):
            raise self._damaged(f"{name} has a scale that is not above 0")
        return found

    def _array(self, one: Variable) -> np.ndarray:
        try:
            return np.frombuffer(self._bytes(one.begin, one.size), one.dtype).reshape(one.shape)
        except OSError as error:
            raise WeightsError(f"{self.where} cannot be read: {error.strerror}") from error

    def _read_head(self) -> None:
        """Where everything is."""
        head = Head(self)
        version = head.number(4)
        if version not in VERSIONS:
            known = f"{VERSIONS[0]} to {VERSIONS[-1]} are read"
            raise WeightsError(f"{self.where} is no CTranslate2 model of a version that {known}")
        self.specification, _ = head.name(), head.number(4)
        self.variables: dict[str, Variable] = {}
        for _ in range(head.number(4)):
            name = head.name()
            if name in self.variables:
                raise self._damaged(f"{name} is there twice")
            self.variables[name] = self._variable(head, name)
        self.aliases: dict[str, str] = {}
        for _ in range(head.number(4)):
            other, name = head.name(), head.name()
            if name not in self.variables or other in self.variables:
                raise self._damaged(f"it calls {name} also {other}")
            self.aliases[other] = name
        if head.at != sum(self.sizes):
            raise self._damaged(f"{sum(self.sizes) - head.at} bytes stand behind its end")
        scaled = {f"{name}{SCALE}" for name in self.variables}
        self.names = [name for name in (*self.variables, *self.aliases) if name not in scaled]

    def _variable(self, head: "Head", name: str) -> Variable:
        shape = tuple(head.number(4) for _ in range(head.number(1)))
        kind, size = head.number(1), head.number(4)
        if kind >= len(DTYPES):
            raise self._damaged(f"{name} has a dtype {kind} that nobody knows")
        dtype = np.dtype(DTYPES[kind])
        if size != math.prod(shape) * dtype.itemsize:
            raise self._damaged(f"{name} has {size} bytes, {dtype} of shape {shape} takes others")
        begin = head.at
        head.skip(size)
        return Variable(dtype, shape, begin, size)

    def _damaged(self, what: str) -> WeightsError:
        return WeightsError(f"{self.where} is damaged or not whole: {what}")

    def _bytes(self, begin: int, size: int) -> bytes:
        """A stretch of all parts behind one another."""
        if begin + size > sum(self.sizes):
            raise self._damaged(f"it ends at {sum(self.sizes)}, before {begin + size}")
        return _stretch(self.parts, self.sizes, begin, size)


def _stretch(parts: Sequence[Path], sizes: Sequence[int], begin: int, size: int) -> bytes:
    found = []
    for part, length in zip(parts, sizes, strict=True):
        if size and begin < length:
            with part.open("rb") as file:
                file.seek(begin)
                found.append(file.read(min(size, length - begin)))
            size -= len(found[-1])
        begin = max(0, begin - length)
    return b"".join(found)


class Head:
    """Numbers and names of a file, one behind the other."""

    def __init__(self, file: Variables):
        self.file, self.at = file, 0

    def skip(self, size: int) -> None:
        """Bytes that are read later."""
        self.at += size

    def number(self, size: int) -> int:
        """An unsigned integer of so many bytes."""
        return int.from_bytes(self._next(size), "little")

    def name(self) -> str:
        """A text that is ended by a zero."""
        text = self._next(self.number(2))
        try:
            if not text.endswith(b"\0"):
                raise ValueError("no zero ends it")
            return text[:-1].decode()
        except ValueError as error:
            raise self.file._damaged(f"a name before {self.at} is none: {error}") from None

    def _next(self, size: int) -> bytes:
        found = self.file._bytes(self.at, size)
        self.at += size
        return found
