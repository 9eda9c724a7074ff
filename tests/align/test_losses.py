"""Losses on maps against NumPy written here, at the edges, and by what descending them does."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr

from crossattn.align import mass_in_region, normalized_entropy
from crossattn.align.losses import (
    attention_supervision,
    entropy_loss,
    head_overlap,
    map_distillation,
)

L, B, H, T, P = 2, 3, 5, 7, 11


@pytest.fixture
def maps():
    """Maps of which some rows see nothing, regions of which some words have none, and words."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(P, 0.5), (L, B, H, T)).astype(np.float32)
    weights[:, 0, :, 2] = 0
    weights[1, 1, 3, 4] = 0
    coverage = rng.random((B, T, P)).astype(np.float32) * (rng.random((B, T, P)) < 0.3)
    coverage[:, 5] = 0
    words = rng.random((B, T)) < 0.7
    words[1] = False
    return weights, coverage.astype(np.float32), words


def test_each_is_its_definition_word_by_word(maps):
    weights, coverage, words = maps
    teacher = weights.mean((0, 2))
    found = {
        "supervision": attention_supervision(weights, coverage[:, None], words[:, None]),
        "entropy": entropy_loss(weights, words[:, None]),
        "distillation": map_distillation(weights, teacher[:, None], words[:, None]),
    }
    mass = mass_in_region(weights, np.broadcast_to(coverage[:, None], weights.shape))
    one = {
        "supervision": -np.log(mass, where=mass > 0, out=np.full_like(mass, np.nan)),
        "entropy": normalized_entropy(weights),
        "distillation": rel_entr(teacher[:, None], weights).sum(-1),
    }
    for name, each in one.items():
        assert found[name].shape == (L, B, H)
        assert found[name].dtype == jnp.float32
        for place in np.ndindex(L, B, H):
            seen = words[place[1]] & weights[place].any(-1) & ~np.isnan(each[place])
            mean = each[place][seen].mean() if seen.any() else 0.0
            np.testing.assert_allclose(found[name][place], mean, rtol=1e-5, err_msg=name)


def test_overlap_is_the_mean_cosine_of_pairs_of_heads(maps):
    weights, _, words = maps
    found = np.asarray(head_overlap(weights, words))
    for layer, text in np.ndindex(L, B):
        own = weights[layer, text]
        each = []
        for word in range(T):
            if not (words[text, word] and own[:, word].any(-1).all()):
                continue
            unit = [row / np.linalg.norm(row) for row in own[:, word]]
            each.append(np.mean([a @ b for a, b in itertools.combinations(unit, 2)]))
        np.testing.assert_allclose(found[layer, text], np.mean(each) if each else 0, rtol=1e-5)


def calls(maps):
    weights, coverage, words = maps
    some = words[:, None]
    return {
        "supervision": lambda x: attention_supervision(x, coverage[:, None], some),
        "entropy": lambda x: entropy_loss(x, some),
        "overlap": lambda x: head_overlap(x, words),
        "distillation": lambda x: map_distillation(x, weights[:1, :, :1], some),
    }


@pytest.mark.parametrize("name", ["supervision", "entropy", "overlap", "distillation"])
def test_gradients_are_finite_and_those_of_differences(maps, name, x64):
    """Of logits, in float64; where a row sees nothing there is none."""
    weights = maps[0].astype(np.float64)
    f = calls((weights, *maps[1:]))[name]
    logits, seen = np.log(np.where(weights > 0, weights, 1)), (weights > 0).any(-1, keepdims=True)
    loss = lambda x: f(jnp.where(seen, jax.nn.softmax(x), 0)).sum()
    gradient = jax.jit(jax.grad(loss))(logits)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient)[~seen[..., 0]] == 0).all()
    direction = np.random.default_rng(1).normal(size=logits.shape)
    step = 1e-6 * direction
    slope = (loss(logits + step) - loss(logits - step)) / 2e-6
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["supervision", "entropy", "overlap", "distillation"])
def test_each_is_the_same_under_vmap_and_in_half_precision_of_float32(maps, name):
    f, weights = calls(maps)[name], jnp.asarray(maps[0])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(lambda x: f(x[None])[0]))(weights), f(weights), 1e-5, 1e-6
    )
    assert f(weights.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_what_is_not_defined_is_zero_with_a_gradient_of_zero(dtype):
    nothing, no_region = jnp.zeros((2, T, P), dtype), jnp.zeros((T, P))
    some, region = jnp.full((2, T, P), 1 / P, dtype), jnp.ones((T, P))
    for f in (
        lambda x: attention_supervision(x, no_region[None]),
        lambda x: attention_supervision(x, region[None], jnp.zeros(T, bool)),
        lambda x: entropy_loss(x, jnp.zeros(T, bool)),
        lambda x: head_overlap(x, jnp.zeros(T, bool)),
        lambda x: map_distillation(x, no_region[None]),
    ):
        for weights in (nothing, some):
            value, gradient = jax.value_and_grad(lambda x, f=f: f(x).sum())(weights)
            assert value == 0
            assert (gradient == 0).all()
    # All mass beside the region: large, and finite.
    beside = jnp.eye(P, dtype=dtype)[None, :1]
    f = lambda x: attention_supervision(x, jnp.eye(P)[1:2]).sum()
    value, gradient = jax.value_and_grad(f)(beside)
    assert 80 < value < 100
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: attention_supervision(np.ones((T, P)), np.ones((T, P + 1))), "same T and P"),
        (lambda: attention_supervision(np.ones((T, P)), np.ones((B, T, P))), "same T and P"),
        (lambda: map_distillation(np.ones((B, T, P)), np.ones((1, B, T, P))), "same T and P"),
        (lambda: map_distillation(np.ones(P), np.ones(P)), "maps (..., T, P)"),
        (lambda: entropy_loss(np.ones((0, P))), "with entries are meant"),
        (lambda: entropy_loss(np.ones((T, P), int)), "weights has floating-point numbers"),
        (lambda: entropy_loss(np.ones((T, 1))), "the entropy of one patch is always 0"),
        (lambda: entropy_loss(np.ones((T, P)), np.ones(T)), "words is boolean (..., T)"),
        (lambda: entropy_loss(np.ones((T, P)), np.ones(T + 1, bool)), "words is boolean"),
        (lambda: head_overlap(np.ones((1, T, P))), "two heads or more are meant"),
        (lambda: head_overlap(np.ones((T, P))), "two heads or more are meant"),
    ],
)
def test_other_arrays_are_refused_in_one_line(call, said, unchecked):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        call()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_descending_each_brings_its_planted_alignment():
    """Logits are moved: to the region, to one patch, apart, to the teacher."""
    rng = np.random.default_rng(2)
    start = jnp.asarray(rng.normal(size=(H, T, P)), jnp.float32)
    region = jnp.asarray(np.eye(P)[rng.integers(P, size=T)], jnp.float32)
    teacher = jnp.asarray(rng.dirichlet(np.ones(P), (H, T)), jnp.float32)
    down = {
        "supervision": lambda x: attention_supervision(x, region),
        "sharp": entropy_loss,
        "spread": lambda x: -entropy_loss(x),
        "apart": head_overlap,
        "teacher": lambda x: map_distillation(x, teacher),
    }
    found = {}
    for name, f in down.items():
        slope = jax.grad(lambda x, f=f: f(jax.nn.softmax(x)).sum())
        step = lambda _, x, slope=slope: x - 20 * slope(x)
        found[name] = jax.nn.softmax(jax.lax.fori_loop(0, 400, step, start))
    assert (found["supervision"] * region[None]).sum(-1).min() > 0.97
    assert found["sharp"].max(-1).min() > 0.97
    assert abs(found["spread"] - 1 / P).max() < 1e-3
    assert head_overlap(found["apart"]) < 0.05 < 0.2 < head_overlap(jax.nn.softmax(start))
    assert abs(found["teacher"] - teacher).max() < 1e-3
