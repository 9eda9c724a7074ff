"""Streams that read each other: against NumPy, shared by several texts, and the last layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import (
    BidirectionalAttention,
    Block,
    CrossAttention,
    Latents,
    ResidualConfig,
    TwoStreamConfig,
    TwoStreams,
    presets,
)
from tests.support.families import some_quick

B, T, S, M, H = 3, 5, 7, 6, 2
TOLERANCE = {"atol": 2e-6, "rtol": 2e-5}


@pytest.fixture(scope="module")
def streams():
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (B, T, M)), jax.random.normal(keys[1], (B, S, M))


@pytest.fixture(scope="module")
def masks():
    return {"mask": Mask.lengths(key=jnp.array([7, 2, 0])), "context_to_x": Mask.keys(words())}


def words():
    return jnp.asarray(np.arange(T) < np.array([[3], [5], [1]]))


def filled(module, *arguments, **masks):
    """Random parameters: no bias is zero."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(1), *arguments, **masks))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.5, p.shape), p.dtype), shapes)


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def softmax(logits, visible):
    """Along the last axis, 0 where nothing is visible."""
    e = np.where(visible, np.exp(logits - logits.max(-1, keepdims=True)), 0)
    total = e.sum(-1, keepdims=True)
    return np.divide(e, total, out=np.zeros_like(e), where=total > 0)


def test_bidirectional_is_one_product_with_two_softmaxes(streams, masks):
    module = BidirectionalAttention(M, H)
    params = filled(module, *streams, **masks)
    read, answer, trace = jax.jit(module.apply)(params, *streams, **masks)
    own = params["params"]
    x, c = (np.asarray(stream, np.float64) for stream in streams)

    def heads(name, stream):
        return dense(own[name], stream).reshape(*stream.shape[:2], H, M // H)

    product = np.einsum("bthd,bshd->bhts", heads("reference", x), heads("context_reference", c))
    product /= np.sqrt(M // H)
    seen = (np.arange(S) < np.array([[7], [2], [0]]))[:, None, None]
    forth = softmax(product, seen)
    back = softmax(product.swapaxes(2, 3), np.asarray(words())[:, None, None])
    wanted = np.einsum("bhts,bshd->bthd", forth, heads("context_value", c)).reshape(B, T, M)
    other = np.einsum("bhst,bthd->bshd", back, heads("value", x)).reshape(B, S, M)
    np.testing.assert_allclose(read, dense(own["out"], wanted), **TOLERANCE)
    np.testing.assert_allclose(answer, dense(own["context_out"], other), **TOLERANCE)
    np.testing.assert_allclose(trace.weights(), forth, **TOLERANCE)


ALONE = TwoStreamConfig(order=("cross",), residual=ResidualConfig(norm="none", skip=False))
PRE = TwoStreamConfig()


def test_an_exchange_is_two_cross_attentions(streams, masks):
    module = TwoStreams(M, H, ALONE)
    seen = {"context_mask": masks["mask"], "context_to_x_mask": masks["context_to_x"]}
    params = filled(module, streams, **seen)
    (read, answer), _ = jax.jit(module.apply)(params, streams, **seen)
    x, context = streams
    one, own = CrossAttention(M, H), params["params"]
    part = lambda side: {"params": own[side]["cross_attention"]}
    forth, _ = one.apply(part("x"), x, context, mask=masks["mask"])
    back, _ = one.apply(part("context"), context, x, mask=masks["context_to_x"])
    some = np.array([True, True, False])[:, None, None]  # what sees nothing reads nothing
    np.testing.assert_allclose(read, np.where(some, forth, 0), **TOLERANCE)
    there = (np.arange(S) < np.array([[7], [2], [0]]))[..., None]
    np.testing.assert_allclose(np.where(there, answer, 0), np.where(there, back, 0), **TOLERANCE)


def test_both_streams_read_the_old_other(streams, masks):
    layer = TwoStreams(M, H, PRE)
    where = {"self_mask": Mask.causal(0), "context_to_x_mask": masks["context_to_x"]}
    params = filled(layer, streams, **where)
    apply = jax.jit(lambda p: layer.apply(p, streams, **where)[0])
    x, context = apply(params)
    # The text's own self-attention comes first; what it then reads must not come back in a layer.
    deaf = jax.tree.map(lambda p: p, params)
    for name in ("kernel", "bias"):
        forth = deaf["params"]["x"]["cross_attention"]["out"]
        forth[name] = jnp.zeros_like(forth[name])
    changed, same = apply(deaf)
    np.testing.assert_array_equal(context, same)
    assert not np.allclose(x, changed)


LAYERS = {name: presets.build(name, width=M, heads=H) for name in ("meter", "vilbert")}
LAYERS |= {name: presets.build(name, width=M, heads=H) for name in ("bidirectional", "prefix_lm")}
LAYERS |= {"pre": TwoStreams(M, H, PRE)}
LAYERS |= {"sam_two_way": presets.build("sam_two_way", width=M, heads=1)}
SEEN = jnp.asarray(np.arange(S) < np.array([[7], [2], [4]]))


def given(name, rows=B):
    where = {"readable": Mask.keys(jnp.repeat(SEEN, rows // B, axis=0))}
    if name == "prefix_lm":
        return where
    if name == "sam_two_way":
        where |= {"x_positions": jnp.ones((1, T, M)), "context_positions": jnp.ones((1, S, M))}
    told = jnp.repeat(words(), 2, axis=0)
    return where | {"self_mask": Mask.causal(0), "context_to_x_mask": Mask.keys(told)}


some_layers = pytest.mark.parametrize(
    "name", some_quick(LAYERS, ("meter", "bidirectional", "prefix_lm", "sam_two_way"))
)


@some_layers
def test_texts_of_one_context_equal_contexts_of_their_own(streams, name):
    layer, (_, context) = LAYERS[name], streams
    texts = jax.random.normal(jax.random.key(2), (2 * B, T, M))
    alone = (texts, jnp.repeat(context, 2, axis=0))
    params = filled(layer, alone, **given(name, 2 * B))
    (shared, told), _ = jax.jit(layer.apply)(params, (texts, context), **given(name))
    (single, other), _ = jax.jit(layer.apply)(params, alone, **given(name, 2 * B))
    np.testing.assert_allclose(shared, single, **TOLERANCE)
    # A prefix reads no text: it stays one for all of them.
    told = jnp.repeat(told, 2, axis=0) if name == "prefix_lm" else told
    np.testing.assert_allclose(told, other, **TOLERANCE)


@some_layers
def test_what_nobody_reads_of_the_context_is_not_computed(streams, name):
    layer, (_, context) = LAYERS[name], streams
    pair = jax.random.normal(jax.random.key(2), (2 * B, T, M)), jnp.repeat(context, 2, axis=0)
    params = filled(layer, pair, **given(name, 2 * B))
    last = {**given(name, 2 * B), "context_after": False}
    read = lambda where: jax.jit(lambda *pair: layer.apply(params, pair, **where)[0][0])(*pair)
    wanted, x = read(given(name, 2 * B)), read(last)
    np.testing.assert_allclose(x, wanted, atol=1e-6)
    # Nor are there parameters for it.
    own = jax.tree.leaves(filled(layer, pair, **last))
    loss = lambda p: jnp.sin(layer.apply(p, pair, **last)[0][0]).sum()
    gradient = jax.jit(jax.grad(loss))(params)
    used = [leaf for leaf in jax.tree.leaves(gradient) if np.abs(leaf).max() > 0]
    biases = 3  # of keys, which move all logits of a query alike
    assert len(used) <= len(own) <= len(used) + biases


def test_latents_do_not_read_what_is_hidden(streams):
    _, context = streams
    module = Latents(2, Block(M, H, presets.config("perceiver_encode")), final_norm=True)
    mask = Mask.lengths(key=jnp.array([7, 2, 0]))
    params = filled(module, context, mask=mask)
    look = lambda trace: trace.weights(jnp.array([0]))
    apply = jax.jit(lambda context: module.apply(params, context, mask=mask, observe=look))
    latents, weights = apply(context)
    poisoned = context.at[1, 2:].set(jnp.nan).at[2].set(jnp.nan)
    again, _ = apply(poisoned)
    np.testing.assert_array_equal(latents, again)
    assert not weights[2].any()
