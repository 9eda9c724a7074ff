"""Fields and inputs of another kind, width or shape: one line that says what to write."""

import dataclasses
import gc
import weakref

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import (
    Block,
    BlockConfig,
    CrossAttention,
    ExtraKeys,
    Logits,
    ResidualConfig,
    Rotary,
    Stack,
    presets,
)
from crossattn.nn.choices import check_fields
from crossattn.nn.context import check_shared
from crossattn.nn.families.coca import CocaDecoder
from crossattn.nn.families.latents import Latents
from crossattn.nn.layers.mlp import MLP
from crossattn.nn.layers.patch_encoder import PatchEncoder
from crossattn.nn.layers.positions import LearnedPositions, RelativeBias
from crossattn.nn.parameters import chosen

B, T, S, M, N, H = 2, 3, 5, 8, 6, 2
NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def unchecked():
    """Mistakes are made as a user makes them: without checked annotations."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("made", "error", "said"),
    [
        (lambda: CrossAttention(0, 2), ValueError, "CrossAttention.width is at least 1, got 0"),
        (lambda: CrossAttention(M, 0), ValueError, "CrossAttention.heads is at least 1, got 0"),
        (lambda: CrossAttention(M, -2), ValueError, "heads is at least 1, got -2"),
        (lambda: CrossAttention(M, True), TypeError, "heads is an integer, got True: write"),
        (lambda: CrossAttention(M, 2.0), TypeError, "heads is an integer, got 2.0: write"),
        (lambda: CrossAttention(M, "2"), TypeError, "heads is an integer, got '2'"),
        (lambda: CrossAttention(M, H, head_size=0), ValueError, "head_size is at least 1, got 0"),
        (lambda: CrossAttention(M, H, value_size=0), ValueError, "value_size is at least 1, got 0"),
        (
            lambda: CrossAttention(M, H, key_value_heads=0),
            ValueError,
            "key_value_heads is at",
        ),
        (lambda: CrossAttention(M, H, head_gate=2), ValueError, "unknown CrossAttention.head_gate"),
        (lambda: Block(M, 0), ValueError, "Block.heads is at least 1, got 0"),
        (lambda: Stack(1.5, M, H), TypeError, "Stack.layers is an integer, got 1.5"),
        (lambda: Stack(0, M, H), ValueError, "Stack.layers is at least 1, got 0"),
        (lambda: Stack(NAN, M, H), TypeError, "Stack.layers is an integer, got nan"),
        (lambda: Stack(2, M, H, remat="all"), ValueError, "unknown Stack.remat 'all'"),
        (
            lambda: presets.build("t5", width="8", heads=2),
            TypeError,
            "width is an integer, got '8'",
        ),
        (
            lambda: presets.build("t5", width=8, heads=2.0),
            TypeError,
            "heads is an integer, got 2.0",
        ),
        (
            lambda: presets.build("flamingo", width=8, heads=2, layers=True),
            TypeError,
            "layers is an integer, got True",
        ),
        (lambda: MLP(expansion=0), ValueError, "MLP.expansion must be positive"),
        (
            lambda: MLP(expansion=INF),
            ValueError,
            "MLP.expansion is finite",
        ),
        (lambda: MLP(activation="gel"), ValueError, "did you mean 'gelu'"),
        (lambda: Logits(scale="1.0"), TypeError, "Logits.scale is a Python number, got '1.0'"),
        (lambda: Logits(scale=NAN), ValueError, "Logits.scale is finite, got nan"),
        (lambda: Logits(scale=True), TypeError, "Logits.scale is a Python number, got True"),
        (lambda: Logits(softcap=INF), ValueError, "Logits.softcap is finite, got inf"),
        (lambda: Logits(softcap=0), ValueError, "Logits.softcap must be positive, got 0"),
        (lambda: Logits(epsilon=-1.0), ValueError, "Logits.epsilon is at least 0, got -1.0"),
        (
            lambda: ResidualConfig(epsilon=None),
            TypeError,
            "ResidualConfig.epsilon is a Python number, got None",
        ),
        (lambda: ExtraKeys(registers=-1), ValueError, "ExtraKeys.registers is at least 0, got -1"),
        (lambda: ExtraKeys(registers=1.5), TypeError, "ExtraKeys.registers is an integer, got 1.5"),
        (lambda: Rotary(theta=NAN), ValueError, "Rotary.theta is finite, got nan"),
        (lambda: Latents(0, Block(M, H)), ValueError, "Latents.count is at least 1, got 0"),
        (lambda: RelativeBias(H, buckets=0), ValueError, "RelativeBias.buckets is at least 1"),
        (lambda: LearnedPositions(3, M), TypeError, r"sizes is a tuple, got 3: write \(3,\)"),
        (lambda: LearnedPositions((3, 0), M), ValueError, "sizes is at least 1, got 0"),
        (lambda: TextDecoder(Stack(1, M, H), 0, 4), ValueError, "vocab_size is at least 1"),
    ],
)
def test_a_field_of_another_kind_is_refused_when_the_module_is_made(made, error, said):
    with pytest.raises(error, match=said) as raised:
        made()
    assert "\n" not in str(raised.value)


def test_a_class_whose_fields_were_checked_can_be_freed():
    """Each use of `nn.vmap` or `nn.remat` makes a class."""
    made = dataclasses.make_dataclass("Made", [("width", int)])
    seen = weakref.ref(made)
    check_fields(made(3))
    del made
    for n in range(300):
        check_fields(dataclasses.make_dataclass(f"Made{n}", [("width", int)])(3))
    gc.collect()
    assert seen() is None


def test_fields_may_be_numbers_of_numpy():
    assert CrossAttention(np.int64(M), np.int32(H), head_size=np.int8(4)).size == 4
    assert Logits(scale=np.float32(0.5), softcap=2) == Logits(scale=0.5, softcap=2.0)
    assert ExtraKeys(registers=0) == ExtraKeys()


def ones(*sizes):
    return jnp.ones((B, *sizes))


X, CONTEXT = ones(T, M), ones(S, N)
CONTEXTS = {
    "a list": (CONTEXT.tolist(), TypeError, "got .*: write jnp.asarray"),
    "a grid": (
        ones(2, 3, N),
        ValueError,
        r"context has shape \(2, 2, 3, 6\), wanted \(B, S, N\): write context.reshape\(2, 6, 6\)",
    ),
    "no batch": (CONTEXT[0], ValueError, r"\(5, 6\), wanted .*: write context\[None\] for one"),
    "words": (jnp.ones((B, S, N), int), TypeError, "context has floats, got int32: embed"),
    "another width": (CONTEXT[..., :4], ValueError, "input of width 4, .* made for width 6"),
    "none": (None, TypeError, "context is required"),
}
STREAMS = {
    "a list": (X.tolist(), TypeError, "got .*: write jnp.asarray"),
    "no batch": (X[0], ValueError, r"x has shape \(3, 8\), wanted \(B, T, M\): write x\[None\]"),
    "words": (jnp.ones((B, T), int), ValueError, r"x has shape \(2, 3\), wanted"),
    "another width": (X[..., :4], ValueError, "width 4.* width 8"),
}
MODULES = {
    "attention": CrossAttention(M, H),
    "block": presets.build("whisper", width=M, heads=H),
    "latents": presets.build("perceiver_encode", width=M, heads=H),
    "stack": presets.build("flamingo", width=M, heads=H, layers=2),
    "decoder": presets.build("coca_decoder", width=M, heads=H, layers=2),
}


@pytest.mark.parametrize("kind", MODULES)
def test_an_input_that_does_not_fit_is_refused(kind):
    module = MODULES[kind]
    params = jax.eval_shape(lambda: module.init(jax.random.key(0), X, CONTEXT))

    def call(x, context):
        return jax.eval_shape(lambda params: module.apply(params, x, context), params)

    cases = [((X, bad), *rest) for bad, *rest in CONTEXTS.values()]
    cases += [((bad, CONTEXT), *rest) for bad, *rest in STREAMS.values()]
    for given, error, said in cases:
        with pytest.raises(error, match=said) as raised:
            call(*given)
        assert "\n" not in str(raised.value).split("\n---")[0]
    y = jax.tree.leaves(call(np.asarray(X), np.asarray(CONTEXT)))[0]
    assert y.shape == X.shape


PAIRS = ("vilbert", "bidirectional", "sam_two_way", "prefix_lm", "bottleneck")


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_that_does_not_fit_is_refused(name):
    module, context = presets.build(name, width=M, heads=H), ones(S, M)
    run = lambda *pair: jax.eval_shape(lambda: module.init(jax.random.key(0), pair))
    for bad in ("a list", "a grid", "no batch", "words"):
        given, error, _ = CONTEXTS[bad]
        with pytest.raises(error, match=r"write (context|jnp.asarray)|embed"):
            run(X, given)
    for bad in STREAMS.values():
        with pytest.raises(bad[1], match=r"write (x|jnp.asarray)|width"):
            run(bad[0], context)
    run(np.asarray(X), np.asarray(context))


def test_self_attention_refuses_heads_and_streams_that_do_not_fit():
    own = BlockConfig(order=("self",))
    run = lambda heads, x: Block(M, heads, own).init(jax.random.key(0), x, None)
    with pytest.raises(ValueError, match="width 8 is not a multiple of heads 3"):
        run(3, X)
    for given, error, said in STREAMS.values():
        with pytest.raises(error, match=said):
            run(H, given)


def test_tokens_that_do_not_fit_are_refused():
    model = TextDecoder(Stack(1, M, H), 11, 7)
    words = jnp.ones((B, T), int)
    for given, error, said in (
        (words[0], ValueError, r"tokens have shape \(3,\), wanted \(B, T\): write tokens\[None\]"),
        (words[None], ValueError, r"tokens have shape \(1, 2, 3\), wanted \(B, T\)"),
        (words.tolist(), TypeError, r"got a list: write jnp.asarray\(tokens\)"),
        (X[..., 0], TypeError, "tokens are integers, got float32"),
    ):
        with pytest.raises(error, match=said):
            model.init(jax.random.key(0), given, X)
    jax.eval_shape(lambda: model.init(jax.random.key(0), np.asarray(words), X))


@pytest.mark.parametrize(
    ("made", "error", "said"),
    [
        (lambda: RelativeBias(1, longest=16), ValueError, "longest is above 16"),
        (lambda: RelativeBias(1, buckets=1), ValueError, "buckets is at least 2"),
        (lambda: RelativeBias(1, buckets=3, both=True), ValueError, "buckets is at least 4"),
        (lambda: CocaDecoder(1, 8, 2), ValueError, "layers is at least 2, one in each half"),
        (lambda: encoded(jnp.ones((1, 8, 8, 3))), TypeError, "pictures are uint8, 0 to 255"),
        (lambda: encoded(jnp.ones((1, 8, 8, 1), jnp.uint8)), ValueError, r"\(B, h, w, 3\)"),
        (lambda: encoded(jnp.ones((1, 7, 8, 3), jnp.uint8)), ValueError, "at least 8 pixels"),
        (lambda: check_shared(3, 2), ValueError, "3 rows of x cannot share 2 contexts"),
        (lambda: chosen(("a",), ["a"]), TypeError, "a pattern of paths is a text"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused(unchecked, made, error, said):
    with pytest.raises(error, match=said):
        made()


def encoded(pictures):
    return PatchEncoder(8, kind="patch").init(jax.random.key(0), pictures)
