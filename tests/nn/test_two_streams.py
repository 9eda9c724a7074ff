"""Two streams that change each other: against NumPy, and what they mean."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import MLPConfig, ResidualConfig, TwoStreamConfig, presets
from crossattn.nn.families.two_stream import TwoStreams
from crossattn.nn.layers.link import Link
from tests.support.formulas import attention, feed, filled, gelu, norm, ragged

B, T, S, M, N, H = 3, 5, 7, 12, 18, 3
TEXT, IMAGE = (5, 2, 4), (3, 7, 0)
TINY = 0.5


def drawn(*shapes):
    rng = np.random.default_rng(7)
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


def masks():
    return {
        "x_mask": Mask.lengths(key=jnp.array(TEXT)),
        "context_mask": Mask.lengths(key=jnp.array(IMAGE)),
    }


def poison(streams, value):
    """Another value in every hidden token."""
    seen = ragged(TEXT, T)[:, 0, 0, :, None], ragged(IMAGE, S)[:, 0, 0, :, None]
    return [jnp.where(s, stream, value) for s, stream in zip(seen, streams, strict=True)]


@functools.cache
def case(name):
    """(parameters, streams, a program) of a preset; the program gives streams and gradients."""
    design = presets.config(name)
    layer = TwoStreams(M, H, replace(design, mlp=replace(design.mlp, expansion=TINY)))
    streams = drawn((B, T, M), (B, S, M))
    params = filled(layer, tuple(streams), **masks())

    @jax.jit
    def run(params, streams):
        def loss(streams):
            out, traces = layer.apply(params, tuple(streams), **masks())
            # A plain sum of normed features would be constant.
            loss = sum(jnp.sum(jnp.sin(y)) for y in poison(out, 0.0))
            return loss, (out, traces[0].weights())

        gradients, (out, rows) = jax.grad(loss, has_aux=True)(streams)
        return out, gradients, rows

    return params, streams, run


@pytest.mark.parametrize("name", ["lxmert", "bidirectional"])
def test_hidden_tokens_never_matter(name):
    params, streams, run = case(name)
    out, gradients, rows = run(params, streams)
    for value in (100.0, jnp.nan):
        other, moved, _ = run(params, poison(streams, value))
        for y, z in zip(poison(out, 0.0), poison(other, 0.0), strict=True):
            np.testing.assert_array_equal(y, z)
        if value == 100.0:
            for g, m, hidden in zip(gradients, moved, poison(gradients, 0.0), strict=True):
                np.testing.assert_array_equal(g, hidden)
                np.testing.assert_array_equal(g, m)
    assert all(np.abs(gradient).max() > 1e-3 for gradient in gradients)
    assert not rows[2].any()
    assert not rows[0, :, :, IMAGE[0] :].any()


@pytest.mark.parametrize("name", ["lxmert", "bidirectional"])
def test_an_empty_other_side_leaves_the_own_path(name):
    params, streams, run = case(name)
    (x, _), _, _ = run(params, streams)
    deaf = jax.tree_util.tree_map_with_path(
        lambda path, p: p * 0 if "'out'" in str(path) and "self" not in str(path) else p, params
    )
    (own, _), _, _ = run(deaf, streams)
    np.testing.assert_array_equal(x[2], own[2])
    assert np.abs(x - own)[:2].max() > 1e-3


def test_shut_layer_scale_leaves_the_norms():
    params, streams, run = case("bidirectional")
    shut = jax.tree_util.tree_map_with_path(
        lambda path, p: p * 0 if "gate" in str(path) else p, params
    )
    out, _, _ = run(shut, streams)
    for name, y, stream in zip(("x", "context"), out, poison(streams, 0.0), strict=True):
        wanted = norm(params["params"][name]["norm"], np.asarray(stream, np.float64), 1e-5)
        np.testing.assert_allclose(y, wanted, atol=1e-5)


def test_shared_weights_make_the_streams_exchangeable():
    layer = TwoStreams(M, H, replace(presets.config("lxmert"), mlp=MLPConfig(expansion=TINY)))
    pair = tuple(drawn((B, T, M), (B, T, M)))
    params = filled(layer, pair)["params"]
    assert {"cross_attention", "cross_residual"} <= set(params["x"])
    assert not any(name.startswith("cross") for name in params["context"])
    alike = {name: params["x"][name] for name in params["context"]}
    run = jax.jit(lambda pair: layer.apply({"params": params | {"context": alike}}, pair)[0])
    one, other = run(pair)
    np.testing.assert_allclose(run(pair[::-1]), (other, one), atol=1e-5)
    assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize("exchange", ["one-product", "separate"])
def test_siamese_streams_are_exchangeable(exchange):
    """One set of weights, also of what each makes of what it has read."""
    residual = ResidualConfig(norm="none")
    joint = MLPConfig(TINY, activation="gelu")
    design = TwoStreamConfig(("self", "cross"), residual, exchange=exchange, siamese=True,
                             joint_mlp=joint)  # fmt: skip
    layer, (x, context) = TwoStreams(M, H, design), drawn((B, T, M), (B, S, M))
    params = filled(layer, (x, context), **masks())
    assert "context" not in params["params"]
    assert not any("context" in name for name in params["params"].get("exchange", {}))
    run = jax.jit(lambda streams, seen: layer.apply(params, streams, **seen)[0])
    swapped = {"x_mask": masks()["context_mask"], "context_mask": masks()["x_mask"]}
    one, other = run((x, context), masks())[::-1], run((context, x), swapped)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Where nothing is seen the stream itself is read all the same.
    empty = {"x_mask": Mask.lengths(key=jnp.zeros(B, int))}
    changed = run((x, context), masks() | empty)[1]
    assert not np.allclose(changed, context)


def test_words_to_come_do_not_return_through_the_context():
    layer = TwoStreams(M, H, replace(presets.config("meter"), mlp=MLPConfig(expansion=TINY)))
    pair = tuple(drawn((B, T, M), (B, S, M)))
    several = [filled(layer, pair, seed=seed) for seed in (0, 1)]

    @jax.jit
    def run(x, back):
        streams = x, pair[1]
        for params in several:
            streams, _ = layer.apply(
                params, streams, self_mask=Mask.causal(0), context_to_x_mask=back
            )
        return streams[0]

    changed = pair[0].at[:, 3].add(1.0)
    prompt = Mask.keys(jnp.arange(T)[None].repeat(B, 0) < 2)
    np.testing.assert_array_equal(run(pair[0], prompt)[:, :3], run(changed, prompt)[:, :3])
    every = Mask.keys(jnp.ones((B, T), bool))
    assert np.abs(run(pair[0], every) - run(changed, every))[:, :3].max() > 1e-4


def test_vilbert_is_its_formula(x64):
    layer = TwoStreams(
        M, H, replace(presets.config("vilbert"), mlp=MLPConfig(activation="gelu")), N
    )
    pair = tuple(drawn((B, T, M), (B, S, N)))
    params = filled(layer, pair)
    out, (trace, back) = jax.jit(lambda p, pair: layer.apply(p, pair, **masks()))(params, pair)
    own = params["params"]
    streams, seen = (
        [np.asarray(s) for s in poison(pair, 0.0)],
        [ragged(TEXT, T), ragged(IMAGE, S)],
    )
    ends = []
    for p, i in ((own["x"], 0), (own["context"], 1)):
        x, other = streams[i], streams[1 - i]
        after = lambda join, y, p=p: norm(p[join]["norm"], y, 1e-12)
        x = after(
            "cross_residual", x + attention(p["cross_attention"], x, other, other, H, seen[1 - i])
        )
        x = after("mlp_residual_0", x + feed(p["mlp_0"], x, gelu))
        x = after("self_residual", x + attention(p["self_attention"], x, x, x, H, seen[i]))
        ends.append(after("mlp_residual_1", x + feed(p["mlp_1"], x, gelu)))
    for y, wanted in zip(out, ends, strict=True):
        np.testing.assert_allclose(y, wanted, atol=1e-12)
    assert trace.weights().shape == (B, H, T, S)
    assert back.weights().shape == (B, H, S, T)


def test_sam_is_its_formula(x64):
    layer = TwoStreams(M, H, presets.config("sam_two_way"))
    x, m, here, there = drawn((B, T, M), (B, S, M), (1, T, M), (1, S, M))
    places = {"x_positions": here, "context_positions": there}
    params = filled(layer, (x, m), **places)
    run = jax.jit(lambda p, pair: layer.apply(p, pair, **masks(), **places)[0])
    got = run(params, (x, m))
    own, other = params["params"]["x"], params["params"]["context"]
    x, m, here, there = (np.asarray(a) for a in (*poison((x, m), 0.0), here, there))
    text, image = ragged(TEXT, T), ragged(IMAGE, S)
    after = lambda p, y: norm(p["norm"], y, 1e-6)
    y = attention(own["self_attention"], x + here, x + here, x, H, text)
    x = after(own["self_residual"], x + y)
    y = attention(own["cross_attention"], x + here, m + there, m, H, image)
    x = after(own["cross_residual"], x + y)
    relu = lambda z: np.maximum(z, 0)
    x = after(own["mlp_residual_0"], x + feed(own["mlp_0"], x, relu))
    y = attention(other["cross_attention"], m + there, x + here, x, H, text)
    np.testing.assert_allclose(got[0], x, atol=1e-12)
    np.testing.assert_allclose(got[1], after(other["cross_residual"], m + y), atol=1e-12)
    assert own["cross_attention"]["query"]["kernel"].shape == (M, M // 2)


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("add", lambda h, x, a: h + x),
        ("scaled", lambda h, x, a: a * h + x),
        ("interpolated", lambda h, x, a: (1 - a) * h + a * x),
    ],
)
def test_links(kind, formula):
    x, tower = drawn((B, T, M), (B, T, M))
    link = Link(kind)
    params = filled(link, x, tower)
    own = params["params"]
    wanted = formula(np.asarray(tower), np.asarray(x), float(own.get("factor", 0.0)))
    got = link.apply(params, x, tower)
    np.testing.assert_allclose(got, norm(own["norm"], wanted, 1e-5), atol=1e-5)


def test_designs_refuse_what_they_would_ignore():
    pair = tuple(drawn((B, T, M), (B, S, M)))
    run = lambda design, **more: jax.eval_shape(
        lambda: TwoStreams(M, H, design).init(jax.random.key(0), pair, **more)
    )
    with pytest.raises(ValueError, match="positions were given"):
        run(presets.config("meter"), x_positions=pair[0])
    with pytest.raises(ValueError, match="towers are needed"):
        run(presets.config("bridgetower"))
    with pytest.raises(ValueError, match="towers are needed"):
        run(presets.config("meter"), towers=pair)
    with pytest.raises(ValueError, match="no whole heads"):
        run(TwoStreamConfig(inner=0.3))
    unequal = TwoStreams(M, H, presets.config("lxmert"), context_width=N)
    other = pair[0], jnp.ones((B, S, N))
    siamese = TwoStreams(M, H, TwoStreamConfig(siamese=True), context_width=N)
    for layer in (unequal, siamese):
        with pytest.raises(ValueError, match="cannot share weights"):
            jax.eval_shape(lambda layer=layer: layer.init(jax.random.key(0), other))
    with pytest.raises(ValueError, match="joint_mlp is not gated"):
        run(TwoStreamConfig(joint_mlp=MLPConfig(gated=True)))
