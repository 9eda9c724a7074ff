"""Slots of attention against NumPy: keys beside the context, competing queries, talking heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import CrossAttention
from crossattn.nn.config import ExtraKeys, Logits
from crossattn.nn.layers.dropout import context_dropout
from crossattn.nn.layers.positions import RelativeBias

B, T, S, M, H = 3, 5, 7, 6, 2
TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}
LENGTHS = np.array([7, 2, 0])


@pytest.fixture(scope="module")
def streams():
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (B, T, M)), jax.random.normal(keys[1], (B, S, M))


def run(module, streams, **more):
    """Output, trace and parameters, which are random: nothing is zero."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(1), *streams))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.7, p.shape), p.dtype), shapes)
    mask = Mask.lengths(key=jnp.asarray(LENGTHS))
    y, trace = jax.jit(lambda p, x, c: module.apply(p, x, c, mask=mask, **more))(params, *streams)
    return np.asarray(y), trace, jax.tree.map(lambda p: np.asarray(p, np.float64), params["params"])


def projected(params, streams):
    """Queries, keys, values (B, H, N, D) in float64."""
    x, context = (np.asarray(stream, np.float64) for stream in streams)
    split = lambda y: y.reshape(B, -1, H, M // H).transpose(0, 2, 1, 3)
    dense = lambda name, y: y @ params[name]["kernel"] + params[name]["bias"]
    return split(dense("query", x)), split(dense("key", context)), split(dense("value", context))


def out(params, heads):
    flat = heads.transpose(0, 2, 1, 3).reshape(B, T, M)
    return flat @ params["out"]["kernel"] + params["out"]["bias"]


def logits(q, k):
    found = q @ k.swapaxes(2, 3) / np.sqrt(M // H)
    return np.where(np.arange(S) < LENGTHS[:, None, None, None], found, -np.inf)


def softmax(x, axis=-1):
    top = np.max(x, axis, keepdims=True)
    e = np.exp(x - np.where(np.isfinite(top), top, 0))
    total = e.sum(axis, keepdims=True)
    return np.divide(e, total, out=np.zeros_like(e), where=total > 0)


@pytest.mark.parametrize(
    "spare",
    [
        ExtraKeys(bias_kv=True),
        ExtraKeys(zero_attn=True),
        ExtraKeys(sink=True),
        ExtraKeys(True, True, True, 3),
    ],
)
def test_spare_keys_take_their_share(streams, spare):
    y, trace, params = run(CrossAttention(M, H, extra_keys=spare), streams)
    q, k, v = projected(params, streams)
    columns, values = [logits(q, k)], [v]
    for row in range(spare.registers):
        null = np.broadcast_to(params["register_keys"][row, None, :, None], (B, H, 1, M // H))
        columns.append(q @ null.swapaxes(2, 3) / np.sqrt(M // H))
        null = params["register_values"][row, None, :, None]
        values.append(np.broadcast_to(null, (B, H, 1, M // H)))
    if spare.bias_kv:
        null = np.broadcast_to(params["bias_k"][None, :, None], (B, H, 1, M // H))
        columns.append(q @ null.swapaxes(2, 3) / np.sqrt(M // H))
        values.append(np.broadcast_to(params["bias_v"][None, :, None], (B, H, 1, M // H)))
    for extra, there in ((0.0, spare.zero_attn), ("sink", spare.sink)):
        if there:
            logit = params["sink"][None, :, None, None] if extra == "sink" else np.zeros(1)
            columns.append(np.broadcast_to(logit, (B, H, T, 1)))
            values.append(np.zeros((B, H, 1, M // H)))
    weights = softmax(np.concatenate(columns, -1))
    np.testing.assert_allclose(y, out(params, weights @ np.concatenate(values, 2)), **TOLERANCE)
    np.testing.assert_allclose(trace.weights(), weights[..., :S], **TOLERANCE)


def test_queries_compete_for_keys(streams):
    module = CrossAttention(M, H, logits=Logits(competition="queries"))
    y, trace, params = run(module, streams)
    q, k, v = projected(params, streams)
    shares = softmax(logits(q, k), axis=2)
    total = shares.sum(-1, keepdims=True)
    weights = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    np.testing.assert_allclose(y, out(params, weights @ v), **TOLERANCE)
    np.testing.assert_allclose(trace.weights(), weights, **TOLERANCE)


def test_heads_talk_before_and_after_the_softmax(streams):
    y, _, params = run(CrossAttention(M, H, logits=Logits(talking=True)), streams)
    q, k, v = projected(params, streams)
    raw = q @ k.swapaxes(2, 3) / np.sqrt(M // H)
    mixed = np.einsum("bgts,hg->bhts", raw, params["logits_mix"])
    seen = np.arange(S) < LENGTHS[:, None, None, None]
    weights = np.einsum(
        "bgts,hg->bhts", softmax(np.where(seen, mixed, -np.inf)), params["weights_mix"]
    )
    np.testing.assert_allclose(y, out(params, weights @ v), **TOLERANCE)


def test_a_closed_head_reads_nothing(streams):
    module = CrossAttention(M, H, head_gate=True)
    params = module.init(jax.random.key(0), *streams)
    y, _ = module.apply(params, *streams)
    np.testing.assert_array_equal(y, np.zeros_like(y))


def test_added_positions_reach_queries_and_keys_but_no_value(streams):
    x, context = streams
    places = jax.random.normal(jax.random.key(3), (1, S, M))
    module = CrossAttention(M, H, positions="add")
    y, _, params = run(module, streams, key_positions=places)
    q, _, v = projected(params, streams)
    _, k, _ = projected(params, (x, context + places))
    np.testing.assert_allclose(y, out(params, softmax(logits(q, k)) @ v), **TOLERANCE)


def test_keys_at_the_origin_are_excluded_from_rotation(streams):
    x, context = streams
    module = CrossAttention(M, 1, positions="rotary")
    params = module.init(jax.random.key(0), x, context, query_positions=jnp.zeros((1, T, 1)))
    places = jnp.arange(S, dtype=jnp.float32)[None, :, None]
    keys = lambda p: module.apply(params, context, positions=p, method="project").keys
    plain, turned = keys(None), keys(jnp.where(places < 5, places, 0.0))
    np.testing.assert_array_equal(plain[:, :, 5:], turned[:, :, 5:])
    assert not np.allclose(plain[:, :, 1:5], turned[:, :, 1:5])


def test_positions_that_nobody_uses_are_an_error(streams):
    module = CrossAttention(M, H)
    with pytest.raises(ValueError, match="positions="):
        module.init(jax.random.key(0), *streams, query_positions=jnp.zeros((1, T, 1)))


def test_relative_bias_has_the_buckets_of_t5():
    module = RelativeBias(heads=H, buckets=8, longest=20)
    table = {"params": {"table": jnp.arange(8.0)[:, None] * jnp.ones((1, H))}}
    found = module.apply(table, jnp.array([40]), 41)[0, 0, 0, ::-1]
    # Distances 0 to 3 alone; then 4 + floor(4 log(d / 4) / log(20 / 4)), at most 7.
    wanted = [d if d < 4 else min(7, 4 + int(4 * np.log(d / 4) / np.log(5))) for d in range(41)]
    np.testing.assert_array_equal(found, wanted)
    both = RelativeBias(heads=H, buckets=8, longest=20, both=True).apply(table, jnp.array([1]), 4)
    np.testing.assert_array_equal(both[0, 0, 0], [1, 0, 5, 6])


def test_context_dropout_drops_tokens_and_whole_contexts():
    mask = context_dropout(jax.random.key(0), 500, 11, tokens=0.3, whole=0.2)
    seen = np.asarray(mask.dense_array(500, 1, 11))[:, 0, 0]
    nothing = ~seen.any(1)
    assert 0.12 < nothing.mean() < 0.28
    assert 0.6 < seen[~nothing].mean() < 0.8
    with pytest.raises(ValueError, match="whole must be a probability"):
        context_dropout(jax.random.key(0), 5, 3, whole=1.5)
