"""Pictures beside a text (IP-Adapter)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import CrossAttention, presets
from tests.support.formulas import attention, filled, ragged

B, T, S, P, Q, M, N, H = 3, 5, 7, 2, 4, 6, 11, 3
TEXT, PICTURE = (7, 3, 0), (2, 1, 0)


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    shapes = (B, T, M), (B, S, N), (B, P, N), (B, Q, N)
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


def masks():
    return [Mask.lengths(key=jnp.array(TEXT)), Mask.lengths(key=jnp.array(PICTURE)), None]


@pytest.fixture(scope="module")
def run(given):
    module = presets.build("ip_adapter", width=M, heads=H, pictures=2)
    x, *contexts = given
    params = filled(module, x, contexts, scales=(1.0, 1.0), masks=masks())

    @jax.jit
    def program(x, contexts, scales, regions):
        def loss(contexts):
            projected = module.apply(params, contexts, masks=masks(), method="project")
            y, traces = module.apply(params, x, projected, scales=scales, regions=regions)
            return jnp.sum(jnp.sin(y)), (y, traces)

        gradients, (y, traces) = jax.grad(loss, has_aux=True)(contexts)
        return y, gradients, [trace.weights() for trace in traces]

    def call(scales, regions=None, contexts=contexts):
        ones = jnp.ones((1, T))
        scales = [jnp.float32(s) for s in scales]
        return program(x, contexts, scales, regions or [ones, ones])

    call.params = params["params"]
    return call


def test_without_weight_the_text_is_alone(run, given):
    y, gradients, _ = run((0.0, 0.0))
    own = {name: run.params[name] for name in ("query", "key", "value", "out")}
    text = CrossAttention(M, H, use_bias="o")
    read = jax.jit(lambda x, c: text.apply({"params": own}, x, c, mask=masks()[0])[0])
    wanted = read(*given[:2])
    np.testing.assert_allclose(y[:2], wanted[:2], atol=1e-6)
    assert not y[2].any()  # it has no text
    assert not gradients[1].any()
    assert not gradients[2].any()


def test_formula(run, given):
    region = jnp.array([[1.0, 0.5, 0.0, 0.0, 1.0]])
    y, _, rows = run((0.7, 0.4), [region, 1 - region])
    x, text, one, other = (np.asarray(a, np.float64) for a in given)
    p = run.params
    out = {"kernel": np.eye(M)}
    seen = ragged(TEXT, S), ragged(PICTURE, P), np.ones((1, 1, 1, Q), bool)
    total = attention({**p, "out": out}, x, text, text, H, seen[0])
    factors = 0.7 * np.asarray(region), 0.4 * (1 - np.asarray(region))
    for i, (picture, factor) in enumerate(zip((one, other), factors, strict=True)):
        own = {"query": p["query"], "key": p[f"picture_key_{i}"], "value": p[f"picture_value_{i}"]}
        read = attention({**own, "out": out}, x, picture, picture, H, seen[1 + i])
        total = total + read * factor[..., None]
    wanted = total @ np.asarray(p["out"]["kernel"]) + np.asarray(p["out"]["bias"])
    some = [ragged(n, s).any((1, 2, 3))[:, None] for n, s in ((TEXT, S), (PICTURE, P))]
    counts = some[0] | (some[1] & (factors[0] > 0)) | (factors[1] > 0)
    np.testing.assert_allclose(y, np.where(counts[..., None], wanted, 0), atol=1e-5)
    assert [r.shape[-1] for r in rows] == [S, P, Q]


def test_hidden_tokens_never_matter(run, given):
    y, gradients, _ = run((0.7, 0.4))
    seen = [ragged(TEXT, S)[:, 0, 0, :, None], ragged(PICTURE, P)[:, 0, 0, :, None], True]
    for value in (100.0, jnp.nan):
        other = [jnp.where(s, c, value) for s, c in zip(seen, given[1:], strict=True)]
        again, moved, _ = run((0.7, 0.4), contexts=other)
        np.testing.assert_array_equal(again, y)
        for g, m, s in zip(gradients, moved, seen, strict=True):
            np.testing.assert_array_equal(m, g)
            np.testing.assert_array_equal(jnp.where(s, 0, g), jnp.zeros_like(g))
