"""Streams that exchange through shared tokens only (MBT)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import MLPConfig, presets
from crossattn.nn.families.bottleneck import BottleneckLayer
from tests.support.formulas import attention, feed, filled, gelu, norm, ragged

B, T, S, R, M, H, L = 3, 5, 7, 2, 6, 3, 2
TEXT, IMAGE = (5, 2, 4), (3, 7, 0)


@pytest.fixture(scope="module")
def streams():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=shape)) for shape in ((B, T, M), (B, S, M)))


def masks():
    return {
        "x_mask": Mask.lengths(key=jnp.array(TEXT)),
        "context_mask": Mask.lengths(key=jnp.array(IMAGE)),
    }


def built(**sizes):
    return presets.build("bottleneck", width=M, heads=H, **sizes)


def test_formula(x64):
    rng = np.random.default_rng(0)
    pair = [rng.normal(size=shape) for shape in ((B, T, M), (B, S, M))]
    # A stream takes its hidden tokens for zeros.
    pair = [
        x * (np.arange(x.shape[1]) < np.array(n)[:, None])[..., None]
        for x, n in zip(pair, (TEXT, IMAGE), strict=True)
    ]
    module = built(layers=L, tokens=R)
    given = tuple(jnp.asarray(stream) for stream in pair)
    params = filled(module, given)
    observe = lambda traces: tuple(trace.weights() for trace in traces)
    run = jax.jit(lambda p, s: module.apply(p, s, **masks(), observe=observe))
    got, rows = run(params, given)
    z = np.asarray(params["params"]["tokens"])[None].repeat(B, 0)
    all_see = np.ones((B, 1, 1, R), bool)
    seen = [np.concatenate([ragged(n, s), all_see], -1) for n, s in ((TEXT, T), (IMAGE, S))]
    for i in range(L):
        told = []
        for side, name in enumerate(("x", "context")):
            p = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), params["params"]["layer"][name])
            y = np.concatenate([pair[side], z], 1)
            read = norm(p["self_residual"]["norm"], y, 1e-6)
            y = y + attention(p["self_attention"], read, read, read, H, seen[side])
            y = y + feed(p["mlp_0"], norm(p["mlp_residual_0"]["norm"], y, 1e-6), gelu)
            pair[side], new = y[:, :-R], y[:, -R:]
            told.append(new)
        z = (told[0] + told[1]) / 2
    for y, wanted in zip(got, pair, strict=True):
        np.testing.assert_allclose(y, wanted, atol=1e-12)
    hidden = ~ragged(TEXT, T)[:, 0, 0, :, None], ~ragged(IMAGE, S)[:, 0, 0, :, None]
    shown = lambda pair, value: [jnp.where(h, value, y) for h, y in zip(hidden, pair, strict=True)]
    again, _ = run(params, tuple(shown(given, jnp.nan)))
    jax.tree.map(np.testing.assert_array_equal, shown(again, 0.0), shown(got, 0.0))
    assert [r.shape for r in rows] == [(L, B, H, N + R, N + R) for N in (T, S)]


def test_the_shared_tokens_are_the_only_way(streams):
    module = built(layers=2, tokens=0)
    module = module.clone(config=replace(module.config, mlp=MLPConfig(expansion=0.5)))
    params = filled(module, streams)
    heard = lambda context: jnp.sum(jnp.sin(module.apply(params, (streams[0], context))[0][0]))
    assert not jax.jit(jax.grad(heard))(streams[1]).any()


def test_masks_of_pairs_are_refused(streams):
    module = BottleneckLayer(M, H)
    shared = jnp.ones((B, R, M))
    with pytest.raises(ValueError, match="masks of keys"):
        module.init(jax.random.key(0), streams, shared, x_mask=Mask.causal(0))
