"""Words behind a prefix, halves of a decoder, captions predicted at once."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import presets
from crossattn.nn.block import Block
from crossattn.nn.config import ResidualConfig
from crossattn.nn.families.cappa import parallel_or_causal
from crossattn.nn.families.prefix import Prefix
from tests.support.formulas import filled

B, T, S, M, H = 3, 5, 7, 6, 3
WORDS, IMAGE = (5, 2, 4), (7, 3, 0)


@pytest.fixture(scope="module")
def streams():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=shape)) for shape in ((B, T, M), (B, S, M)))


def test_a_prefix_is_one_stream_under_one_mask(streams):
    x, context = streams
    module = Prefix(M, H, replace(presets.config("prefix_lm"), residual=ResidualConfig()))
    masks = {
        "x_mask": Mask.lengths(key=jnp.array(WORDS)),
        "context_mask": Mask.lengths(key=jnp.array(IMAGE)),
    }
    params = filled(module, streams, **masks)
    run = jax.jit(lambda pair: module.apply(params, pair, **masks))
    (words, tokens), trace = run(streams)

    place = np.arange(S + T)
    seen = (place < S) | ((place[:, None] >= place) & (place[:, None] >= S))
    lengths = np.array(IMAGE)[:, None], np.array(WORDS)[:, None] + S
    there = np.where(place < S, place < lengths[0], place < lengths[1])
    one = Block(M, H, module.config)
    mask = Mask.dense(jnp.asarray(seen[None, None] & there[:, None, None]))
    whole = jax.jit(lambda y: one.apply(params, y, None, self_mask=mask)[0])
    shown = jnp.where(there[..., None], jnp.concatenate([context, x], axis=1), 0)
    wanted = whole(shown)
    np.testing.assert_allclose(words, wanted[:, S:], atol=1e-5)
    np.testing.assert_allclose(tokens[:2], wanted[:2, :S], atol=1e-5)  # the last has no context
    assert trace.weights().shape == (B, H, T, S)
    assert not trace.weights()[2].any()

    hidden = ~there[:, :S, None], ~there[:, S:, None]
    for value in (100.0, jnp.nan):
        poisoned = jnp.where(hidden[1], value, x), jnp.where(hidden[0], value, context)
        (said, _), _ = run(poisoned)
        np.testing.assert_array_equal(jnp.where(hidden[1], 0, said), jnp.where(hidden[1], 0, words))


def test_the_lower_half_knows_the_text_only(streams):
    x, context = streams
    decoder = presets.build("coca_decoder", width=M, heads=H, layers=2)
    mask = Mask.lengths(key=jnp.array(IMAGE))
    params = filled(decoder, x, context, mask=mask)
    observe = lambda trace: trace.weights()
    run = jax.jit(lambda x, c: decoder.apply(params, x, c, mask=mask, observe=observe))
    y, text, rows = run(x, context)
    assert rows.shape == (1, B, H, T, S)  # one layer below, one above

    seen, same, _ = run(x, context + 1)
    np.testing.assert_array_equal(text, same)
    assert np.abs(seen - y)[:2].max() > 1e-3
    np.testing.assert_array_equal(seen[2], y[2])  # no image
    later, read, _ = run(x.at[:, 3].multiply(-1.0), context)
    np.testing.assert_array_equal(later[:, :3], y[:, :3])
    np.testing.assert_array_equal(read[:, :3], text[:, :3])
    assert np.abs(later[:, 4] - y[:, 4]).max() > 1e-3


def test_parallel_examples_see_the_mask_token_everywhere():
    tokens = jnp.arange(64 * T).reshape(64, T)
    inputs, mask = parallel_or_causal(jax.random.key(0), tokens, masked=-1)
    parallel = np.asarray((inputs == -1).all(1))
    assert 36 <= parallel.sum() <= 60
    np.testing.assert_array_equal(np.asarray(inputs)[~parallel], np.asarray(tokens)[~parallel])
    seen = np.asarray(mask.dense_array(64, T, T))[:, 0]
    assert seen[parallel].all()
    assert (seen[~parallel] == np.tri(T, dtype=bool)).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_or_none_in_parallel(share):
    tokens = jnp.ones((B, T), jnp.int32)
    inputs, _ = parallel_or_causal(jax.random.key(0), tokens, masked=0, share=share)
    assert (inputs == int(1 - share)).all()
    with pytest.raises(ValueError, match="probability"):
        parallel_or_causal(jax.random.key(0), tokens, masked=0, share=share + 1.5)


def test_cappa_has_no_biases_but_those_of_its_norms(streams):
    block = presets.build("cappa", width=M, heads=H)
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), *streams))
    paths = jax.tree_util.tree_leaves_with_path(shapes)
    biases = [jax.tree_util.keystr(path) for path, _ in paths if "bias" in str(path[-1])]
    assert [path for path in biases if "norm" not in path] == []
    assert len(biases) == 3
