"""Tables of vectors by number: each says which sizes do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.config import VisionLanguageConfig
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.nn import (
    AttentionConfig,
    BlockConfig,
    Bottleneck,
    Latents,
    PatchEncoder,
    QFormer,
    Stack,
    presets,
)
from crossattn.nn.layers.positions import LearnedPositions
from crossattn.nn.tables import Embed, in_table, nan_from

B, S, M, H = 2, 3, 8, 2
STACK = presets.build("resampler", width=M, heads=H, layers=1)


def shaped(module, *given, **where):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *given, **where))


def lab(T, P):
    """What the decoder of the laboratory is given."""
    return {
        "tokens": jnp.ones((B, T), int),
        "images": jnp.ones((B, P, 4)),
        "visible": jnp.ones((B, P), bool),
        "truth": jnp.ones((B, T, P), bool),
        "prompt": jnp.ones((B, T), bool),
    }


DECODER = VisionLanguageDecoder(5, VisionLanguageConfig(width=M, layers=1, heads=H))
X = jnp.ones((B, S, M))


@pytest.mark.parametrize(
    ("module", "made", "given", "says"),
    [
        (DECODER, lab(4, S), lab(7, S), "7 vectors of width 8 are needed, .*'position' has 4 "),
        (DECODER, lab(4, S), lab(3, S), "3 vectors of width 8 are needed, .*'position' has 4 "),
        (DECODER, lab(4, S), lab(4, 5), "VisionEncoder: 5 vectors of .*'position' has 3 "),
        (PatchEncoder(M), (X,), (jnp.ones((B, 7, M)),), "7 vectors of .* has 3 "),
        (
            PatchEncoder(M, "patch"),
            (jnp.ones((1, 16, 16, 3), "uint8"),),
            (jnp.ones((1, 16, 24, 3), "uint8"),),
            "6 vectors of .* has 4 ",
        ),
    ],
)
def test_more_tokens_than_positions_are_refused(module, made, given, says):
    where = lambda given: {} if isinstance(given, tuple) else given
    only = lambda given: given if isinstance(given, tuple) else ()
    params = shaped(module, *only(made), **where(made))
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(lambda p: module.apply(p, *only(given), **where(given)), params)


@pytest.mark.parametrize(
    ("few", "many", "given"),
    [
        (Latents(3, STACK), Latents(5, STACK), (X,)),
        (QFormer(1, M, H, queries=3), QFormer(1, M, H, queries=5), (X,)),
        (Bottleneck(1, M, H, tokens=3), Bottleneck(1, M, H, tokens=5), ((X, X),)),
        (LearnedPositions((3,), M), LearnedPositions((5,), M), ()),
        (LearnedPositions((2, 3), M), LearnedPositions((2, 5), M), ()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_another_number_of_learned_vectors_is_refused(few, many, given):
    with pytest.raises(ValueError, match=r"5 vectors of width 8 are needed, .* has 3 of width 8"):
        jax.eval_shape(lambda p: many.apply(p, *given), shaped(few, *given))


def test_numbers_outside_of_a_table():
    table = Embed(count=3, width=2)
    params = {"params": {"embedding": jnp.array([[1.0, 2], [3, 4], [5, 6]])}}
    numbers = jnp.array([[2, 3, 0], [-1, 1, -3]])
    want = np.array([[[5, 6], [0, 0], [1, 2]], [[0, 0], [3, 4], [0, 0]]])
    np.testing.assert_array_equal(table.apply(params, numbers), want)
    one = Embed(count=1, width=2)
    got = one.apply({"params": {"embedding": jnp.array([[1.0, 2]])}}, jnp.array([0, 1, -1]))
    np.testing.assert_array_equal(got, [[1, 2], [0, 0], [0, 0]])
    there = jax.jit(lambda n: in_table("token", n, 3))(numbers)
    np.testing.assert_array_equal(there, [[True, False, True], [False, True, False]])
    with pytest.raises(ValueError, match="token 3 of a table of 3: numbers are 0 to 2"):
        in_table("token", numbers, 3)
    with pytest.raises(TypeError, match="token: integers are looked up, got float32"):
        in_table("token", jnp.ones(2), 3)
    small, long = jnp.array([7, 100], jnp.int8), jnp.arange(300.0)[:, None]
    assert jax.jit(lambda n: in_table("token", n, 300))(small).all()
    got = Embed(count=300, width=1).apply({"params": {"embedding": long}}, small)
    np.testing.assert_array_equal(got, [[7], [100]])
    said = nan_from(jnp.ones((B, 3, 1)), there)[..., 0]
    np.testing.assert_array_equal(np.isnan(said), [[False, True, True], [True, True, True]])


def test_a_word_outside_of_the_vocabulary_spoils_nothing_before_it():
    given = lab(4, S)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), p.dtype), shaped(DECODER, **given)
    )
    run = jax.jit(lambda tokens: DECODER.apply(params, **given | {"tokens": tokens})[0])
    tokens = jnp.array([[1, 2, 4, 3], [1, 2, 4, 3]])
    right = run(tokens)
    for bad in (-100, -1, 5):
        given["tokens"] = tokens.at[0, 2].set(bad)
        wrong = run(given["tokens"])
        assert np.isnan(wrong[0, 2:]).all()
        np.testing.assert_array_equal(wrong[0, :2], right[0, :2])
        np.testing.assert_array_equal(wrong[1], right[1])
        with pytest.raises(ValueError, match=f"token {bad} of a table of 5: numbers are 0 to 4"):
            shaped(DECODER, **given)


@pytest.mark.parametrize("shape", [(1, S, 1), (1, 1, M), (1, S + 1, M), (3, S, M), (S, M)])
def test_added_positions_that_would_be_broadcast_are_refused(unchecked, shape):
    block = Stack(1, M, H, BlockConfig(self_attention=AttentionConfig(positions="add")))
    with pytest.raises(ValueError, match=r"positions .* for tokens .* takes vectors"):
        shaped(block, X, X, query_positions=jnp.ones(shape))
    shaped(block, X, X, query_positions=jnp.ones((1, S, M)))
    shaped(block, X, X, query_positions=jnp.ones((B, S, M)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, S + 1, 1), (3, S, 1)])
def test_coordinates_that_would_be_broadcast_are_refused(unchecked, shape):
    block = presets.build("merged", width=M, heads=H, layers=1)
    with pytest.raises(ValueError, match=r"positions .* for tokens .* takes coordinates"):
        shaped(block, X, X, query_positions=jnp.ones(shape))
