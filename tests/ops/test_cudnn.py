"""Without a GPU: what surrounds the kernels, with the kernels' formulas in plain operations in
their place, and the programs that would run, compared with jax.nn's own."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask, attention
from crossattn.ops import reference
from crossattn.ops.kernels import cudnn
from crossattn.ops.kernels.cudnn.primitives import library
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs
from tests.support import cudnn_formulas

KERNEL = cudnn.KERNEL
SCALE, NONE = 0.3, Mask()
NAMES = ("o", "lse", "dq", "dk", "dv")


def called(q, k, v, mask, bias=None, softcap=None):
    return AttentionCall(q, k, v, mask, bias, None, SCALE, softcap)


@pytest.fixture
def stand_in(monkeypatch):
    cudnn_formulas.stand_in(monkeypatch)


def draw(B, T, S, H, K, D, V, seed=0):
    shapes = {"q": (B, T, H, D), "k": (B, S, K, D), "v": (B, S, K, V)}
    shapes |= {"out": (B, T, H, V), "lse": (B, H, T)}
    rng = np.random.default_rng(seed)
    drawn = {n: rng.standard_normal(x).astype(np.float32) for n, x in shapes.items()}
    return {n: x if n == "lse" else x.astype(jnp.bfloat16) for n, x in drawn.items()}


@functools.partial(jax.jit, static_argnames="band")
def ours(arrays, lengths, *, band=NONE):
    call = called(*(arrays[n] for n in "qkv"), built(lengths, band))
    o, lse = KERNEL.forward(call)
    given = BackwardInputs(o, lse, arrays["out"], arrays["lse"])
    gradients = KERNEL.backward(call, given)[:3]
    return dict(zip(NAMES, (o, lse, *gradients), strict=True))


@functools.partial(jax.jit, static_argnames="band")
def definition(arrays, lengths, *, band=NONE):
    q, k, v, out = (arrays[n].astype(jnp.float32) for n in ("q", "k", "v", "out"))
    results = lambda *x: reference.KERNEL.forward(called(*x, built(lengths, band)))
    (o, lse), pull = jax.vjp(results, q, k, v)
    gradients = pull((out, jnp.where(lse == -jnp.inf, 0, arrays["lse"])))
    return dict(zip(NAMES, (o, lse, *gradients), strict=True))


def built(lengths, band):
    return band & Mask.lengths(**lengths) if lengths else band


def check(sizes, lengths, band=NONE):
    arrays = draw(*sizes)
    visible = np.asarray(built(lengths, band).dense_array(*sizes[:3]))
    found = ours(cudnn_formulas.poisoned(arrays, visible), lengths, band=band)
    wanted = definition(arrays, lengths, band=band)
    for name, want in wanted.items():
        got, empty = np.asarray(found[name], np.float32), np.isneginf(want)
        assert np.array_equal(np.isneginf(got), empty), name
        error = np.abs(np.where(empty, 0, got) - np.where(empty, 0, want)).max()
        assert error <= (1e-4 if name == "lse" else 2e-2 * np.abs(want).max()), f"{name}: {error}"


@pytest.mark.parametrize("band", [NONE, Mask.causal(0)], ids=["full", "causal"])
@pytest.mark.parametrize(("T", "S"), [(5, 7), (7, 5)])
def test_odd_sizes_lengths_and_poison(stand_in, band, T, S):
    """The last example has no key at all; odd T, S and head sizes are padded."""
    sizes, whole = (3, T, S, 4, 2, 11, 13), np.array([T, T, T], np.int32)
    check(sizes, {"key": np.array([S, 3, 0], np.int32), "query": whole}, band)
    check(sizes, {"key": np.array([S, S, 4], np.int32), "query": whole - 3}, band)
    if T < S:
        check(sizes, {}, band)


def test_window_to_the_left(stand_in):
    check((2, 5, 9, 2, 2, 8, 8), {}, Mask.window(2, 0, 0))


def test_a_softmax_over_further_keys(stand_in):
    """Backward takes the global out and lse, here of twice the keys, of which these are half."""
    arrays = draw(2, 6, 8, 2, 2, 8, 8)
    arrays = {n: jnp.asarray(x) for n, x in arrays.items()}
    call = called(*(arrays[n] for n in "qkv"), NONE)
    o, lse = KERNEL.forward(call)
    found = KERNEL.backward(call, BackwardInputs(o, lse + jnp.log(2.0), arrays["out"]))[:3]
    wanted = definition(arrays | {"lse": jnp.zeros_like(arrays["lse"])}, {})
    for got, name in zip(found, ("dq", "dk", "dv"), strict=True):
        want = wanted[name] / 2
        assert np.abs(np.asarray(got, np.float32) - want).max() <= 2e-2 * np.abs(want).max()


PROGRAMS = [
    ({}, NONE, {}),
    ({"key": "lengths"}, NONE, {"key_value_seq_lengths": "lengths"}),
    ({}, Mask.causal(0), {"is_causal": True}),
    ({"query": "lengths"}, Mask.causal(0), {"is_causal": True, "query_seq_lengths": "lengths"}),
    ({}, Mask.window(1, 0, 0), {"is_causal": True, "local_window_size": (1, 0)}),
]


@pytest.mark.parametrize(("lengths", "band", "options"), PROGRAMS)
def test_the_program_calls_cudnn_as_jax_does(monkeypatch, lengths, band, options):
    """The two calls of cuDNN, with all that they are told, are those of jax.nn and its gradient."""
    monkeypatch.setattr(library.module, "check_cudnn_version", lambda: 91000)
    arrays = draw(2, 4, 6, 4, 2, 16, 16) | {"lengths": np.array([3, 2], np.int32)}
    given = lambda x, names: {n: x[of] if of == "lengths" else of for n, of in names.items()}

    def ours(x):
        mask = built(given(x, lengths), band)
        call = called(x["q"], x["k"], x["v"], mask)
        o, lse = KERNEL.forward(call)
        return o, lse, KERNEL.backward(call, BackwardInputs(o, lse, x["out"]))[:3]

    def theirs(x):
        attend = functools.partial(
            jax.nn.dot_product_attention,
            scale=SCALE,
            implementation="cudnn",
            **given(x, options),
        )
        o, pull = jax.vjp(attend, x["q"], x["k"], x["v"])
        return o, pull(x["out"])

    assert calls(ours, arrays) == calls(theirs, arrays)
    assert len(calls(ours, arrays)) == 2


def calls(f, arrays):
    return [re.sub(r"%\w+(#\d+)?", "", x) for x in lines(f, arrays) if "@__cudnn$" in x]


def refused(*, q=(1, 4, 2, 8), k=(1, 6, 2, 8), dtype=jnp.bfloat16, mask=NONE, bias=None, cap=None):
    q, k = (jax.ShapeDtypeStruct(shape, dtype) for shape in (q, k))
    return KERNEL.unsupported(called(q, k, k, mask, bias, cap))


LENGTHS = Mask.lengths(key=np.array([3]))
LONG = {"q": (1, 5000, 4, 8), "k": (1, 4000, 2, 8)}
IDS = Mask.segments(*(np.zeros((1, n), np.int32) for n in (5000, 4000)))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({}, None),
        ({"mask": LENGTHS & Mask.causal(0), "dtype": jnp.float16}, None),
        ({"mask": Mask.window(1, 0, 0)}, None),
        ({"mask": Mask.window(None, 9, 0)}, None),  # hides nothing
        ({"q": (1, 5, 2, 121), "k": (1, 7, 2, 121)}, None),
        ({"q": (1, 5, 2, 249), "k": (1, 7, 2, 249)}, None),
        ({"q": (1, 5, 2, 257), "k": (1, 7, 2, 257)}, "heads of more than 256"),
        ({"dtype": jnp.float32}, "float32: cudnn computes in bfloat16 and float16"),
        ({"k": (1, 0, 2, 8)}, "size 0"),
        ({"cap": 1.5}, "soft-cap"),
        ({"bias": np.zeros((1, 1, 1, 1), np.float32)}, "write bias.astype(jnp.bfloat16)"),
        ({"bias": np.zeros((1, 2, 4, 6), jnp.bfloat16)}, None),
        ({"mask": Mask.keys(np.ones((1, 6), bool))}, None),
        ({"mask": Mask.causal(1)}, None),
        ({"mask": Mask.causal(1), "dtype": jnp.float16}, "no number is low enough"),
        ({"mask": Mask.causal(1), **LONG}, "causal(0) only"),
        ({"mask": Mask.causal(np.array(0)), **LONG}, "Python integers"),
        ({"mask": Mask.window(1, 1, 0), **LONG}, "entries to write out"),
        ({"mask": Mask.window(1, 0, 0) & LENGTHS, **LONG}, "with lengths"),
        ({"mask": IDS & Mask.causal(0), **LONG}, "causal segments with grouped heads"),
        ({"mask": IDS & IDS, **LONG}, "combine the ids"),
    ],
)
def test_refusals_say_why(call, reason):
    found = refused(**call)
    assert found == reason if reason is None else reason in found


@pytest.mark.parametrize("heads_first", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("axis", [None, 1])
def test_vmap_makes_the_batch_larger(axis, heads_first):
    """Over whichever axis, and with arrays that are not mapped: the calls are those of a batch."""
    q, k = (jax.ShapeDtypeStruct(x, jnp.bfloat16) for x in ((3, 4, 5, 2, 8), (3, 6, 2, 8)))
    key = jax.ShapeDtypeStruct((3,) if axis is None else (3, 5), jnp.int32)

    def loss(q, k, key):
        mask = Mask.lengths(key=key)
        return attention(q, k, k, mask=mask, heads_first=heads_first).astype(jnp.float32).sum()

    mapped = jax.vmap(jax.grad(loss, (0, 1)), (2, None, axis))
    found = [line for line in lines(mapped, q, k, key) if "@__cudnn$" in line]
    queries, keys = ("2x4", "2x6") if heads_first else ("4x2", "6x2")
    batches = {(f"tensor<15x{n}x8xbf16>" in line) for line in found for n in (queries, keys)}
    assert (len(found), batches) == (2, {True})
    assert not any(re.search(r"tensor<3x\d", line) for line in found)


def lines(f, *given):
    text = jax.jit(f).trace(*given).lower(lowering_platforms=("cuda",)).as_text()
    return text.splitlines()
