"""Joiners of designs whose context is a stream that changes as the words do."""

import dataclasses
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.models.joining import Streams
from crossattn.nn import presets
from crossattn.nn.block import Block
from crossattn.nn.config import BlockConfig, ResidualConfig, TwoStreamConfig
from crossattn.nn.families.bottleneck import BottleneckLayer
from crossattn.nn.families.ip_adapter import DecoupledAttention
from crossattn.nn.families.prefix import Prefix
from crossattn.nn.families.two_stream import TwoStreams
from crossattn.nn.layers.norm import Norm
from crossattn.nn.scan import recomputed, scan_ends, scan_layers
from crossattn.nn.tables import learned
from crossattn.ops import Mask
from crossattn.shapes import Array

__all__ = ["adapted", "bottlenecked", "prefixed", "two_streams"]

Result = tuple[Array, Any]


def two_streams(model: nn.Module, s: Streams) -> Result:
    """Every text has a context stream of its own from where that has read the text."""
    block = _with_text(cast(TwoStreamConfig, s.config.block))
    words, keys = s.positions(model, block)
    where: dict[str, Any] = {"self_mask": Mask.causal(0)}
    if words is not None:
        where |= {"x_positions": words, "context_positions": keys}
    towers = _towers(s, block.mlp.expansion) if "link" in block.order else None

    def step(layer, streams, prompt, visible, towers, last=False):
        seen = _repeated(visible, streams[1].shape[0])
        if towers is not None:
            towers = towers[0], _repeated(towers[1], streams[1].shape[0])
        streams, (trace, _) = layer(
            streams,
            readable=Mask.keys(seen),
            context_to_x_mask=Mask.keys(prompt),
            context_after=not last,
            towers=towers,
            **where,
        )
        return streams, s.look(trace)

    own = s.each(s.visible), towers
    return _run(s, partial(TwoStreams, *s.sizes, block, **s.policy), step, own)


def prefixed(model: nn.Module, s: Streams) -> Result:
    """Texts behind one prefix, which is computed once for all of them and reads no text."""
    words, keys = s.positions(model, s.config.block)
    where = {} if words is None else {"x_positions": words, "context_positions": keys}

    def step(layer, streams, _, visible, last=False):
        streams, trace = layer(
            streams, readable=Mask.keys(visible), context_after=not last, **where
        )
        return streams, s.look(trace)

    make = partial(Prefix, *s.sizes, cast(BlockConfig, s.config.block), **s.policy)
    return _run(s, make, step, (s.each(s.visible),))


def _run(s: Streams, make: Any, step: Any, own: Any) -> Result:
    """All layers, of which the last does not compute the context: nobody reads it.

    It saves up to half of a shallow stack's work on the context. The first one stands outside of
    the loop as well: there a context may be that of all texts of an image.
    """
    context = jnp.where(s.visible.any(0)[..., None], s.context, 0)
    (x, _), kept = scan_ends(
        step, make, (s.x, context), (s.prompt,), own, layers=s.config.layers, remat=s.remat
    )
    return x, kept


def _repeated(leaf: Array, rows: int) -> Array:
    """What each image has, for each of its texts."""
    return jnp.repeat(leaf, rows // leaf.shape[0], axis=0)


def _with_text(block: TwoStreamConfig) -> TwoStreamConfig:
    """A layer that only exchanges stands between unimodal ones, as in Grounding DINO."""
    if "self" in block.order:
        return block
    return dataclasses.replace(
        block,
        order=(*block.order, "self", "mlp"),
        residual=ResidualConfig(epsilon=block.residual.epsilon),
        cross_residual=block.cross_residual or block.residual,
    )


def _towers(s: Streams, expansion: float | int) -> tuple[Array, Array]:
    """States of a stack of text and of one of context after each layer (BridgeTower)."""
    mlp = dataclasses.replace(presets.TEXT.mlp, expansion=expansion)
    block = dataclasses.replace(presets.TEXT, mlp=mlp)

    def step(layer, x, visible):
        mask = Mask.causal(0) if visible is None else Mask.keys(visible)
        x, _ = layer(x, None, self_mask=mask)
        return x, x

    context = jnp.where(s.visible.any(0)[..., None], s.context, 0)
    of_each = {"text_tower": (s.x, None), "context_tower": (context, s.each(s.visible))}
    states = []
    for name, (stream, visible) in of_each.items():
        layer = Block(*s.sizes, block, name=name, **s.policy)
        depth = {"layers": s.config.layers, "remat": s.remat}
        states.append(scan_layers(step, layer, stream, (), (visible,), **depth)[1])
    return states[0], states[1]


def bottlenecked(model: nn.Module, s: Streams) -> Result:
    """Streams that exchange through shared tokens, which read the prompt alone of the text.

    What they have read of the patches in one layer words read in the next: the map from words to
    patches is the product of both, and there is one less of them than there are layers.
    """
    (B, _, M), R, L = s.x.shape, s.config.latents, s.config.layers
    start, block = nn.initializers.normal(0.02), cast(TwoStreamConfig, s.config.block)
    shared = learned(model, "shared_tokens", start, (R, M)).astype(s.x.dtype)
    shared = jnp.broadcast_to(shared[None], (B, R, M))
    context = jnp.where(s.visible.any(0)[..., None], s.context, 0)
    streams, through, kept = (s.x, _repeated(context, B)), None, []
    seen = s.each(s.visible)
    for number in range(L):
        last = number == L - 1
        layer = BottleneckLayer(*s.sizes, block, name=f"stack{number}", **s.policy)

        def step(layer, streams, shared, visible, prompt, last=last):
            return layer(
                streams,
                shared,
                context_mask=None if last else Mask.keys(visible),
                self_mask=Mask.causal(0),
                shared_mask=Mask.keys(prompt),
                context_after=not last,
            )

        visible = _repeated(seen[min(number, L - 2)], B)
        run = recomputed(step, s.remat)
        streams, shared, (trace, back) = run(layer, streams, shared, visible, s.prompt)
        if through is not None:
            kept.append(s.look(trace, through, shared=R))
        through = back
    return streams[0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)


def adapted(model: nn.Module, s: Streams) -> Result:
    """Words read the image and, by keys of its own, what stands beside it (IP-Adapter)."""
    texts = s.x.shape[0] // s.context.shape[0]
    contexts = jnp.split(jnp.repeat(s.context, texts, axis=0), [s.patches], axis=1)
    seen = jnp.repeat(s.each(s.visible), texts, axis=1)
    x, kept = s.x, []
    for number in range(s.config.layers):
        for order in ("self", "mlp"):
            block = dataclasses.replace(presets.TEXT, order=(order,))
            if order == "mlp":
                norm = Norm(epsilon=block.residual.epsilon, name=f"stack{number}_norm")
                attention = DecoupledAttention(*s.sizes, name=f"stack{number}_cross", **s.policy)
                masks = [Mask.keys(part) for part in jnp.split(seen[number], [s.patches], axis=1)]
                y, (trace, _) = attention(norm(x), contexts, scales=[1.0], masks=masks)
                x = x + y
                kept.append(s.look(trace))
            layer = Block(*s.sizes, block, name=f"stack{number}_{order}", **s.policy)
            x, _ = layer(x, None, self_mask=Mask.causal(0))
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)
