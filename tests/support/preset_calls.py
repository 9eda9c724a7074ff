"""How each kind of module that a preset builds is called: as a whole, as a loop, step by step."""

import jax
import jax.numpy as jnp
import numpy as np

from crossattn import Mask
from crossattn.nn.block import Block
from crossattn.nn.families.bottleneck import Bottleneck, BottleneckLayer
from crossattn.nn.families.coca import CocaDecoder
from crossattn.nn.families.ip_adapter import DecoupledAttention
from crossattn.nn.families.prefix import Prefix
from crossattn.nn.families.qformer import QFormer, joint_mask
from crossattn.nn.stack import Stack


def arguments(module, x, context, keys):
    """What a module is called with; `keys` (B, S) are the tokens of the context that are there."""
    seen, causal, T = Mask.keys(keys), Mask.causal(0), x.shape[1]
    pair = ((x, context),)
    match module:
        case Block() | Stack():
            return (x, context), {"mask": seen, "self_mask": causal, "query_positions": places(T)}
        case CocaDecoder():
            return (x, context), {"mask": seen}
        case QFormer():
            joint = joint_mask("causal", module.queries, T)
            return (context, x), {"mask": seen, "self_mask": joint}
        case DecoupledAttention():
            return (x, [context, context]), {"scales": [0.5], "masks": [seen, seen]}
        case Bottleneck():
            return pair, {"context_mask": seen}
    layer, depth = getattr(module, "layer", module), getattr(module, "layers", ())
    if isinstance(layer, Prefix):
        return pair, {"context_mask": seen}
    where = {"context_mask": seen, "self_mask": causal}
    return pair, where | towers(layer.config, x, context, (depth,) if depth else ())


def towers(config, x, context, leading=()):
    """The streams once more, for a design that is joined by towers."""
    if "link" not in config.order:
        return {}
    each = [jnp.broadcast_to(stream, (*leading, *stream.shape)) for stream in (x, context)]
    return {"towers": tuple(each)}


def places(T):
    return jnp.arange(T, dtype=jnp.float32)[None, :, None]


def streams(module, out, keys):
    """The streams that come out, without hidden tokens, in float32."""
    match module:
        case CocaDecoder():
            found = {"x": out[0], "text": out[1]}
        case QFormer():
            found = {"x": out[0][1], "queries": out[0][0]}
        case Block() | Stack() | DecoupledAttention():
            found = {"x": out[0]}
        case _:
            x, context = out[0]
            found = {"x": x, "context": jnp.where(keys[..., None], context, 0)}
    return {name: stream.astype(jnp.float32) for name, stream in found.items()}


def whole(module, params, x, context, keys):
    given, where = arguments(module, x, context, keys)
    return streams(module, module.apply(params, *given, **where), keys)


def loop(module, params, x, context, keys):
    """Layer after layer, without a scan; {} for what is not scanned or made of other stacks."""
    if not isinstance(module, Stack | Bottleneck) and not hasattr(module, "layer"):
        return {}
    if isinstance(module, QFormer | CocaDecoder | DecoupledAttention):
        return {}
    own, carry = params["params"], (x, context)
    _, where = arguments(module, x, context, keys)
    if isinstance(module, Bottleneck):
        shared = own["tokens"][None].repeat(x.shape[0], 0)
    for number in range(module.layers):
        one = lambda tree, number=number: {"params": jax.tree.map(lambda p: p[number], tree)}
        if isinstance(module, Stack):
            layer = Block(module.width, module.heads, module.config)
            carry = layer.apply(one(own["blocks"]), carry[0], context, **where)[0], context
        elif isinstance(module, Bottleneck):
            layer = BottleneckLayer(module.width, module.heads, module.config)
            carry, shared, _ = layer.apply(one(own["layer"]), carry, shared, **where)
        else:
            where |= towers(module.layer.config, x, context)
            carry, _ = module.layer.apply(one(own["layer"]), carry, **where)
    out = carry[0] if isinstance(module, Stack) else carry
    return streams(module, (out,), keys)


def writes(module):
    """Whether the module makes a text word by word: nothing that x reads depends on x."""
    match module:
        case Stack():
            return not module.config.concat_queries
        case QFormer() | CocaDecoder():
            return True
    return hasattr(module, "layer") and isinstance(module.layer, Prefix)


def step_by_step(module, params, x, context, keys):
    """One word after the other over a context that is projected once."""
    B, T, _ = x.shape
    seen = Mask.keys(keys)
    prefix = not isinstance(module, Stack | CocaDecoder | QFormer)
    mask = {"context_mask" if prefix else "mask": seen}
    before = mask if prefix or isinstance(module, QFormer) else {}
    projected = module.apply(params, context, **before, method="project")

    def one(cache, given):
        token, place = given
        where = {} if isinstance(module, QFormer) else dict(mask)
        if isinstance(module, Stack):
            where["query_positions"] = place.astype(jnp.float32).reshape(1, 1, 1)
        given = token[:, None], projected, cache, place
        y, cache, *_ = module.apply(params, *given, **where, method="decode_step")
        return cache, y[:, 0]

    cache = module.apply(params, B, T + 1, method="init_cache")
    return jax.lax.scan(one, cache, (x.swapaxes(0, 1), jnp.arange(T)))[1].swapaxes(0, 1)


def deaf(params):
    """The parameters with which attention to the other stream gives exactly nothing."""

    def silenced(path, leaf):
        names = [part.key for part in path]
        reads = any(name.startswith(("cross_attention", "exchange")) for name in names)
        return leaf * 0 if reads and any("out" in name for name in names) else leaf

    return jax.tree_util.tree_map_with_path(silenced, params)


def always_there(module):
    """Whether something besides the context is read under the same softmax."""
    if isinstance(module, Bottleneck):
        return True
    if not isinstance(module, Stack):
        return False
    config = module.config
    keys = config.cross_attention.extra_keys
    return "merged" in config.order or config.concat_queries or keys.have_values


def without_context(module, params, x):
    """The text of a prefix without a prefix."""
    own, x = params["params"]["layer"], jnp.asarray(x)
    for number in range(module.layers):
        layer = Block(module.layer.width, module.layer.heads, module.layer.config)
        one = {"params": jax.tree.map(lambda p, number=number: p[number], own)}
        x, _ = layer.apply(one, x, None, self_mask=Mask.causal(0))
    return np.asarray(x)
