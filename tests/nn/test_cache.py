"""Pasts: what does not fit is refused where that is known, and NaN where it is not."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import presets
from crossattn.nn.attention import ProjectedContext
from crossattn.nn.cache import fits, kv_caches
from crossattn.nn.families.interleaved import Interleaved

B, S, M, H, ROOM = 2, 3, 8, 2, 5
NAMES = ("whisper", "merged", "prefix_lm", "qformer", "coca_decoder", "interleaved")


def built(name):
    """A module, what it is made with, and what it is told of T tokens besides."""
    x, context = drawn(B, 1, M), drawn(B, S, M)
    given, where = (x, context), lambda T: {}
    if name == "interleaved":
        module = Interleaved(1, 1, M, H, reading=presets.config("flamingo"), text=presets.TEXT)
        ones = lambda T: jnp.ones((B, T), int)
        return module, given, lambda T: {"mask": Mask.media(ones(T), ones(S))}
    module = presets.build(name, width=M, heads=H, layers=2 if name == "coca_decoder" else 1)
    if name == "merged":
        where = lambda T: {"query_positions": jnp.zeros((1, T, 1))}
    return module, {"prefix_lm": (given,), "qformer": (context, x)}.get(name, given), where


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.fixture(scope="module", params=NAMES)
def stepping(request):
    """A function of tokens and position, whose cache has room for five tokens and is empty."""
    module, given, where = built(request.param)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *given, **where(1)))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), p.dtype), shapes)
    cache = module.apply(params, B, ROOM, method="init_cache")

    def step(x, position):
        projected = module.apply(params, drawn(B, S, M), method="project")
        call = {"method": "decode_step"} | where(x.shape[1])
        return module.apply(params, x, projected, cache, position, **call)[:2]

    return step


def test_a_place_without_room_gives_nan_and_another_does_not(stepping):
    places = jnp.array([-ROOM, -1, 0, ROOM - 1, ROOM, 99])
    y, after = jax.jit(jax.vmap(stepping, in_axes=(None, 0)))(drawn(B, 1, M), places)
    outside = np.array([True, True, False, False, True, True])
    np.testing.assert_array_equal(np.isnan(y).all(axis=(1, 2, 3)), outside)
    np.testing.assert_array_equal(np.isnan(y).any(axis=(1, 2, 3)), outside)
    # Nor is the cache that of another text afterwards.
    for _, one in kv_caches(after):
        broken = np.isnan(one.keys).reshape(len(places), -1).any(axis=1)
        np.testing.assert_array_equal(broken, outside)


def test_a_place_that_is_known_is_refused(stepping):
    x = drawn(B, 1, M)
    shaped = lambda position: jax.eval_shape(lambda x: stepping(x, position), x)
    with pytest.raises(ValueError, match="a cache for 5 tokens, got 6"):
        shaped(jnp.int32(ROOM))
    with pytest.raises(ValueError, match="position is at least 0, got -1"):
        shaped(jnp.int32(-1))


def test_more_tokens_than_a_past_has_room_for_are_refused(stepping):
    more = drawn(B, ROOM + 1, M)
    with pytest.raises(ValueError, match="a cache for 5 tokens, got 6"):
        jax.eval_shape(stepping, more, jnp.int32(0))


def test_a_past_of_other_rows_or_heads_is_refused():
    (cache,) = built("whisper")[0].init_cache(B, ROOM)
    keys = cache.keys[:, :, :1]
    for new in (keys[:1], keys[:, :1], keys[..., :2]):
        with pytest.raises(ValueError, match=r"a cache \(2, 2, 5, 4\) for tokens"):
            cache.extended(ProjectedContext(new, new), 0)


def test_one_place_serves_all_rows(unchecked):
    (one,) = built("whisper")[0].init_cache(B, ROOM)
    new = ProjectedContext(one.keys[:, :, :1], one.values[:, :, :1])
    with pytest.raises(
        ValueError, match=re.escape("position is one number for all rows, got shape (2,)")
    ):
        one.extended(new, jnp.zeros(B, int))


@pytest.mark.parametrize(
    "position", [np.int32(2**31 - 1), np.uint8(255), np.int8(127), np.uint32(2**32 - 1)]
)
def test_a_place_that_wraps_around_has_no_room(position):
    assert not jax.jit(lambda position: fits(1, 4, position))(position)


@pytest.mark.parametrize("position", [np.uint8(250), np.int8(100), np.int32(299)])
def test_a_place_of_few_bits_has_its_room(position):
    assert jax.jit(lambda position: fits(1, 300, position))(position)


def test_a_step_names_what_it_is_made_without(unchecked):
    stack = presets.build("whisper", width=8, heads=2, layers=1)
    x, context = jnp.ones((2, 1, 8)), jnp.ones((2, 3, 8))
    params = stack.init(jax.random.key(0), x, context)
    cache = stack.apply(params, 2, 4, method="init_cache")
    projected = stack.apply(params, context, method="project")
    step = lambda *given: stack.apply(params, *given, method="decode_step")
    for given in (None, cache[0], cache * 2):
        with pytest.raises(TypeError, match=r"each of 1 layers: write init_cache\(rows, length\)"):
            step(x, projected, given, 2)
    with pytest.raises(TypeError, match=r"cache is required: write init_cache\(rows, length\)"):
        step(x, projected, (None,), 2)
    with pytest.raises(TypeError, match="a cache holds floats, got dtype=int8"):
        stack.apply(params, 2, 4, dtype="int8", method="init_cache")
    with pytest.raises(TypeError, match=r"write project\(context\)"):
        step(x, context, cache, 0)
    with pytest.raises(ValueError, match="3 rows of x cannot share 2 contexts"):
        step(jnp.ones((3, 2, 8)), projected, stack.apply(params, 3, 4, method="init_cache"), 0)
    with pytest.raises(TypeError, match="integer"):
        step(x, projected, cache, 1.5)
    with pytest.raises(ValueError, match="length is at least 1, got -1"):
        stack.apply(params, 2, -1, method="init_cache")


def test_a_cache_in_half_precision_rounds_what_is_stored_and_nothing_else():
    """Products are added up in float32: as a cache in float32 of the rounded numbers."""
    module, given, _ = built("whisper")
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *given))
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), p.dtype), shapes)
    x, half = drawn(B, ROOM, M), jnp.bfloat16

    @jax.jit
    def run(params):
        projected = module.apply(params, drawn(B, S, M), method="project")
        step = lambda x, cache, position: module.apply(
            params, x, projected, cache, position, method="decode_step"
        )[:2]
        cache = module.apply(params, B, ROOM, dtype=half, method="init_cache")
        _, cache = step(x[:, :-1], cache, jnp.int32(0))
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), cache)
        last = x[:, -1:], jnp.int32(ROOM - 1)
        kept, after = step(last[0], cache, last[1])
        return (
            kept,
            step(last[0], wide, last[1])[0],
            module.apply(params, x, drawn(B, S, M), self_mask=Mask.causal(0))[0][:, -1:],
            after,
        )

    kept, rounded, exact, after = run(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype(half)}
    assert kept.dtype == jnp.float32
    assert 0 < np.abs(kept - exact).max() < 0.05
    # The last token's own key is rounded in one of them only.
    assert np.abs(kept - rounded).max() < np.abs(kept - exact).max()
