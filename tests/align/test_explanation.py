"""Rollout, relevancy and Grad-CAM: the original rules' numbers, and planted routes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import align
from crossattn.align import Relevancy, attention_grad_cam, gradient_weighted_attention, rollout
from tests.support.measure_inputs import two_streams

FIXTURES = Path(__file__).parents[1] / "fixtures" / "measures"
CHEFER = dict(np.load(FIXTURES / "chefer_relevancy.npz"))


def lxmert(arrays):
    """Relevancy of LXMERT's order of layers; of the last one the text alone."""
    mean = lambda name, kind="_": gradient_weighted_attention(
        arrays[name if kind == "_" else f"{name}_attn"],
        arrays[name.replace("L_", "Lg_") if kind == "_" else f"{name}_grad"],
    )
    r = Relevancy.start(mean("X0_ti", "x"))
    for layer in range(2):
        r = r.self_attention(mean(f"L_tt_{layer}"))
        r = r.context_self_attention(mean(f"L_ii_{layer}"))
    r = r.cross_attention(mean("X0_ti", "x"), mean("X0_it", "x"))
    r = r.self_attention(mean("X0_tt", "x")).context_self_attention(mean("X0_ii", "x"))
    return r.cross_attention(mean("X1_ti", "x")).self_attention(mean("X1_tt", "x"))


def assert_as_pinned(found, atol):
    for name, value in zip(("tt", "ti", "it", "ii"), found, strict=True):
        value = np.array(value)
        if name == "tt":
            value[..., 0, 0] = 0  # the first word's relevancy for itself, which they disregard
        pinned = np.broadcast_to(CHEFER[f"R_{name}"], value.shape)
        np.testing.assert_allclose(value, pinned, rtol=0, atol=atol)


def test_relevancy_of_the_original_rules():
    assert_as_pinned(lxmert(CHEFER), 1e-10)
    np.testing.assert_array_equal(
        gradient_weighted_attention(CHEFER["X0_ti_attn"], CHEFER["X0_ti_grad"]),
        CHEFER["avg_heads_X0_ti"],
    )


def test_relevancy_of_a_batch_under_jit():
    """In float32, of the pinned layers and of other seeds, in one program."""
    seeds = [{name: CHEFER[name] for name in two_streams(0)}, *map(two_streams, range(30))]
    batch = {name: np.stack([layers[name] for layers in seeds]) for name in seeds[0]}
    small = {name: jnp.asarray(x, jnp.float32) for name, x in batch.items()}
    program = jax.jit(lxmert)
    found = program(small)
    assert_as_pinned([value[:1] for value in found], 1e-6)
    for value, wanted in zip(found, lxmert(batch), strict=True):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-6)
    text = str(jax.make_jaxpr(program)(small))
    assert text.count("dot_general[") == text.count("precision=(Precision.HIGHEST") > 0


def test_relevancy_of_a_context_that_nothing_has_mixed_is_finite():
    weights = np.full((2, 3), 0.5)
    r = Relevancy.start(weights).cross_attention(weights, weights.T)
    np.testing.assert_array_equal(r.x_to_context, weights)
    np.testing.assert_array_equal(r.context_to_x, weights.T)
    np.testing.assert_array_equal(r.x_to_x, np.eye(2))


def test_rollout():
    layers = np.stack([CHEFER["L_tt_0"], CHEFER["L_tt_1"]])
    rolled = rollout(layers.mean(axis=1))
    np.testing.assert_allclose(rolled, CHEFER["rollout_Ltt"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(rolled.sum(axis=-1), 1)
    heads = rollout(layers)
    np.testing.assert_allclose(heads[2], rollout(layers[:, 2]), rtol=0, atol=1e-12)
    under_jit = jax.jit(rollout)(jnp.asarray(layers.mean(axis=1), jnp.float32))
    np.testing.assert_allclose(under_jit, CHEFER["rollout_Ltt"], rtol=0, atol=1e-6)


def test_grad_cam_of_albef():
    pinned = np.load(FIXTURES / "albef_gradcam_formula.npz")
    words = pinned["mask"][:, None]
    found = (attention_grad_cam(pinned["attn"], pinned["grad"]) * words).mean(axis=1)
    np.testing.assert_allclose(found, pinned["gradcam"], rtol=0, atol=1e-10)
    halves = (jnp.asarray(pinned[name], jnp.float32) for name in ("attn", "grad"))
    small = np.asarray(jax.jit(attention_grad_cam)(*halves))
    np.testing.assert_allclose((small * words).mean(axis=1), pinned["gradcam"], rtol=0, atol=1e-6)


def test_relevancy_finds_the_way_through_a_mixed_context():
    """Word 0 reads context token 1, which had read token 2: both are relevant, token 0 is not."""
    context = np.zeros((3, 3))
    context[1, 2] = 0.8
    cross = np.zeros((2, 3))
    cross[0, 1] = 0.9
    r = Relevancy.start(cross).context_self_attention(context).cross_attention(cross)
    assert r.x_to_context[0].tolist() == [0, 0.9, 0.9]
    assert not r.x_to_context[1].any()


HEADS = np.full((2, 3, 4), 0.25)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("rollout", (HEADS,), r"\(2, 3, 4\): self-attention is square"),
        ("rollout", (HEADS[0, :3, :3],), r"\(3, 3\): an array \(L, ..., S, S\)"),
        ("rollout", (HEADS[:, :, :3] * np.nan,), "weights has 18 of 18 numbers"),
        ("rollout", (-HEADS[:, :, :3],), "weights is at least 0, got -0.25"),
        ("gradient_weighted_attention", (HEADS, HEADS[0]), r"gradients \(3, 4\): one shape"),
        ("attention_grad_cam", (HEADS[0], HEADS[0]), r"an array \(..., H, T, S\)"),
        ("attention_grad_cam", (HEADS, HEADS * np.inf), "gradients has 24 of 24 numbers"),
        ("attention_grad_cam", (HEADS[:0], HEADS[:0]), r"\(0, 3, 4\)"),
    ],
)
def test_what_is_not_meant_is_refused(name, given, said, unchecked):
    with pytest.raises(ValueError, match=said):
        getattr(align, name)(*given)


def test_relevancy_refuses_heads_and_other_sizes(unchecked):
    r = Relevancy.start(HEADS[0])
    with pytest.raises(ValueError, match=r"weights \(2, 3, 4\): \(3, 4\) is meant"):
        r.cross_attention(HEADS)
    with pytest.raises(ValueError, match=r"\(3, 4\): \(3, 3\) is meant"):
        r.self_attention(HEADS[0])
    with pytest.raises(ValueError, match="floating-point numbers, got int32"):
        Relevancy.start(jnp.ones((2, 3), jnp.int32))
