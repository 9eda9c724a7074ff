"""The module that takes imported parameters, as a program that a user may paste."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from crossattn.interop import config
from crossattn.interop.table import Fit
from crossattn.nn import Logits, presets

# Where what a printed program names is found.
ROOMS = {
    "replace": "dataclasses",
    "TextDecoder": "crossattn.models.text_decoder",
    "Block": "crossattn.nn.block",
    "Latents": "crossattn.nn.families.latents",
    "presets": "crossattn.nn",
    "ResidualConfig": "crossattn.nn.config",
    "Logits": "crossattn.nn.config",
    "Stack": "crossattn.nn.stack",
}
# What a sublayer's parameters stand under.
PARTS = {
    "self": "self_attention",
    "cross": "cross_attention",
    "merged": "cross_attention",
    "mlp": "mlp",
}
# The designs of text decoders' layers.
BERT = ", first_norm=True, final_norm=False, transformed=True, epsilon=1e-12"
TEXTS = {"blip_decoder": "encoder_decoder_post", "whisper_decoder": "whisper"}


def module(preset: str, fit: Fit, beside: config.Config | None = None) -> str:
    """Which module takes the parameters, as far as tensors tell; "" for two streams."""
    name, sizes = TEXTS.get(preset, preset), fit.sizes
    if name not in presets.names() or presets.get(name).family not in ("block", "qformer"):
        return ""
    paths = {p for place in fit.places for p in (*place.entry.ours, *place.entry.zeros)}
    norms = norm_epsilon(name, beside, paths)
    changed = [o for o in (numbers(name, beside, paths), changes(name, fit, paths), norms) if o]
    known = heads_of(sizes) or (beside and beside.heads)
    heads = str(known or "heads")
    layers = len({place.layer for place in fit.places if place.entry.stacked})
    base = f"presets.config({name!r})"
    fields = f"{sizes['M']}, {heads}, {'design' if changed else base})"
    made = f"Stack({layers}, {fields}" if layers else f"Block({fields}"
    takes = ""
    if preset in TEXTS:
        kind = BERT if "bias" in paths else ""
        if beside is not None and beside.epsilon is not None:
            kind = f"{kind.split(', epsilon')[0]}, epsilon={beside.epsilon:g}"
        made = f"TextDecoder({made}, {sizes['W']}, {sizes['P']}{kind})"
    elif name == "qformer":
        made, takes = asking(sizes, paths, changed, heads)
    elif "latents" in paths:
        norm = ", final_norm=True" if layers else ""
        made = f"Latents({sizes['T']}, {made}{norm})"
    elif layers:
        takes = ", as {'params': {'blocks': params['params']}}"
    lines = [f"module = {made}"]
    if changed:
        news = (", ".join(f"{field}={value}" for field, value in one.items()) for one in changed)
        lines = [f"design = {base}", *(f"design = replace(design, {new})" for new in news), *lines]
    code = "\n".join(lines)
    used = [
        f"from {room} import {one}" for one, room in ROOMS.items() if re.search(rf"\b{one}\b", code)
    ]
    rest = "" if known else "; what tensors do not tell, such as heads, is in its config.json"
    return "\n".join([f"taken by the module below{takes}{rest}", *used, *lines])


def numbers(name: str, beside: config.Config | None, paths: set[str]) -> dict[str, str]:
    """Fields of the design whose values are others in config.json."""
    design, found = presets.config(name), {}
    if beside is None:
        return {}
    if beside.epsilon is not None and not math.isclose(beside.epsilon, design.residual.epsilon):
        found["residual"] = f"replace(design.residual, epsilon={beside.epsilon:g})"
    feeds = any("mlp/" in path for path in paths)
    if feeds and beside.activation not in (None, design.mlp.activation):
        found["mlp"] = f"replace(design.mlp, activation={beside.activation!r})"
    return found


def norm_epsilon(name: str, beside: config.Config | None, paths: set[str]) -> dict[str, str]:
    """The epsilon of the norms of queries and keys, where it is another in config.json."""
    logits = presets.config(name).cross_attention.logits
    there = any("/query_norm/" in path for path in paths)
    if not there or beside is None or beside.epsilon in (None, logits.epsilon):
        return {}
    new = f"replace(design.cross_attention.logits, epsilon={beside.epsilon:g})"
    return {"cross_attention": f"replace(design.cross_attention, logits={new})"}


def asking(
    sizes: Mapping[str, int], paths: set[str], changed: Sequence[Any], heads: str
) -> tuple[str, str]:
    """A `QFormer`, and how it takes parameters that have no queries."""
    layers = {path.split("/")[0] for path in paths if path.startswith("layer_")}
    reading = sorted(
        int(path.split("/")[0].removeprefix("layer_"))
        for path in paths
        if path.endswith("/cross_attention/query/kernel")
    )
    every = reading[1] if len(reading) > 1 else len(layers)
    queries = sizes.get("R", "queries")
    made = f"presets.build('qformer', width={sizes['M']}, heads={heads}, "
    made += f"layers={len(layers)}, queries={queries}"
    made += (f", every={every}" if every != 2 else "") + ")"
    takes = "" if "R" in sizes else " with params['params']['queries'], which are elsewhere,"
    return made + (".clone(config=design)" if changed else ""), takes


def changes(name: str, fit: Fit, paths: set[str]) -> dict[str, str]:
    """Fields of the design that tensors show to be others than the preset's."""
    design, sizes = presets.config(name), fit.sizes
    has = lambda part: any(f"/{part}/" in f"/{path}" for path in paths)
    found = {}
    order = tuple(one for one in design.order if has(PARTS[one]))
    if order != design.order:
        found["order"] = repr(order)
    if not has("cross_residual") and (design.cross_residual or design.residual).norm != "none":
        found["cross_residual"] = "ResidualConfig(norm='none', skip=False)"
    gates = [p.entry.target for p in fit.places if p.entry.ours[0].endswith("cross_residual/gate")]
    if ["M"] in gates and design.residual.gate == "tanh":
        found["residual"] = "replace(design.residual, gate='tanh-each')"
    for site in ("self", "cross"):
        field = f"{site}_attention"
        new = attention_of(site, sizes)
        if site == "cross" and has("query_norm") and design.cross_attention.logits == Logits():
            new["logits"] = "Logits(norm='rms')"
        if new:
            fields = ", ".join(f"{one}={value}" for one, value in new.items())
            found[field] = f"replace(design.{field}, {fields})"
    hidden, width = sizes.get("F.mlp"), sizes["M"]
    if hidden is not None and hidden != 4 * width:
        found["mlp"] = f"replace(design.mlp, expansion={hidden} / {width})"
    return found


def heads_of(sizes: Mapping[str, int]) -> int | None:
    """How many heads there are, where something has one number for each, or the size of one."""
    return sizes.get("H") or (sizes["Q.cross"] // sizes["D"] if "D" in sizes else None)


def attention_of(site: str, sizes: Mapping[str, int]) -> dict[str, str]:
    """Fields of a `CrossAttention` whose heads are not M / H wide and all of a kind.

    >>> attention_of("cross", {"M": 12, "Q.cross": 12, "K.cross": 4, "V.cross": 4})
    {'key_value_heads': 'heads // 3'}
    >>> attention_of("cross", {"M": 12, "Q.cross": 16, "K.cross": 8, "V.cross": 8, "D": 4})
    {'key_value_heads': '2', 'head_size': '4'}
    """
    queries = sizes.get(f"Q.{site}", sizes["M"])
    keys = sizes.get(f"K.{site}", queries)
    values, heads = sizes.get(f"V.{site}", keys), heads_of(sizes)
    divided = lambda n: f"{n} // heads" if heads is None else str(n // heads)
    found = {}
    if keys != queries:
        ratio = queries // keys
        found["key_value_heads"] = f"heads // {ratio}" if heads is None else str(heads // ratio)
    if queries != sizes["M"]:
        found["head_size"] = divided(queries)
    if values != keys:
        found["value_size"] = divided(values)
    return found
