"""Tensors in safetensors files, under the names of the published classes, and our parameters.

Nothing here needs torch. Tables of names are in `crossattn.interop.names`; each goes both ways.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from crossattn.interop.fitting import exported, imported, pattern
from crossattn.interop.names import LAYOUTS
from crossattn.interop.table import Fit, ImportMismatchError, Layout, Line, Shape
from crossattn.nn.choices import known

__all__ = ["Files", "WeightsError", "elsewhere", "hint", "load", "look", "names", "save", "tensors"]

INDEX = "model.safetensors.index.json"


class WeightsError(ValueError):
    """There are no tensors where they should be, or they cannot be read."""


class Files(Mapping[str, np.ndarray]):
    """The tensors of a safetensors file, or of a folder of them; each is read when it is asked for.

    Attributes:
      shapes: of all tensors.
      dtypes: of all tensors, in the words of the format: F32, F16, BF16.

    Raises:
      WeightsError: there is no such file, it is damaged, or the folder has none.
    """

    def __init__(self, path: str | os.PathLike):
        self.files: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, str] = {}
        for file in _files(Path(path)):
            try:
                opened = safe_open(file, framework="numpy")
                stored = opened.keys()
                found = {name: opened.get_slice(name) for name in stored}
            except (SafetensorError, OSError) as error:
                raise WeightsError(f"{file} cannot be read: {error}") from error
            if twice := found.keys() & self.shapes.keys():
                raise WeightsError(f"{file}: {min(twice)} is in another file of the folder as well")
            self.shapes |= {name: tuple(one.get_shape()) for name, one in found.items()}
            self.dtypes |= {name: one.get_dtype() for name, one in found.items()}
            self.files |= dict.fromkeys(found, opened)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def names() -> tuple[str, ...]:
    """Presets and models that can be imported.

    >>> "mllama" in names(), "blip_decoder" in names()
    (True, True)
    """
    return tuple(LAYOUTS)


def look(
    source: str | os.PathLike | Mapping[str, np.ndarray],
    preset: str,
    *,
    prefix: str = "",
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = (),
    like: Any = None,
) -> Fit:
    """What would be imported, by name and shape only; arguments as those of `load`."""
    shapes = _shapes(_opened(source))
    bare = None if like is None else _shapes(flatten_dict(like["params"], sep="/"))
    given: Any = {"prefix": prefix, "layers": layers, "parts": parts, "like": bare}
    return _best([imported(one, shapes, **given) for one in _layouts(preset)])


def load(
    source: str | os.PathLike | Mapping[str, np.ndarray],
    preset: str,
    *,
    prefix: str = "",
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = (),
    like: Any = None,
) -> dict[str, Any]:
    """Parameters of a preset, or of a model, from tensors under the names of the published class.

    Args:
      source: a safetensors file, a folder with one or with several and their index, or arrays by
        name.
      preset: one of `names()`.
      prefix: what stands before the names of the class; `{i}` in it is the number of a layer, as in
        "model.layers.{i}.", and gives parameters with a leading axis L. Tensors that do not begin
        with it are somebody else's.
      layers: the numbers of these layers; all that have the preset's first tensor when None.
      parts: take only these parts of our parameters, such as ("cross_attention",).
      like: parameters of our module, or their shapes by `jax.eval_shape`, to be met exactly.

    Returns:
      `{"params": tree}` of NumPy arrays with the dtypes of the source, of what the class has:

      * a `Block` of the preset's design, without the sublayers that the class lacks (t5 is the
        attention to the context alone: `Block(M, H, replace(DESIGNS["t5"], order=("cross",)))`),
        and of the sizes that the tensors have. With `{i}` in the prefix, or `layers`, it is what a
        `Stack` has under "blocks".
      * `Latents` over one, where the class has learned queries; `TextDecoder` for blip_decoder and
        whisper_decoder; a `QFormer`, to which its queries are added where the class is given them.
      * a `TwoStreams`, `Prefix` or `DecoupledAttention` for the presets that these are; meter is a
        `StreamStack`'s "layer"; bridgetower has a first meter layer under "first" and the rest,
        stacked, under "blocks"; perceiver has the reading block under "read" and the others,
        stacked, under "blocks".

      `python -m experiments.import_weights FILE --preset NAME` prints the module, except for two
      streams.

    Raises:
      ImportMismatchError: tensors under the prefix are unknown, missing or misshaped. Its message
        is a table of them; nothing is read.
      WeightsError: there are no tensors, or they cannot be read.
      ValueError: no such preset.

    Example:
      >>> import numpy as np
      >>> tensors = {f"EncDecAttention.{name}.weight": np.ones((6, 4)) for name in "qkv"}
      >>> tensors |= {"EncDecAttention.o.weight": np.ones((4, 6)), "layer_norm.weight": np.ones(4)}
      >>> params = load(tensors, "t5")
      >>> params["params"]["cross_attention"]["query"]["kernel"].shape
      (4, 6)
      >>> del tensors["layer_norm.weight"]
      >>> load(tensors, "t5")
      Traceback (most recent call last):
      crossattn.interop.table.ImportMismatchError: 1 tensor does not fit t5
      problem  tensor             found  needed
      missing  layer_norm.weight  -      (M) = (4)
    """
    source = _opened(source)
    fit = look(source, preset, prefix=prefix, layers=layers, parts=parts, like=like)
    _refuse(fit.problems, f"fit {preset}", hint(elsewhere(fit, source, preset)))
    untied = [
        Line("untied", one, needed=f"the same as {other}")
        for one, other in fit.tied.items()
        if source[one].tobytes() != source[other].tobytes()
    ]
    _refuse(untied, f"fit {preset}")
    single: dict[str, Any] = {}
    several: dict[str, list[np.ndarray]] = {}
    for place in fit.places:
        for path, leaf in place.entry.read(np.asarray(source[place.name]), fit.sizes).items():
            if place.entry.stacked:
                several.setdefault(path, []).append(leaf)
            else:
                single[path] = leaf
    single |= {path: np.stack(leaves) for path, leaves in several.items()}
    return {"params": unflatten_dict(single, sep="/")}


def tensors(
    params: Mapping[str, Any],
    preset: str,
    *,
    prefix: str = "",
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Arrays by the names of the published class: what `load` read, byte for byte.

    Of tensors that are tied there is one. Arguments as those of `load`; layers are numbered from 0
    when None.

    Raises:
      ImportMismatchError: parameters are unknown, missing or misshaped, or what the class does not
        have is not 0.
      ValueError: no such preset.
    """
    flat = flatten_dict(params["params"], sep="/")
    given: Any = {"prefix": prefix, "layers": layers, "parts": parts}
    fit = _best([exported(one, _shapes(flat), **given) for one in _layouts(preset)])
    _refuse(fit.problems, f"fit {preset}")
    arrays = {path: np.asarray(leaf) for path, leaf in flat.items()}
    nonzero = [
        Line("misshaped", path, "not 0", "0, the class has none")
        for path in sorted({path for place in fit.places for path in place.entry.zeros})
        if np.any(arrays[path] != 0)
    ]
    _refuse(nonzero, f"fit {preset}")
    found = {}
    for place in fit.places:
        leaves = [arrays[path] for path in place.entry.ours]
        if place.entry.stacked:
            leaves = [np.asarray(leaf[place.layer]) for leaf in leaves]
        found[place.name] = place.entry.write(leaves, fit.sizes)
    return found


def save(
    params: Mapping[str, Any],
    preset: str,
    path: str | os.PathLike,
    *,
    prefix: str = "",
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = (),
) -> None:
    """Write `tensors(...)` to a safetensors file, which is whole or absent."""
    found = tensors(params, preset, prefix=prefix, layers=layers, parts=parts)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # The library reads the file's format in the metadata.
        save_file(found, temporary, metadata={"format": "pt"})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _opened(source: Any) -> Mapping[str, np.ndarray]:
    return source if isinstance(source, Mapping) else Files(source)


def _shapes(arrays: Mapping[str, Any]) -> dict[str, Shape]:
    if isinstance(arrays, Files):
        return arrays.shapes
    return {name: tuple(array.shape) for name, array in arrays.items()}


def _layouts(preset: str) -> tuple[Layout, ...]:
    known("preset", preset, names())
    return LAYOUTS[preset]


def _best(fits: Sequence[Fit]) -> Fit:
    return min(fits, key=lambda fit: len(fit.problems))


def _refuse(lines: Sequence[Line], what: str, hint: str = "") -> None:
    if lines:
        title = "1 tensor does not" if len(lines) == 1 else f"{len(lines)} tensors do not"
        raise ImportMismatchError(f"{title} {what}", lines, hint)


def elsewhere(fit: Fit, source: Mapping[str, np.ndarray], preset: str) -> list[str]:
    """Prefixes under which the tensors might be, when none of them is under the one given."""
    if any(place.name in source for place in fit.places):
        return []
    first = _layouts(preset)[0].entries[0]
    ending = re.compile(r"(.*?)" + pattern(first.theirs, {}) + r"\Z")
    found = {m[1] for m in map(ending.match, source) if m}
    if not first.stacked:
        found |= {re.sub(r"(?<=\.)\d+(?=\.)", "{i}", one, count=1) for one in found}
    return [one for one in sorted(found) if one.endswith(".")][-3:]


def hint(prefixes: Sequence[str]) -> str:
    """Where the tensors might be.

    >>> hint(["model.layers.3.", "model.layers.{i}."])
    "there are such tensors under the prefix 'model.layers.3.', 'model.layers.{i}.'"
    """
    known = ", ".join(map(repr, prefixes))
    return f"there are such tensors under the prefix {known}" if known else ""


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise WeightsError(f"there is no file or folder {path}")
    if (path / INDEX).exists():
        try:
            named = set(json.loads((path / INDEX).read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise WeightsError(f"{path / INDEX} is damaged") from error
        return [path / name for name in sorted(named)]
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise WeightsError(f"{path} holds no safetensors file")
    return files
