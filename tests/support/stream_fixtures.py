"""The files of designs with two streams, of adapters and of slots: as in fixtures.py."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.nn import presets
from crossattn.nn.attention import CrossAttention
from crossattn.nn.block import Block
from crossattn.nn.config import ExtraKeys, TwoStreamConfig
from crossattn.nn.families.ip_adapter import DecoupledAttention
from crossattn.nn.families.prefix import Prefix
from crossattn.nn.families.two_stream import TwoStreams
from crossattn.nn.layers.link import Link
from tests.support.fixtures import SINGLE, Case, Run, keys, masks, sized


def design_of(preset: str, settings: dict) -> TwoStreamConfig:
    design = presets.config(preset)
    cross, mlp = design.cross_attention, design.mlp
    if preset == "bidirectional":
        cross = replace(cross, head_size=settings["head_size"])
    if "hidden" in settings:
        mlp = replace(mlp, expansion=settings["hidden"] / settings["width"])
    return replace(design, cross_attention=cross, mlp=mlp)


def layer(preset: str, settings: dict) -> TwoStreams:
    return TwoStreams(settings["width"], settings["heads"], design_of(preset, settings))


def streams(preset: str, *, stacked: bool = False) -> Run:
    """One layer."""

    def run(settings, params, inputs):
        params = _one(params, 0) if stacked else params
        given = keys(inputs, "x_mask", "context_mask")
        for ours, theirs in (
            ("x_positions", "query_positions"),
            ("context_positions", "key_positions"),
        ):
            given |= {ours: inputs[theirs]} if theirs in inputs else {}
        pair = inputs["x"], inputs["context"]
        (x, context), _ = layer(preset, settings).apply(params, pair, **given)
        return {"x": x, "context": context}

    return run


def bridgetower(settings: dict, params: Any, inputs: dict) -> dict:
    """A first layer, and one that is joined by the towers."""
    params, seen = params["params"], keys(inputs, "x_mask")
    pair = inputs["x"], inputs["context"]
    pair, _ = layer("meter", settings).apply({"params": params["first"]}, pair, **seen)
    towers = inputs["x_tower"], inputs["context_tower"]
    rest = _one({"params": params["blocks"]}, 0)
    (x, context), _ = layer("bridgetower", settings).apply(rest, pair, towers=towers, **seen)
    return {"x": x, "context": context}


def link(kind: str, name: str) -> Run:
    """The link alone, whose three tensors are few enough to be named here."""

    def run(settings, params, inputs):
        state = params["params"]
        norm = {"scale": state["LayerNorm.weight"], "bias": state["LayerNorm.bias"]}
        params = {"params": {"norm": norm, "factor": state[name]}}
        return {"x": Link(kind).apply(params, inputs["x"], inputs["context"])}

    return run


def parallel(settings: dict, params: Any, inputs: dict) -> dict:
    design = sized(presets.config("cappa"), settings)
    module = Block(settings["width"], settings["heads"], design)
    given = masks(inputs, "mask", "self_mask")
    return {"x": module.apply(params, inputs["x"], inputs["context"], **given)[0]}


def prefix(settings: dict, params: Any, inputs: dict) -> dict:
    module = Prefix(settings["width"], settings["heads"], presets.config("prefix_lm"))
    module = module.clone(config=sized(module.config, settings))
    given = keys(inputs, "context_mask") | masks(inputs, "self_mask")
    (x, context), _ = module.apply(params, (inputs["x"], inputs["context"]), **given)
    return {"x": x, "context": context}


def queries(settings: dict, params: Any, inputs: dict) -> dict:
    size = {name: settings[name] for name in ("width", "heads", "layers", "queries")}
    module = presets.build("qformer", config=sized(presets.config("qformer"), settings), **size)
    # The class is given its queries, and has none of its own.
    own = {"queries": jnp.zeros((settings["queries"], settings["width"]))}
    params = {"params": params["params"] | own}
    pair = tuple(jnp.split(inputs["x"], [settings["queries"]], axis=1))
    given = masks(inputs, "mask", "self_mask")
    both, _ = module.apply(params, pair, inputs["context"], **given, method="encode")
    return {"x": jnp.concatenate(both, axis=1)}


def adapter(settings: dict, params: Any, inputs: dict) -> dict:
    module = DecoupledAttention(settings["width"], settings["heads"], pictures=2)
    contexts = [inputs[name] for name in ("context", "adapter_0", "adapter_1")]
    regions = [inputs[f"region_{i}"].reshape(1, -1) for i in range(2)]
    given = {"scales": settings["scales"], "regions": regions}
    return {"x": module.apply(params, inputs["x"], contexts, **given)[0]}


def null(settings: dict, params: Any, inputs: dict) -> dict:
    keys = ExtraKeys(bias_kv=True, zero_attn=True)
    module = CrossAttention(settings["width"], settings["heads"], extra_keys=keys)
    params = {"params": params["params"]["cross_attention"]}
    given = masks(inputs, "mask")
    return {"x": module.apply(params, inputs["x"], inputs["context"], **given)[0]}


def sinks(settings: dict, params: Any, inputs: dict) -> dict:
    """Queries, keys and values are given: our projections pass them on."""
    H, K, D = settings["heads"], settings["key_value_heads"], settings["head_size"]

    def rows(name, heads):
        x = inputs[name].transpose(0, 2, 1, 3)
        return x.reshape(*x.shape[:2], heads * D)

    own, other = np.eye(H * D), np.eye(2 * K * D)
    kernels = {"query": own, "out": own, "key": other[:, : K * D], "value": other[:, K * D :]}
    params = {name: {"kernel": jnp.asarray(leaf)} for name, leaf in kernels.items()} | {
        "sink": params["params"]["sinks"]
    }
    module = CrossAttention(
        H * D, H, key_value_heads=K, use_bias=False, extra_keys=ExtraKeys(sink=True), head_size=D
    )
    context = jnp.concatenate([rows("key", K), rows("value", K)], axis=-1)
    y, _ = module.apply({"params": params}, rows("query", H), context, **masks(inputs, "mask"))
    return {"x": y.reshape(*y.shape[:2], H, D)}


def _one(params: Any, layer: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[layer], params)


CASES: dict[str, Case] = SINGLE | {
    "cappa": Case("cappa", "cappa", parallel),
    "lxmert": Case("lxmert", "lxmert", streams("lxmert")),
    "meter": Case("meter", "meter", streams("meter", stacked=True)),
    "bridgetower": Case("bridgetower", "bridgetower", bridgetower),
    "bridgetower_scaled_add": Case("bridgetower", None, link("scaled", "scaled_factor")),
    "bridgetower_interpolate": Case("bridgetower", None, link("interpolated", "beta")),
    "bidirectional": Case("bidirectional", "bidirectional", streams("bidirectional")),
    "sam_two_way": Case("sam_two_way", "sam_two_way", streams("sam_two_way")),
    "sam_two_way_first": Case(*["sam_two_way_first"] * 2, streams("sam_two_way_first")),
    "prefix_lm": Case("prefix_lm", "prefix_lm", prefix),
    "qformer": Case("qformer", "qformer", queries),
    "ip_adapter": Case("ip_adapter", "ip_adapter", adapter),
    "slots_null": Case("null_key", "null_key", null),
    "slots_sink": Case("sinks", None, sinks),
}
