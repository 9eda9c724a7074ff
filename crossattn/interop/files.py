"""Tensors in safetensors files, each read when it is asked for; nothing in them is believed."""

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from crossattn.files import printable
from crossattn.interop.foreign import described
from crossattn.interop.table import Shape

__all__ = ["FLOATS", "Files", "WeightsError"]

INDEX = "model.safetensors.index.json"
LONGEST = 100_000_000
DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.dtype("bfloat16"),
    "BOOL": np.bool_,
    **{f"{kind}{bits}": f"{kind.lower()}{bits // 8}" for kind in "IU" for bits in (8, 16, 32, 64)},
}
# Those that are weights, and what NumPy calls them.
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class WeightsError(ValueError):
    """There are no tensors where they should be, or they cannot be read: one line."""

    def __init__(self, message: str):
        super().__init__(printable(message))


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor in a file: bytes `begin` to `end` of what stands behind the header at `data`."""

    file: Path
    dtype: str
    shape: Shape
    begin: int
    end: int
    data: int

    def read(self, name: str) -> np.ndarray:
        """The array."""
        if self.dtype not in DTYPES:
            raise WeightsError(f"{self.file} has {name} in {self.dtype}, which is not read")
        size = self.end - self.begin
        try:
            raw = np.fromfile(self.file, np.uint8, size, offset=self.data + self.begin)
        except OSError as error:
            raise WeightsError(f"{self.file} cannot be read: {error.strerror}") from error
        if raw.size != size:
            raise WeightsError(f"{self.file} has become shorter: {name} is not whole")
        try:
            return raw.view(DTYPES[self.dtype]).reshape(self.shape)
        except ValueError:  # no size, and axes longer than any array has
            raise WeightsError(f"{self.file} is damaged: {name} has shape {self.shape}") from None


class Files(Mapping[str, np.ndarray]):
    """The tensors of a safetensors file, or of a folder of them; each is read when it is asked for.

    An index names plain files of its folder. They may be links, as in the caches of hubs.

    Attributes:
      folder: in which they are.
      shapes: of all tensors.
      dtypes: of all tensors, in the words of the format: F32, F16, BF16.

    Raises:
      WeightsError: there is no such file, it is damaged or something else, or the folder has none.
    """

    def __init__(self, path: str | os.PathLike):
        path = Path(path)
        self.stored: dict[str, Stored] = {}
        try:
            self.folder = path if path.is_dir() else path.parent
            files = _files(path)
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
        for file in files:
            found = _header(file)
            if twice := found.keys() & self.stored.keys():
                where = self.stored[min(twice)].file.name
                raise WeightsError(
                    f"{file} has {min(twice)}, as has {where}: give one of the files"
                )
            self.stored |= found
        self.shapes: dict[str, Shape] = {name: one.shape for name, one in self.stored.items()}
        self.dtypes: dict[str, str] = {name: one.dtype for name, one in self.stored.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.stored[name].read(name)

    def __contains__(self, name: object) -> bool:
        return name in self.stored

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def _files(path: Path) -> list[Path]:
    if path.name.endswith(".safetensors.index.json"):
        return _indexed(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        # Tools of TensorFlow are given a name that several files begin with.
        if (index := path.with_name(f"{path.name}.index")).is_file():
            raise WeightsError(f"{index} is {described(index)}")
        raise WeightsError(f"there is no file or folder {path}")
    if (path / INDEX).exists():
        return _indexed(path / INDEX)
    # A pipe would be waited for.
    inside = sorted(one for one in path.iterdir() if one.is_file())
    files = [one for one in inside if one.suffix == ".safetensors"]
    if files:
        return files
    other = [(one.name, what) for one in inside if (what := described(one))]
    more = f", but {other[0][0]}, which is {other[0][1]}" if other else ""
    raise WeightsError(f"{path} holds no safetensors file{more}")


def _indexed(index: Path) -> list[Path]:
    """The files that an index names."""
    content = _json(index, index.read_bytes() if index.is_file() else b"")
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named:
        raise WeightsError(f'{index} is damaged: it has no "weight_map" of names')
    for name in named.values():
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\:\0"):
            raise WeightsError(f"{index} names {name!r}: a file of its own folder is meant")
    files = [index.parent / name for name in sorted(set(named.values()))]
    for file in files:
        if not file.is_file():
            raise WeightsError(f"{index} names {file.name}, which is not there")
    return files


def _json(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text.decode(), object_pairs_hook=_unique)
    except RecursionError as error:
        raise WeightsError(f"{path} is damaged: it is nested too deeply") from error
    except ValueError as error:
        raise WeightsError(f"{path} is damaged: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice} is there twice")
    return found


def _header(file: Path) -> dict[str, Stored]:
    """What a file says of its tensors, all of which has to be so."""
    try:
        with file.open("rb") as opened:
            total = os.fstat(opened.fileno()).st_size
            length = int.from_bytes(opened.read(8), "little")
            whole = total >= 8 and length <= total - 8
            text = opened.read(length) if whole and length <= LONGEST else b""
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from error
    if not text.startswith(b"{"):
        what = described(file)
        if what is not None:
            raise WeightsError(f"{file} cannot be read: it is {what}")
        raise WeightsError(f"{file} cannot be read: it is cut short, or no safetensors file")
    content = _json(file, text)
    content.pop("__metadata__", None)
    found = {name: _entry(file, name, one, 8 + length) for name, one in content.items()}
    end = 0
    for name, one in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if one.begin != end:
            raise WeightsError(f"{file} is damaged: {name} begins at {one.begin}, not at {end}")
        end = one.end
    if end != total - 8 - length:
        more = f"{total - 8 - length} bytes of tensors, its header speaks of {end}"
        raise WeightsError(f"{file} is damaged or not whole: it has {more}")
    return found


def _entry(file: Path, name: str, entry: Any, data: int) -> Stored:
    """One tensor, whose bytes are as many as its shape takes."""
    whole = lambda n: isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63
    several = lambda ns: isinstance(ns, list) and len(ns) <= 32 and all(map(whole, ns))
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    dtype, shape, span = (fields.get(key, "") for key in ("dtype", "shape", "data_offsets"))
    if not (isinstance(dtype, str) and several(shape) and several(span) and len(span) == 2):
        raise WeightsError(f"{file} is damaged: {name} has no dtype, shape and place")
    one = Stored(file, dtype, tuple(shape), span[0], span[1], data)
    if dtype in DTYPES:
        size = math.prod(one.shape) * np.dtype(DTYPES[dtype]).itemsize
        if one.end - one.begin != size:
            found = f"{one.end - one.begin} bytes, {dtype} of shape {one.shape} takes {size}"
            raise WeightsError(f"{file} is damaged: {name} has {found}")
    return one
