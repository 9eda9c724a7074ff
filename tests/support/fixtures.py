"""Outputs of other people's classes (tests/fixtures/blocks), and our modules with their weights.

Each case says under which name its tensors are imported, which preset it is, and how our module is
called. Only sizes are taken from a file's settings: norms, activations and epsilons are those of
the preset, unless the class differs from it in one of them, which then stands here.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn import Mask
from crossattn.interop.names import LAYOUTS
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import presets
from crossattn.nn.block import Block
from crossattn.nn.config import BlockConfig, Logits, ResidualConfig
from crossattn.nn.families.latents import Latents
from crossattn.nn.stack import Stack

FOLDER = Path(__file__).parents[1] / "fixtures" / "blocks"
Run = Callable[[dict, Any, dict], dict]


@dataclasses.dataclass(frozen=True)
class Peer:
    """A file: what the class was given, what it made of it, and its gradients."""

    name: str
    about: Mapping[str, Any]
    state: Mapping[str, np.ndarray]
    cases: Mapping[str, Mapping[str, np.ndarray]]

    @property
    def settings(self) -> dict[str, Any]:
        return self.about["settings"]

    @property
    def tolerance(self) -> float:
        return 5e-6 if self.about["upcasts"] else 1e-12


def read(name: str) -> Peer:
    """One file, its cases apart; the main one has the name ""."""
    arrays = dict(np.load(FOLDER / f"{name}.npz"))
    about = json.loads(str(arrays.pop("about")))
    state = {key[6:]: x for key, x in arrays.items() if key.startswith("state/")}
    rest = {key: x for key, x in arrays.items() if not key.startswith("state/")}
    more = [case for case in about["cases"] if case]
    cases = {case: {} for case in about["cases"]}
    for key, x in rest.items():
        case = key.split("/")[0] if key.split("/")[0] in more else ""
        cases[case][key.removeprefix(f"{case}/")] = x
    return Peer(name, about, state, cases)


def float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


@dataclasses.dataclass(frozen=True)
class Case:
    """How a file is compared.

    Attributes:
      preset: ours that it checks.
      names: under which its tensors are imported, None: it has no names of a checkpoint.
      run: makes {"x": ..., "context": ...} of the settings, our parameters and the inputs.
    """

    preset: str
    names: str | None
    run: Run


def sized(config: BlockConfig, settings: dict, **other: Any) -> BlockConfig:
    """A design with the sizes of a file."""
    size = {name: settings[name] for name in ("key_value_heads", "head_size") if name in settings}
    for ours, theirs in (("head_size", "qk_channels"), ("value_size", "v_channels")):
        if theirs in settings:
            size[ours] = settings[theirs] // settings["heads"]
    numbers = {name: settings[name] for name in ("scale", "softcap") if name in settings}

    def attention(config):
        return replace(config, logits=replace(config.logits, **numbers), **size)

    if "hidden" in settings:
        other["mlp"] = replace(config.mlp, expansion=settings["hidden"] / settings["width"])
    own, cross = attention(config.self_attention), attention(config.cross_attention)
    return replace(config, self_attention=own, cross_attention=cross, **other)


def masks(inputs: dict, *names: str) -> dict[str, Mask]:
    return {name: Mask.dense(inputs[name]) for name in names if name in inputs}


def keys(inputs: dict, *names: str) -> dict[str, Mask]:
    return {name: Mask.keys(inputs[name][:, 0, 0]) for name in names if name in inputs}


def places(inputs: dict) -> dict[str, jax.Array]:
    """Positions (B, T) as coordinates (B, T, 1)."""
    if "positions" not in inputs:
        return {}
    return {"query_positions": jnp.asarray(inputs["positions"], jnp.float64)[..., None]}


def block(preset: str, **other: Any) -> Run:
    """One block of a preset, called with all that the file has."""

    def run(settings, params, inputs):
        module = Block(
            settings["width"], settings["heads"], sized(presets.config(preset), settings, **other)
        )
        given = masks(inputs, "mask", "self_mask") | places(inputs)
        return {"x": module.apply(params, inputs["x"], inputs["context"], **given)[0]}

    return run


def idefics(settings: dict, params: Any, inputs: dict) -> dict:
    design = presets.config("idefics")
    gate = "tanh-each" if settings["gate"] == "vector" else "tanh"
    logits = Logits(norm="rms") if settings["query_key_norm"] else Logits()
    cross, residual = design.cross_attention, replace(design.residual, gate=gate)
    design = replace(design, residual=residual, cross_attention=replace(cross, logits=logits))
    module = Block(settings["width"], settings["heads"], sized(design, settings))
    out = module.apply(params, inputs["x"], inputs["context"], **masks(inputs, "mask"))
    return {"x": out[0]}


def latents(preset: str, *, only_row: bool = False) -> Run:
    """Learned queries read through one block, or through a stack and a norm."""

    def run(settings, params, inputs):
        size = settings["width"], settings["heads"], sized(presets.config(preset), settings)
        several = "layers" in settings
        reader = Stack(settings["layers"], *size) if several else Block(*size)
        count = params["params"]["latents"].shape[0]
        module = Latents(count, reader, final_norm=several)
        y, _ = module.apply(params, inputs["context"], **masks(inputs, "mask"))
        return {"x": y[:, 0] if only_row else y}

    return run


def perceiver_decode(settings: dict, params: Any, inputs: dict) -> dict:
    """Heads of the context's width, which is the class's own choice."""
    sizes = dict.fromkeys(("qk_channels", "v_channels"), settings["context_width"])
    return block("perceiver_decode")(settings | sizes, params, inputs)


def perceiver(settings: dict, params: Any, inputs: dict) -> dict:
    """Reads once, then takes the same layers `blocks` times."""
    width, heads, params = settings["width"], settings["heads"], params["params"]
    design = sized(presets.config("perceiver_encode"), settings)
    module = Block(width, heads, design)
    given = masks(inputs, "mask")
    x, _ = module.apply({"params": params["read"]}, inputs["x"], inputs["context"], **given)
    design = replace(design, order=("self", "mlp"), context_norm=None)
    layers = [
        jax.tree.map(lambda p, i=i: p[i], params["blocks"]) for i in range(settings["layers"])
    ]
    for layer in settings["blocks"] * layers:
        x, _ = Block(width, heads, design).apply({"params": layer}, x, None)
    return {"x": x}


def axial(settings: dict, params: Any, inputs: dict) -> dict:
    """Keys without a place stand at the end, at coordinates 0."""
    places = jnp.asarray(inputs["key_positions"], jnp.float64)
    places = jnp.pad(places, ((0, settings["excluded"]), (0, 0)))[None]
    own = jnp.asarray(inputs["query_positions"], jnp.float64)[None]
    module = Block(settings["width"], settings["heads"], presets.config("axial_rope"))
    given = {"query_positions": own, "key_positions": places}
    return {"x": module.apply(params, inputs["x"], inputs["context"], **given)[0]}


def decoder(preset: str, settings: dict) -> TextDecoder:
    """A whole one; that of BLIP is BERT."""
    bert = {"first_norm": True, "final_norm": False, "transformed": True}
    kind = bert if preset == "encoder_decoder_post" else {}
    design = sized(presets.config(preset), settings)
    stack = Stack(settings["layers"], settings["width"], settings["heads"], design)
    sizes = settings["vocabulary"], settings["places"]
    return TextDecoder(stack, *sizes, **kind, epsilon=settings["epsilon"])


def text(preset: str) -> Run:
    """All its logits."""

    def run(settings, params, inputs):
        module = decoder(preset, settings)
        return {"x": module.apply(params, jnp.asarray(inputs["tokens"]), inputs["context"])[0]}

    return run


BRIDGETOWER = replace(presets.config("encoder_decoder_post").residual, epsilon=1e-5)
ALONE = ResidualConfig(norm="none", skip=False)
ONLY = {"order": ("cross",)}

SINGLE: dict[str, Case] = {
    "encoder_decoder_post": Case(*["encoder_decoder_post"] * 2, block("encoder_decoder_post")),
    "bridgetower_cross": Case(
        *["encoder_decoder_post"] * 2, block("encoder_decoder_post", residual=BRIDGETOWER)
    ),
    "encoder_decoder_pre": Case("whisper", "whisper", block("whisper")),
    "t5": Case("t5", "t5", block("t5", **ONLY)),
    "t5_cross": Case("t5", "t5", block("t5", **ONLY)),
    "t5gemma": Case("t5gemma", "t5gemma", block("t5gemma", **ONLY)),
    "t5gemma_layer": Case("t5gemma", "t5gemma", block("t5gemma")),
    "merged": Case("merged", "merged", block("merged", order=("merged",), cross_residual=ALONE)),
    "flamingo": Case("idefics", "idefics", idefics),
    "idefics_cross": Case("idefics", "idefics", idefics),
    "mllama": Case("mllama", "mllama", block("mllama")),
    "mllama_cross": Case("mllama", "mllama", block("mllama")),
    "perceiver_encode": Case(*["perceiver_encode"] * 2, block("perceiver_encode")),
    "perceiver_decode": Case(*["perceiver_decode"] * 2, perceiver_decode),
    "perceiver": Case("perceiver_encode", "perceiver", perceiver),
    "resampler": Case("resampler", "resampler", latents("resampler")),
    "idefics2_resampler": Case(*["resampler_masked"] * 2, latents("resampler_masked")),
    "resampler_masked": Case(*["resampler_masked"] * 2, latents("resampler_masked")),
    "coca_pooler": Case("coca_pooler", "coca_pooler", latents("coca_pooler")),
    "map_head": Case("map_head", "map_head", latents("map_head", only_row=True)),
    "siglip_head": Case("map_head", "map_head", latents("map_head", only_row=True)),
    "latent_projector": Case(*["latent_projector"] * 2, latents("latent_projector")),
    "axial_rope": Case("axial_rope", "axial_rope", axial),
    "blip_decoder": Case("encoder_decoder_post", "blip_decoder", text("encoder_decoder_post")),
    "whisper_decoder": Case("whisper", "whisper_decoder", text("whisper")),
}


def zero_paths(names: str) -> set[str]:
    """Parameters of ours that the class does not have."""
    return {path for one in LAYOUTS[names] for entry in one.entries for path in entry.zeros}
