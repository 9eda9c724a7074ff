"""Streams that read each other, against NumPy; a prefix; latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from crossattn import Mask
from crossattn.nn import (
    MLP,
    BidirectionalAttention,
    CoAttention,
    CrossAttention,
    PrefixBlock,
    PrefixStack,
    Resampler,
    TwoStreamBlock,
)
from crossattn.nn.streams import prefix_pattern

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


def test_co_attention_is_two_cross_attentions(streams, masks):
    module = CoAttention(M, H)
    params = filled(module, *streams, **masks)
    read, answer, _ = jax.jit(module.apply)(params, *streams, **masks)
    x, context = streams
    one = CrossAttention(M, H)
    forth, _ = one.apply({"params": params["params"]["forth"]}, x, context, mask=masks["mask"])
    back, _ = one.apply(
        {"params": params["params"]["back"]}, context, x, mask=masks["context_to_x"]
    )
    np.testing.assert_allclose(read, forth, **TOLERANCE)
    np.testing.assert_allclose(answer, back, **TOLERANCE)


def test_both_streams_read_the_old_other(streams, masks):
    block = TwoStreamBlock(M, H, expansion=1)
    params = filled(block, streams, self_mask=Mask.causal(0), **masks)
    apply = jax.jit(lambda p: block.apply(p, streams, self_mask=Mask.causal(0), **masks)[0])
    x, context = apply(params)
    # The text's own self-attention comes first; what it then reads must not come back in a block.
    deaf = jax.tree.map(lambda p: p, params)
    for name in ("kernel", "bias"):
        forth = deaf["params"]["exchange"]["forth"]["out"]
        forth[name] = jnp.zeros_like(forth[name])
    changed, same = apply(deaf)
    np.testing.assert_array_equal(context, same)
    assert not np.allclose(x, changed)


def test_texts_of_one_prefix_equal_prefixes_of_their_own(streams):
    _, context = streams
    texts = jax.random.normal(jax.random.key(2), (2 * B, T, M))
    seen = jnp.asarray(np.arange(S) < np.array([[7], [2], [4]]))
    stack = PrefixStack(layers=1, width=M, heads=H, expansion=1)
    params = filled(stack, texts, context, seen=seen[None])
    shared, _ = stack.apply(params, texts, context, seen=seen[None])
    each = jnp.repeat(seen, 2, axis=0)[None]
    single, _ = stack.apply(params, texts, jnp.repeat(context, 2, axis=0), seen=each)
    np.testing.assert_allclose(shared, single, **TOLERANCE)


def test_words_see_the_context_and_their_own_past():
    pattern = np.asarray(prefix_pattern(S, T, texts=2))
    assert pattern[:, :S].all()
    np.testing.assert_array_equal(pattern[:T, S : S + T], np.tri(T, dtype=bool))
    np.testing.assert_array_equal(pattern[T:, S + T :], np.tri(T, dtype=bool))
    assert not pattern[T:, S : S + T].any()


def test_latents_do_not_read_what_is_hidden(streams):
    _, context = streams
    module = Resampler(latents=2, width=M, heads=H, expansion=1)
    mask = Mask.lengths(key=jnp.array([7, 2, 0]))
    params = filled(module, context, mask=mask)
    apply = jax.jit(lambda context: module.apply(params, context, mask=mask))
    latents, trace = apply(context)
    poisoned = context.at[1, 2:].set(jnp.nan).at[2].set(jnp.nan)
    again, _ = apply(poisoned)
    np.testing.assert_array_equal(latents, again)
    assert not trace.weights(jnp.array([0]))[2].any()


def test_a_prefix_is_one_stream_under_self_attention(streams):
    x, context = streams
    seen = jnp.asarray(np.arange(S) < np.array([[7], [2], [4]]))
    words = jnp.ones((B, T), bool)
    pattern = Mask.dense(prefix_pattern(S, T, texts=1)[None, None])
    there = Mask.keys(jnp.concatenate([seen, words], axis=1))
    mask = pattern & there
    block = PrefixBlock(M, H, expansion=1)
    params = filled(block, streams, mask=mask, seen=Mask.keys(seen))
    (read, told), trace = block.apply(params, streams, mask=mask, seen=Mask.keys(seen))

    stream = jnp.concatenate([context, x], axis=1)
    own = params["params"]
    normed = lambda name, y: nn.LayerNorm().apply({"params": own[name]}, y)
    keys = normed("self_norm", stream)
    place = np.arange(S + T)
    whole = Mask.dense(jnp.asarray((place < S) | (place[:, None] >= place))[None, None])
    y, every = CrossAttention(M, H).apply(
        {"params": own["self_attention"]}, keys, keys, mask=whole & there
    )
    y = stream + y
    y += MLP(1).apply({"params": own["feed_forward"]}, normed("feed_forward_norm", y))
    np.testing.assert_allclose(jnp.concatenate([told, read], axis=1), y, **TOLERANCE)
    np.testing.assert_allclose(trace.weights(), every.weights()[:, :, S:], **TOLERANCE)


@pytest.mark.parametrize("exchange", [CoAttention, BidirectionalAttention])
def test_the_final_block_is_a_block_whose_context_nobody_reads(streams, masks, exchange):
    whole = TwoStreamBlock(M, H, expansion=1, exchange=exchange)
    final = whole.clone(final=True)
    masks = {"self_mask": Mask.causal(0), **masks}
    params = filled(whole, streams, **masks)
    (wanted, _), _ = whole.apply(params, streams, **masks)
    (x, context), _ = final.apply(params, streams, **masks)
    np.testing.assert_array_equal(x, wanted)
    np.testing.assert_array_equal(context, streams[1])
