"""Q-Former: who talks to whom, and who reads the context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import presets
from crossattn.nn.families.qformer import joint_mask
from tests.support.formulas import filled

B, R, T, S, M, N, H = 3, 2, 5, 7, 6, 11, 3
LENGTHS = (7, 3, 0)


@pytest.fixture(scope="module")
def module():
    return presets.build("qformer", width=M, heads=H, layers=2, queries=R)


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape)) for shape in ((B, S, N), (B, T, M))]


@pytest.fixture(scope="module")
def run(module, given):
    """One program for all three masks: they are data."""
    mask = Mask.lengths(key=jnp.array(LENGTHS))
    self_mask = joint_mask("bidirectional", R, T)
    params = filled(module, *given, mask=mask, self_mask=self_mask)

    @jax.jit
    def program(params, context, text, self_mask):
        def loss(context):
            out, traces = module.apply(params, context, text, mask=mask, self_mask=self_mask)
            return jnp.sum(jnp.sin(out[0])) + jnp.sum(jnp.sin(out[1])), (out, traces)

        gradient, (out, traces) = jax.grad(loss, has_aux=True)(context)
        return out, gradient, [trace.weights() for trace in traces]

    call = lambda context, text, talk="bidirectional", params=params: program(
        params, context, text, joint_mask(talk, R, T)
    )
    call.params = params
    return call


@pytest.mark.parametrize(
    ("talk", "drawn"),
    [
        ("bidirectional", "11111 11111 11111 11111 11111"),
        ("causal", "11000 11000 11100 11110 11111"),
        ("unimodal", "11000 11000 00111 00111 00111"),
    ],
)
def test_masks_as_drawn_in_the_paper(talk, drawn):
    seen = np.asarray(joint_mask(talk, 2, 3).dense_array(1, 5, 5))[0, 0]
    assert " ".join("".join("01"[int(s)] for s in row) for row in seen) == drawn
    words = jnp.array([[True, True, False]])
    shorter = np.asarray(joint_mask(talk, 2, 3, words=words).dense_array(1, 5, 5))[0, 0]
    np.testing.assert_array_equal(shorter[:, :4], seen[:, :4])
    assert not shorter[:, 4].any()


def test_who_hears_of_whom(run, given):
    context, text = given
    louder, other = text.at[:, 3].multiply(-1.0), context.at[0].add(1.0)
    moved = {}
    for talk in ("bidirectional", "causal", "unimodal"):
        (queries, words), _, _ = run(context, text, talk)
        (asked, said), _, _ = run(context, louder, talk)
        (_, told), _, _ = run(other, text, talk)
        changed = lambda a, b: float(np.abs(a - b).max())
        moved[talk] = (
            changed(queries, asked) > 1e-4,  # queries hear a word
            changed(words[:, :3], said[:, :3]) > 1e-4,  # words before it do
            changed(words, told) > 1e-4,  # words hear of the context
        )
    assert moved == {
        "bidirectional": (True, True, True),
        "causal": (False, False, True),
        "unimodal": (False, True, False),
    }


def test_hidden_context_never_matters(run, given):
    context, text = given
    (queries, words), gradient, rows = run(context, text)
    seen = np.arange(S) < np.array(LENGTHS)[:, None]
    for value in (100.0, jnp.nan):
        other = jnp.where(seen[..., None], context, value)
        out, again, _ = run(other, text)
        np.testing.assert_array_equal(out[0], queries)
        np.testing.assert_array_equal(out[1], words)
        np.testing.assert_array_equal(again, gradient)
    assert not np.asarray(gradient)[~seen].any()
    assert np.abs(gradient).max() > 1e-3
    assert [r.shape for r in rows] == [(B, H, R, S)]  # layer 0 of two


def test_an_empty_context_gives_exactly_nothing(run, given):
    (queries, words), _, _ = run(*given)
    deaf = jax.tree_util.tree_map_with_path(
        lambda path, p: p * 0 if "cross_attention" in str(path) else p, run.params
    )
    (own, said), _, _ = run(*given, params=deaf)
    np.testing.assert_array_equal(own[2], queries[2])
    np.testing.assert_array_equal(said[2], words[2])
    assert np.abs(own - queries)[:2].max() > 1e-3


def test_every_second_layer_reads_the_context(module, run, given):
    layers = run.params["params"]
    assert "cross_attention" in layers["layer_0"]
    assert "cross_attention" not in layers["layer_1"]
    alone = jax.eval_shape(lambda: module.apply(run.params, given[0]))
    assert alone[0][0].shape == (B, R, M)
    assert alone[0][1] is None
