"""Flax's attention modules with ours inside: the same parameters, outputs and gradients."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from crossattn import Mask
from crossattn.interop import flax as ours
from crossattn.nn import CrossAttention
from crossattn.nn.config import Logits
from tests.support.flax_layers import (
    PADDING,
    B,
    H,
    M,
    N,
    T,
    assert_equal,
    inputs,
    random,
    wave,
)

LINEN = {
    "plain": {},
    "sizes": {"qkv_features": 6, "out_features": 5},
    "normalize_qk": {"normalize_qk": True, "use_bias": False},
    "initial values": {
        "kernel_init": linen.initializers.normal(0.3),
        "out_kernel_init": linen.initializers.orthogonal(),
        "bias_init": linen.initializers.normal(0.3),
        "out_bias_init": linen.initializers.ones,
    },
    "numbers": {
        "dtype": jnp.float32,
        "param_dtype": jnp.bfloat16,
        "precision": "highest",
        "force_fp32_for_softmax": True,
    },
}
NNX = {
    "plain": {},
    "sizes": {"qkv_features": 6, "out_features": 5},
    "normalize_qk": {"normalize_qk": True, "use_bias": False},
    "another width": {"in_kv_features": N},
    "grouped": {"num_kv_heads": 1},
}
KNOWN = inspect.signature(nnx.MultiHeadAttention.__init__).parameters


@pytest.fixture(autouse=True)
def lenient():
    """Flax's own modules promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LINEN)
def test_linen_parameters_outputs_and_gradients(name):
    options = {"param_dtype": jnp.float64} | LINEN[name]
    pair = [
        module(num_heads=H, **options)
        for module in (ours.MultiHeadDotProductAttention, linen.MultiHeadDotProductAttention)
    ]
    x, context = inputs()
    own, theirs = (jax.jit(module.init)(jax.random.key(0), x, context) for module in pair)
    assert_equal(own, theirs, 0)
    mask = linen.make_attention_mask(jnp.ones((B, T)), PADDING)

    @jax.jit
    def both(params, x, context):
        def of(module):
            def loss(*given):
                y = module.apply(*given, given[2] * 0.5, mask=mask)
                return wave(y), y

            return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, x, context)

        return [of(module) for module in pair]

    half = options["param_dtype"] == jnp.bfloat16
    assert_equal(*both(random(own), x, context), 2e-2 if half else 1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NNX)
def test_nnx_parameters_outputs_and_gradients(name):
    if not NNX[name].keys() <= KNOWN.keys():
        pytest.skip(f"this Flax has no {', '.join(NNX[name])}")
    # With a rate of dropout, though none is dropped, Flax's softmax is not that of jax.nn, which is
    # in float32 for float64 too.
    exact = {"dropout_rate": 0.1, "deterministic": True}
    options = {"param_dtype": jnp.float64, "decode": False, **exact} | NNX[name]
    pair = [
        module(H, M, rngs=nnx.Rngs(0), **options)
        for module in (ours.MultiHeadAttention, nnx.MultiHeadAttention)
    ]
    x, context = inputs()
    if "in_kv_features" not in options:
        context = jnp.concatenate([context, -context[::-1]], 2)
    own, theirs = (nnx.to_pure_dict(nnx.state(module, nnx.Param)) for module in pair)
    assert_equal(own, theirs, 0)
    mask = nnx.make_attention_mask(jnp.ones((B, T)), PADDING)

    @nnx.jit
    def gradients(module, x, context):
        def loss(module, x, context):
            y = module(x, context, context * 0.5, mask=mask)
            return wave(y), y

        return nnx.grad(loss, argnums=(0, 1, 2), has_aux=True)(module, x, context)

    for module in pair:
        nnx.update(module, random(nnx.state(module, nnx.Param)))
    found = [gradients(module, x, context) for module in pair]
    assert_equal(*((nnx.to_pure_dict(g[0]), *g[1:], y) for g, y in found))


def test_any_number_of_leading_axes():
    x, context = inputs()
    layer = ours.MultiHeadDotProductAttention(num_heads=H)
    theirs = linen.MultiHeadDotProductAttention(num_heads=H)
    params = random(layer.init(jax.random.key(0), x, context))
    more = lambda a: jnp.stack([a, a * 2])
    mask = jnp.asarray(PADDING)[:, None, None]

    def apply(module):
        call = lambda x, c, mask: module.apply(params, x, c, mask=mask)
        return call(more(x), more(context), mask[None]), call(x[1], context[1], mask[1])

    found, wanted = jax.jit(lambda: [apply(module) for module in (layer, theirs)])()
    assert_equal(found, wanted, 1e-5)
    assert found[0].shape == (2, B, T, M)
    with pytest.raises(ValueError, match=r"to \(..., H, T, S\) with leading axes \(3,\), got"):
        layer.apply(params, x, context, mask=mask[None])


@pytest.mark.parametrize("hidden", [False, True])
def test_linen_decodes_token_by_token(hidden):
    pair = [
        module(num_heads=H, decode=True)
        for module in (ours.MultiHeadDotProductAttention, linen.MultiHeadDotProductAttention)
    ]
    x, _ = inputs()
    own, theirs = (module.init(jax.random.key(0), x) for module in pair)
    assert_equal(own, theirs, 0)
    params = random(own["params"])
    shown = jnp.ones((B, T), bool).at[:, 1].set(not hidden)
    masks = [Mask.keys(shown), shown[:, None, None]]

    @jax.jit
    def step(caches, token):
        return [
            module.apply({"params": params, "cache": cache}, token, mask=mask, mutable="cache")
            for module, cache, mask in zip(pair, caches, masks, strict=True)
        ]

    caches = [own["cache"], theirs["cache"]]
    for t in range(T):
        found, wanted = step(caches, x[:, t : t + 1])
        assert_equal(found, wanted, 1e-5)
        caches = [found[1]["cache"], wanted[1]["cache"]]


def test_nnx_decodes_token_by_token():
    x, _ = inputs()
    pair = [
        module(H, M, rngs=nnx.Rngs(0), decode=True)
        for module in (ours.MultiHeadAttention, nnx.MultiHeadAttention)
    ]
    step = nnx.jit(lambda module, token: module(token))
    for module in pair:
        module.init_cache(x.shape)
    for t in range(T):
        assert_equal(*(step(module, x[:, t : t + 1]) for module in pair), 1e-5)
    assert_equal(*(nnx.to_pure_dict(nnx.state(module, nnx.Cache)) for module in pair), 1e-5)


# Flax's newest wants `nnx.capture` around it.
@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
def test_weights_are_sown_where_asked():
    x, context = inputs()
    mask = jnp.asarray(PADDING)[:, None, None]
    layer = ours.MultiHeadDotProductAttention(num_heads=H)
    theirs = linen.MultiHeadDotProductAttention(num_heads=H)
    params = random(layer.init(jax.random.key(0), x, context))
    sow = {"mask": mask, "sow_weights": True, "mutable": "intermediates"}
    found, wanted = (module.apply(params, x, context, **sow) for module in (layer, theirs))
    assert_equal(found, wanted, 1e-5)
    _, trace = layer.apply(params, x, context, mask=mask, return_trace=True)
    (sown,) = found[1]["intermediates"]["attention_weights"]
    np.testing.assert_allclose(trace.weights(), sown, atol=1e-6)

    pair = [
        module(H, M, rngs=nnx.Rngs(0), decode=False)
        for module in (ours.MultiHeadAttention, nnx.MultiHeadAttention)
    ]
    for module in pair:
        module(x, sow_weights=True)
    assert_equal(*(nnx.to_pure_dict(nnx.pop(module, nnx.Intermediate)) for module in pair), 1e-5)


def test_dropout():
    rng = jax.random.key(0)
    q, k = jnp.zeros((B, 40, H, 3)), jnp.zeros((B, 50, H, 3))
    v = jnp.broadcast_to(jnp.eye(50)[None, :, None], (B, 50, H, 50))
    drop = lambda **more: ours.dot_product_attention(
        q, k, v, dropout_rng=rng, dropout_rate=0.25, **more
    )
    alike, each, none = drop(), drop(broadcast_dropout=False), drop(deterministic=True)
    for out in (alike, each):  # weights of 1 / 50, dropped or grown
        assert set(np.unique(np.round(np.asarray(out) * 50 * 0.75, 4))) == {0.0, 1.0}
        assert abs(float((out == 0).mean()) - 0.25) < 0.03
    np.testing.assert_allclose(none, 1 / 50, rtol=1e-5)
    first = jnp.broadcast_to(alike[:1, :, :1], alike.shape)
    np.testing.assert_array_equal(alike, first)
    assert not (each[0] == each[1]).all()
    assert not (each[:, :, 0] == each[:, :, 1]).all()


def test_dropout_of_the_modules():
    x, _ = inputs()
    layer = ours.MultiHeadDotProductAttention(num_heads=H, dropout_rate=0.5)
    params = layer.init(jax.random.key(0), x, deterministic=True)
    call = jax.jit(lambda key: layer.apply(params, x, deterministic=False, rngs={"dropout": key}))
    one, same, other = (call(jax.random.key(n)) for n in (0, 0, 1))
    assert (one == same).all()
    assert not (one == other).all()
    model = ours.MultiHeadAttention(
        H, M, dropout_rate=0.5, deterministic=False, decode=False, rngs=nnx.Rngs(0)
    )
    model_call = nnx.jit(lambda model: model(x))
    assert not (model_call(model) == model_call(model)).all()
    model.eval()
    assert (model_call(model) == model_call(model)).all()


def test_one_argument_of_modules_that_others_make():
    x, _ = inputs()
    mask = linen.make_causal_mask(jnp.ones((B, T)))
    pair = [
        linen.MultiHeadAttention(num_heads=H),
        linen.MultiHeadAttention(num_heads=H, attention_fn=ours.dot_product_attention),
    ]
    params = pair[0].init(jax.random.key(0), x)
    assert_equal(*(module.apply(params, x, mask=mask) for module in pair), 1e-5)


def test_names_inside_other_modules_and_mapped_initial_values():
    x, context = inputs()

    def block(attention):
        class Block(linen.Module):
            @linen.compact
            def __call__(self, x, context):
                x = x + attention(num_heads=H)(x)
                return x + linen.remat(attention)(num_heads=H, name="read")(x, context)

        return Block()

    own, theirs = (
        block(layer)
        for layer in (ours.MultiHeadDotProductAttention, linen.MultiHeadDotProductAttention)
    )
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def run(keys):
        mapped = jax.vmap(own.init, (0, None, None))(keys, x, context)
        wanted = jax.vmap(theirs.init, (0, None, None))(keys, x, context)
        apply = lambda module: jax.vmap(module.apply, (0, None, None))(mapped, x, context)
        return (mapped, apply(own)), (wanted, apply(theirs))

    found, wanted = run(keys)
    assert_equal(found, wanted, 1e-5)
    assert "MultiHeadDotProductAttention_0" in found[0]["params"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", [{}, {"normalize_qk": True, "use_bias": False}])
def test_parameters_go_to_cross_attention_and_back(options):
    x, context = inputs()
    theirs = linen.MultiHeadDotProductAttention(num_heads=H, param_dtype=jnp.float64, **options)
    params = random(theirs.init(jax.random.key(0), x, context)["params"])
    moved = ours.to_cross_attention(params)
    norm = Logits(norm="layer") if "normalize_qk" in options else Logits()
    block = CrossAttention(
        width=M, heads=H, logits=norm, use_bias=options.get("use_bias", True), param_dtype=float
    )
    wanted = theirs.apply({"params": params}, x, context)
    found, _ = block.apply({"params": moved}, x, context)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    assert_equal(ours.from_cross_attention(moved, H), params, 0)


def test_a_bias_that_only_some_projections_have_is_0_elsewhere():
    x, context = inputs()
    block = CrossAttention(width=M, heads=H, use_bias="qvo")  # as Whisper
    params = random(block.init(jax.random.key(0), x, context)["params"])
    theirs = linen.MultiHeadDotProductAttention(num_heads=H)
    found = theirs.apply({"params": ours.from_cross_attention(params, H)}, x, context)
    np.testing.assert_allclose(found, block.apply({"params": params}, x, context)[0], atol=1e-5)


def test_parameters_without_a_place_are_refused():
    x, context = inputs()
    variables = linen.MultiHeadDotProductAttention(num_heads=H).init(jax.random.key(0), x, context)
    with pytest.raises(ValueError, match=r"unknown params: write variables\[\"params\"\]"):
        ours.to_cross_attention(variables)
    own = ours.to_cross_attention(variables["params"])
    with pytest.raises(ValueError, match=r"query/kernel has three axes, .* got shape \(8, 8\)"):
        ours.to_cross_attention(own)
    with pytest.raises(ValueError, match="has a place for: unknown sink"):
        ours.from_cross_attention(own | {"sink": jnp.zeros(H)}, H)
    with pytest.raises(ValueError, match=r"query/kernel has two axes, .* got shape \(8, 2, 4\)"):
        ours.from_cross_attention(variables["params"], H)
    with pytest.raises(ValueError, match="makes 8 features, not a multiple of 3"):
        ours.from_cross_attention(own, 3)
    wide = CrossAttention(width=M, heads=H, value_size=M).init(jax.random.key(0), x, context)
    with pytest.raises(ValueError, match="out/kernel reads 16 features, and query/kernel makes 8"):
        ours.from_cross_attention(wide["params"], H)
    norm = {"scale": jnp.ones(4), "bias": jnp.ones(4)}
    with pytest.raises(ValueError, match=r"key_norm: Flax's norm .* without a bias"):
        ours.from_cross_attention(own | {"key_norm": norm}, H)


def test_what_cannot_be_carried_is_refused():
    with pytest.raises(ValueError, match=r"attention_fn of this class .* use flax.linen.Multi"):
        ours.MultiHeadDotProductAttention(num_heads=H, attention_fn=linen.dot_product_attention)
    with pytest.raises(ValueError, match=r"attention_fn of this class .* use flax.nnx.Multi"):
        ours.MultiHeadAttention(
            H, M, attention_fn=nnx.dot_product_attention, rngs=nnx.Rngs(0), decode=False
        )
    x, _ = inputs()
    if "qk_attn_weights_einsum_cls" in linen.MultiHeadDotProductAttention.__dataclass_fields__:
        own = {name: lambda: jnp.einsum for name in ("qk_attn_weights_einsum_cls",)}
        layer = ours.MultiHeadDotProductAttention(num_heads=H, **own)
        with pytest.raises(ValueError, match="products of one's own"):
            layer.init(jax.random.key(0), x)
