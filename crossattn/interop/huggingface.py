"""Tensors in safetensors files, under the names of the published classes, and our parameters.

Nothing here needs torch, which reads its own files where it is installed. Tables of names are in
`crossattn.interop.names`; each goes both ways. One of one's own is a `Layout` of `Entry`s, see
`crossattn.interop.table`.
"""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from crossattn import renamed
from crossattn.interop import config
from crossattn.interop.checks import check_parts, untied, without_integers
from crossattn.interop.files import Files, WeightsError
from crossattn.interop.fitting import exported, imported, pattern
from crossattn.interop.layouts import importable, layouts_of, readable
from crossattn.interop.table import Fit, ImportMismatchError, Layout, Line, Shape
from crossattn.interop.torch_files import TorchFiles, weight_files

__all__ = [
    "Files",
    "WeightsError",
    "elsewhere",
    "hint",
    "importable",
    "load",
    "look",
    "save",
    "tensors",
    "untied",
]

__getattr__ = renamed.former_names(__name__, names="importable")


def look(
    source: str | os.PathLike | Mapping[str, Any],
    preset: str = "",
    *,
    layout: Layout | None = None,
    prefix: str = "",
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = (),
    like: Any = None,
    module: nn.Module | None = None,
) -> Fit:
    """What would be imported, by name and shape only; arguments as those of `load`."""
    preset, layouts = layouts_of(preset, layout)
    source = _opened(source)
    shapes, parts = _shapes(source), _several(parts)
    bare = None if like is None else _shapes(flatten_dict(like["params"], sep="/"))
    given: Any = {"prefix": prefix, "layers": layers, "parts": parts, "like": bare}
    fit = _best([imported(one, shapes, **given) for one in readable(layouts)])
    check_parts(preset, layouts, parts, fit)
    fit = without_integers(fit, source)
    folder = source.folder if isinstance(source, Files | TorchFiles) else None
    content = None if folder is None else config.read_config(folder)
    said = config.Config(content or {}, preset, prefix)
    if (content is None and module is None) or not any(p.name in source for p in fit.places):
        return fit
    more = config.config_misfits(said, fit, module, layers=layers is None)
    return dataclasses.replace(fit, lines=(*more, *fit.lines))


def load(
    source: str | os.PathLike | Mapping[str, Any],
    preset: str = "",
    *,
    layout: Layout | None = None,
    prefix: str = "",
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = (),
    like: Any = None,
    module: nn.Module | None = None,
) -> dict[str, Any]:
    """Parameters of a preset, or of a model, from tensors under the names of the published class.

    Args:
      source: a safetensors file, a folder with one or with several and their index, or arrays by
        name. Where torch is installed, also a file that it has saved, or a folder with
        pytorch_model.bin: torch reads it, and nothing but tensors.
      preset: one of `importable()`, unless a layout is given.
      layout: one of one's own, in place of a preset: the tensors under its scopes, and no others,
        become the parameters that its entries say. Where there is a config.json, its sizes are
        compared with the letters M, N, W, P, T and F.mlp.
      prefix: what stands before the names of the class; `{i}` in it is the number of a layer, as in
        "model.layers.{i}.", and gives parameters with a leading axis L. Tensors that do not begin
        with it are somebody else's.
      layers: the numbers of these layers; all that have the preset's first tensor when None.
      parts: take only these parts of our parameters, such as ("cross_attention",) of a block and
        ("stack", "norm") of a decoder; what the others need may be missing.
      like: parameters of our module, or their shapes by `jax.eval_shape`, to be met exactly.
      module: the one that is to take them. Its heads, epsilon and activation, which tensors do not
        tell, are compared with a config.json beside the file, its sizes with the tensors.

    Returns:
      `{"params": tree}` of NumPy arrays with the dtypes of the source, of what the class has:

      * a `Block` of the preset, without the sublayers that the class lacks (t5 is the attention to
        the context alone, `replace(presets.config("t5"), order=("cross",))`), and of the sizes that
        the tensors have. With `{i}` in the prefix, or `layers`, it is what a `Stack` has under
        "blocks".
      * `Latents` over one, where the class has learned queries; `TextDecoder` for blip_decoder and
        whisper_decoder, `AudioEncoder` for whisper_encoder; a `QFormer`, to which its
        queries are added where the class is given them.
      * a `TwoStreams`, `Prefix` or `DecoupledAttention` for the presets that these are; meter is a
        `StreamStack`'s "layer"; bridgetower has a first meter layer under "first" and the rest,
        stacked, under "blocks"; perceiver has the reading block under "read" and the others,
        stacked, under "blocks".

      `python -m experiments.import_weights FILE --preset NAME` prints the module, except for two
      streams.

    Raises:
      ImportMismatchError: tensors under the prefix are unknown, missing, misshaped or no floats, or
        config.json or the module say otherwise. Its message is a table of them; nothing is read.
      WeightsError: there are no tensors, or they cannot be read.
      ValueError: no such preset, or it has no such parts; a preset and a layout, or neither.

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
    asking: Any = {"prefix": prefix, "layers": layers, "parts": parts, "like": like}
    fit = look(source, preset, layout=layout, module=module, **asking)
    preset, layouts = layouts_of(preset, layout)
    _refuse(fit.problems, f"fit {preset}", _advice(fit, source, layouts))
    _refuse(untied(fit, source), f"fit {preset}")
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
    preset: str = "",
    *,
    layout: Layout | None = None,
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
    preset, layouts = layouts_of(preset, layout)
    flat = flatten_dict(params["params"], sep="/")
    given: Any = {"prefix": prefix, "layers": layers, "parts": parts}
    fit = _best([exported(one, _shapes(flat), **given) for one in layouts])
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
    preset: str = "",
    path: str | os.PathLike | None = None,
    *,
    layout: Layout | None = None,
    prefix: str = "",
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = (),
) -> None:
    """Write `tensors(...)` to a safetensors file, which is whole or absent.

    Raises:
      TypeError: no path is given.
    """
    if path is None:
        raise TypeError('save needs a path: write save(params, path="model.safetensors", ...)')
    given: Any = {"prefix": prefix, "layers": layers, "parts": parts}
    found = tensors(params, preset, layout=layout, **given)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # The library reads the file's format in the metadata.
        save_file(found, temporary, metadata={"format": "pt"})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _opened(source: Any) -> Mapping[str, Any]:
    return source if isinstance(source, Mapping) else weight_files(source)


def _shapes(arrays: Mapping[str, Any]) -> dict[str, Shape]:
    if isinstance(arrays, Files):
        return arrays.shapes
    return {name: tuple(np.shape(array)) for name, array in arrays.items()}


def _several(parts: Sequence[str]) -> tuple[str, ...]:
    return (parts,) if isinstance(parts, str) else tuple(parts)


def _best(fits: Sequence[Fit]) -> Fit:
    # Where parts are asked for, a variant that has none of them has no problems either.
    return min(fits, key=lambda fit: (len(fit.problems), not fit.places))


def _refuse(lines: Sequence[Line], what: str, hint: str = "") -> None:
    if lines:
        kind = "setting" if {line.problem for line in lines} <= {"config", "module"} else "tensor"
        title = f"1 {kind} does not" if len(lines) == 1 else f"{len(lines)} {kind}s do not"
        raise ImportMismatchError(f"{title} {what}", lines, hint)


def _advice(fit: Fit, source: Mapping[str, Any], layouts: Sequence[Layout]) -> str:
    if any(line.problem == "config" for line in fit.problems):
        return "if config.json is another model's, give load the arrays: dict(Files(...))"
    return hint(_elsewhere(fit, source, layouts))


def elsewhere(fit: Fit, source: Mapping[str, Any], preset: str) -> list[str]:
    """Prefixes under which the tensors might be, when none of them is under the one given."""
    return _elsewhere(fit, source, layouts_of(preset)[1])


def _elsewhere(fit: Fit, source: Mapping[str, Any], layouts: Sequence[Layout]) -> list[str]:
    if any(place.name in source for place in fit.places):
        return []
    found: set[str] = set()
    for layout in readable(layouts):
        first = layout.entries[0]
        ending = re.compile(r"(.*?)" + pattern(first.theirs, {}) + r"\Z")
        found |= {m[1] for m in map(ending.match, source) if m}
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
