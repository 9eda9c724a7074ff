"""What hides and shares contexts, for masks of every kind."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import AttentionConfig, Block, CrossAttention, ExtraKeys, Logits, presets
from crossattn.nn.context import ProjectedContext, zero_masked
from tests.support.formulas import filled

B, T, S, M, H = 2, 4, 6, 8, 2


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


MASKS = {
    "an image that no word follows": lambda: Mask.media(
        jnp.array([[1, 1, 3, 3], [0, 1, 1, 2]]),
        jnp.array([[1, 1, 2, 2, 3, 3], [1, 1, 2, 3, 3, 0]]),
    ),
    "segments under a causal mask": lambda: (
        Mask.segments(
            jnp.array([[1, 1, 2, 2], [3, 3, 3, 9]]),
            jnp.array([[1, 1, 1, 2, 2, 2], [5, 5, 3, 3, 9, 9]]),
        )
        & Mask.causal(0)
    ),
    "window and lengths": lambda: Mask.window(1, 0, 0) & Mask.lengths(key=jnp.array([6, 2])),
    "rows of a pattern": lambda: Mask.dense(
        jnp.asarray(np.random.default_rng(1).random((B, 1, T, S)) > 0.8)
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_what_nobody_sees_is_zero_and_nothing_else(name):
    mask, context = MASKS[name](), drawn(B, S, M)
    seen = np.asarray(mask.dense_array(B, T, S)).any((1, 2))
    assert not seen.all()
    got = jax.jit(lambda c, m: zero_masked(c, m, T))(context, mask)
    np.testing.assert_array_equal(got, np.where(seen[..., None], context, 0))


def test_long_masks_are_read_in_blocks():
    long = 700
    mask = Mask.segments(jnp.arange(long)[None] // 3 * 2, jnp.arange(2 * S)[None] * 99)
    seen = np.asarray(mask.dense_array(1, long, 2 * S)).any((1, 2))
    assert 0 < seen.sum() < 2 * S
    got = jax.jit(lambda m: zero_masked(jnp.ones((1, 2 * S, 1)), m, long))(mask)
    np.testing.assert_array_equal(got[..., 0], seen)


@pytest.mark.parametrize("name", ["an image that no word follows", "segments under a causal mask"])
def test_no_gradient_hears_of_what_nobody_sees(name):
    block, mask = presets.build("coca_pooler", width=M, heads=H), MASKS[name]()
    x, context = drawn(B, T, M), drawn(B, S, M, seed=1)
    params = filled(block, x, context)
    seen = np.asarray(mask.dense_array(B, T, S)).any((1, 2))[..., None]
    loss = lambda p, c: jnp.sum(jnp.sin(block.apply(p, x, c, mask=mask)[0]))
    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    one, other = run(params, context), run(params, jnp.where(seen, context, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_projected_context_keeps_what_is_hidden_hidden():
    stack = presets.build("whisper", width=M, heads=H, layers=2)
    x, context = drawn(B, T, M), drawn(B, S, M, seed=1)
    params = filled(stack, x, context)
    mask = Mask.lengths(key=jnp.array([3, 0]))
    hidden = (np.arange(S) >= np.array([3, 0])[:, None])[..., None]

    @jax.jit
    def run(params, context):
        def loss(params):
            projected = stack.apply(params, context, mask=mask, method="project")
            out, _ = stack.apply(params, x, projected, self_mask=Mask.causal(0))
            cache = stack.apply(params, B, T, method="init_cache")
            first, _, _ = stack.apply(
                params, x[:, :1], projected, cache, jnp.int32(0), method="decode_step"
            )
            return jnp.sum(jnp.sin(out)), (out, first)

        return jax.value_and_grad(loss, has_aux=True)(params)

    one, other = run(params, context), run(params, jnp.where(hidden, jnp.nan, context))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    (_, (out, first)), _ = one
    whole, _ = jax.jit(lambda p: stack.apply(p, x, context, mask=mask, self_mask=Mask.causal(0)))(
        params
    )
    np.testing.assert_allclose(out, whole, atol=1e-5)
    np.testing.assert_allclose(first, whole[:, :1], atol=1e-5)


COMPETING = replace(
    presets.config("coca_pooler"),
    cross_attention=AttentionConfig(logits=Logits(competition="queries")),
)


PLAIN = presets.config("encoder_decoder_pre")
TURNED = replace(PLAIN, cross_attention=AttentionConfig(positions="rotary"))


@pytest.mark.parametrize(
    "design",
    [presets.config("latent_projector"), COMPETING, presets.config("merged"), TURNED],
    ids=["latent_projector", "competing", "merged", "turned"],
)
def test_rows_that_share_a_context_do_not_hear_each_other(design):
    block = Block(M, H, design)
    x, contexts = drawn(2 * B, T, M), drawn(B, S, M, seed=1)
    line = lambda size: jnp.arange(size, dtype=jnp.float32)[None, :, None]
    places = {"query_positions": line(T)}
    if design is TURNED:
        places["key_positions"] = line(S)
    params = filled(block, x, contexts, **places)
    there = jnp.arange(S)[None] < jnp.array([[4], [2]])
    mask = Mask.keys(there)
    run = jax.jit(
        lambda x, c, m: block.apply(params, x, c, mask=m, self_mask=Mask.causal(0), **places)[0]
    )
    apart = Mask.keys(jnp.repeat(there, 2, axis=0))
    wanted = run(x, jnp.repeat(contexts, 2, axis=0), apart)
    np.testing.assert_allclose(run(x, contexts, mask), wanted, atol=1e-5)


def test_what_cannot_be_is_said():
    x, context = drawn(3, T, M), drawn(B, S, M)
    block = presets.build("coca_pooler", width=M, heads=H)
    init = lambda block, *args, **where: jax.eval_shape(
        lambda: block.init(jax.random.key(0), *args, **where)
    )
    with pytest.raises(ValueError, match="3 rows of x cannot share 2 contexts"):
        init(block, x, context)
    with pytest.raises(ValueError, match="x has width 5, this module has width 8"):
        init(block, x[..., :5], context)
    with pytest.raises(ValueError, match="give query_positions"):
        init(presets.build("axial_rope", width=M, heads=H), x[:2], context)
    with pytest.raises(ValueError, match="talking heads mix weights"):
        init(
            CrossAttention(M, H, logits=Logits(talking=True), extra_keys=ExtraKeys(bias_kv=True)),
            x,
            x,
        )
    four = drawn(4, T, M)
    with pytest.raises(ValueError, match="take masks of keys"):
        init(Block(M, H, COMPETING), four, context, mask=Mask.causal(0))
    (cache,) = presets.build("whisper", width=M, heads=H, layers=1).init_cache(1, 2)
    with pytest.raises(ValueError, match="a cache for 2 tokens, got 3"):
        cache.extended(ProjectedContext(cache.keys, cache.values), 1)


@pytest.mark.parametrize("name", ["prefix_lm", "qformer", "merged"])
def test_beams_share_a_projected_context(name):
    depth = {} if name == "qformer" else {"layers": 1}
    module = presets.build(name, width=M, heads=H, **depth)
    module = module.clone(layers=1)
    words, contexts = drawn(2 * B, 1, M), drawn(B, S, M, seed=1)
    where = {"query_positions": jnp.zeros((1, 1, 1))} if name == "merged" else {}
    given = {
        "prefix_lm": ((words, jnp.repeat(contexts, 2, axis=0)),),
        "qformer": (contexts, words[:B]),
        "merged": (words, contexts),
    }[name]
    params = filled(module, *given, **where)

    @jax.jit
    def first(contexts):
        projected = module.apply(params, contexts, method="project")
        cache = module.apply(params, 2 * B, 3, method="init_cache")
        place = jnp.int32(0)
        return module.apply(params, words, projected, cache, place, **where, method="decode_step")[
            0
        ]

    np.testing.assert_allclose(first(contexts), first(jnp.repeat(contexts, 2, axis=0)), atol=1e-5)
