"""Streams, contexts and parameters of different dtypes, where JAX is told to promote nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from crossattn import Mask
from crossattn.models.generate import generate
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import (
    MLP,
    BidirectionalAttention,
    Block,
    CrossAttention,
    Latents,
    PatchEncoder,
    Stack,
    presets,
)
from crossattn.nn.config import ExtraKeys, Logits
from crossattn.nn.layers.dense import computing_dtype
from crossattn.nn.layers.positions import LearnedPositions, RelativeBias
from tests.support.formulas import filled
from tests.support.preset_calls import arguments, step_by_step, whole, writes

B, T, S, M, H = 2, 3, 5, 12, 2
HALF, SINGLE, BRAIN = jnp.float16, jnp.float32, jnp.bfloat16
KINDS = [
    # parameters, x, context, and what comes out
    (BRAIN, SINGLE, HALF, SINGLE),
    (SINGLE, BRAIN, SINGLE, SINGLE),
    (HALF, SINGLE, SINGLE, SINGLE),
    (SINGLE, BRAIN, BRAIN, BRAIN),
    (HALF, BRAIN, HALF, SINGLE),
]


class Biased(nn.Module):
    """Attention with a bias by distance, as T5 has it."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, x, context):
        bias = RelativeBias(self.heads)(jnp.arange(x.shape[1]), context.shape[1])
        return CrossAttention(self.width, self.heads)(x, context, bias=bias)[0]


# Which have every kind of module between them; the others are the same with other fields.
KINDS_OF_MODULES = (
    *("encoder_decoder_post", "merged", "mllama", "resampler", "lxmert", "bidirectional"),
    *("bridgetower", "qformer", "coca_decoder", "ip_adapter", "bottleneck", "prefix_lm"),
)
OTHERS = [name for name in presets.names() if name not in KINDS_OF_MODULES]


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


def cast(tree, dtype):
    floats = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.tree.map(lambda p: p.astype(dtype) if floats(p) else p, tree)


def zeros(shapes, dtype):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, dtype), shapes)


@pytest.mark.parametrize("name", [*KINDS_OF_MODULES, *map(slow, OTHERS)])
def test_every_preset_promotes_its_streams(name):
    """As a whole and step by step; all pairs of dtypes for the first, the widest two for others."""
    depth = {} if name == "ip_adapter" else {"layers": 1 + (name == "coca_decoder")}
    module = presets.build(name, width=M, heads=H, **depth)

    def called(x, context, run):
        x, context, keys = jnp.ones((B, T, M), x), jnp.ones((B, S, M), context), jnp.ones((B, S))
        given, where = arguments(module, x, context, keys > 0)
        steps = lambda params: step_by_step(module, params, x, context, keys > 0)
        return run(given, where, steps if writes(module) else lambda params: None)

    init = lambda given, where, _: module.init(jax.random.key(0), *given, **where)
    params = jax.eval_shape(lambda: called(SINGLE, SINGLE, init))
    for own, x, context, wanted in KINDS if name == presets.names()[0] else KINDS[:2]:
        run = lambda given, where, steps, own=own: (
            module.apply(zeros(params, own), *given, **where)[0],
            steps(zeros(params, own)),
        )
        out = jax.eval_shape(lambda x=x, context=context, run=run: called(x, context, run))
        assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(wanted)}, (own, x)


def test_a_module_computes_in_the_dtype_that_it_is_given():
    """And makes its parameters in the other one."""
    all_of_it = {
        "logits": Logits(norm="layer"),
        "extra_keys": ExtraKeys(bias_kv=True, zero_attn=True, sink=True, registers=2),
        "head_gate": True,
        "use_bias": True,
    }
    x, context = jnp.ones((B, T, M)), jnp.ones((B, S, 5), HALF)
    for fields in (all_of_it, {"logits": Logits(talking=True)}, {"positions": "add"}):
        module = CrossAttention(M, H, dtype=BRAIN, param_dtype=HALF, **fields)
        where = {"query_positions": jnp.ones((1, T, M))} if "positions" in fields else {}
        run = lambda module=module, where=where: module.init_with_output(
            jax.random.key(0), x, context, bias=jnp.ones((1, 1, T, S)), **where
        )
        (y, trace), params = jax.eval_shape(run)
        assert y.dtype == trace.k.dtype == BRAIN
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(HALF)}
    feed = MLP(gated=True, dtype=BRAIN, param_dtype=HALF)
    y, params = jax.eval_shape(lambda: feed.init_with_output(jax.random.key(0), x))
    assert y.dtype == BRAIN
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(HALF)}


def test_a_block_computes_in_the_dtype_that_it_is_given():
    block, x = Block(M, H, dtype=BRAIN, param_dtype=HALF), jnp.ones((B, T, M))
    (y, trace), params = jax.eval_shape(lambda: block.init_with_output(jax.random.key(0), x, x))
    assert (y.dtype, trace.k.dtype) == (BRAIN, BRAIN)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(HALF)}


def test_whole_numbers_do_not_make_whole_numbers_of_kernels():
    """Of pixels in uint8 a layer would see zeros."""
    pixels, kernel = jnp.ones((2, 3), jnp.uint8), jnp.full((3, 1), 0.25)
    assert computing_dtype(None, pixels, kernel) == SINGLE
    assert computing_dtype(None, kernel.astype(BRAIN), kernel) == BRAIN


def test_tables_of_positions_may_be_stored_in_several_dtypes():
    module = LearnedPositions((2, 3), M)
    params = module.init(jax.random.key(0))["params"]
    params["axis0"] = params["axis0"].astype(HALF)
    assert module.apply({"params": params}).dtype == SINGLE


def test_float64_is_kept_everywhere(x64):
    """In caches as well: tokens one by one are those of all at once to 1e-12."""
    module = presets.build("whisper", width=M, heads=H, layers=2)
    rng = np.random.default_rng(0)
    x, context = (jnp.asarray(rng.normal(size=(B, n, M))) for n in (T, S))
    seen, params = jnp.ones((B, S), bool), filled(module, x, context)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float64)}
    steps, every = jax.jit(
        lambda *given: (step_by_step(module, *given), whole(module, *given)["x"])
    )(params, x, context, seen)
    assert steps.dtype == jnp.float64
    np.testing.assert_allclose(steps, every, atol=1e-12)
    stored = jax.eval_shape(lambda: module.apply(params, B, T, method="init_cache"))
    assert {leaf.dtype for leaf in jax.tree.leaves(stored)} == {jnp.dtype(jnp.float64)}


@pytest.mark.slow
def test_half_precision_parameters_are_those_numbers_in_single_precision():
    """But for rounding, of a decoder with all kinds of parameters, and of a text that it writes."""
    stack = presets.build("whisper", width=M, heads=H, layers=2)
    module = TextDecoder(stack, 11, 8, first_norm=True, transformed=True)
    tokens = jnp.arange(B * T).reshape(B, T) % 11
    sound = jnp.asarray(np.random.default_rng(1).normal(size=(B, S, M)), SINGLE)
    half = cast(filled(module, tokens, sound), HALF)

    @jax.jit
    def run(params):
        logits, _ = module.apply(params, tokens, sound)

        def step(cache, token, place):
            logits, cache, _ = module.apply(
                params, token, projected, cache, place, method="decode_step"
            )
            return logits, cache, None

        projected = module.apply(params, sound, method="project")
        cache = module.apply(params, B, 8, method="init_cache")
        return logits, generate(step, cache, tokens[:, :1], length=6, eos_id=None)

    (logits, texts), wanted = run(half), run(cast(half, SINGLE))
    assert logits.dtype == texts.score.dtype == SINGLE
    np.testing.assert_allclose(logits, wanted[0], atol=5e-6)
    np.testing.assert_array_equal(texts.tokens, wanted[1].tokens)


PIXELS = jnp.zeros((B, 16, 16, 3), jnp.uint8)
SMALL = {
    "stack": (Stack(2, M, H), lambda x, c: ((x, c), {"visible": jnp.ones((2, B, S), bool)})),
    "two streams": (
        presets.build("meter", width=M, heads=H, layers=2),
        lambda x, c: (((x, c),), {"readable": Mask.keys(jnp.ones((B, S), bool))}),
    ),
    "prefix": (
        presets.build("prefix_lm", width=M, heads=H, layers=2),
        lambda x, c: (((x, c),), {"readable": Mask.keys(jnp.ones((B, S), bool))}),
    ),
    "block": (presets.build("mllama", width=M, heads=H), lambda x, c: ((x, c), {})),
    "two-stream layer": (
        presets.build("lxmert", width=M, heads=H),
        lambda x, c: (((x, c),), {}),
    ),
    "prefix layer": (
        presets.build("prefix_lm", width=M, heads=H),
        lambda x, c: (((x, c),), {}),
    ),
    "latents": (Latents(3, Block(M, H, presets.config("map_head"))), lambda x, c: ((c,), {})),
    "encoder": (PatchEncoder(M, "features"), lambda x, c: ((c,), {})),
    "pictures": (PatchEncoder(M, "window"), lambda x, c: ((PIXELS,), {})),
    "exchange": (
        BidirectionalAttention(M, H),
        lambda x, c: ((x, c), {"mask": Mask(), "context_to_x": Mask()}),
    ),
    "distance": (Biased(M, H), lambda x, c: ((x, c), {})),
    "slots compete": (
        CrossAttention(M, H, logits=Logits(competition="queries")),
        lambda x, c: ((x, c), {"bias": jnp.ones((1, 1, T, S), HALF)}),
    ),
}


STACKS = ("stack", "two streams", "prefix")


@pytest.mark.parametrize("name", [slow(name) if name in STACKS else name for name in SMALL])
def test_modules_that_are_no_presets_promote_as_well(name):
    module, given = SMALL[name]

    def run(x, context, params):
        inputs, where = given(jnp.ones((B, T, M), x), jnp.ones((B, S, M), context))
        own = module.init(jax.random.key(0), *inputs, **where)
        return jax.tree.leaves(module.apply(cast(own, params), *inputs, **where))[0]

    for params, x, context, wanted in KINDS[:3]:
        y = jax.eval_shape(lambda p=params, x=x, c=context: run(x, c, p))
        reads_one = name in ("encoder", "latents")
        assert y.dtype == (SINGLE if name == "pictures" else context if reads_one else wanted)
