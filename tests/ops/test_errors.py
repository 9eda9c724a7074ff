"""Calls that do not fit: one line that names both sides and says what to write."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask, attend, attention, explain
from crossattn.ops.api import RefusalError
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.partials import merge_partials


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


Q, K, V = zeros(2, 5, 6, 11), zeros(2, 7, 3, 11), zeros(2, 7, 3, 13)


@pytest.mark.parametrize(
    ("given", "options", "error", "said"),
    [
        ((Q, None, None), {}, TypeError, "context is required"),
        ((Q, K, None), {}, TypeError, "context is required"),
        (
            (Q[:, :, 0], K, V),
            {},
            ValueError,
            r"q float32\[2, 5, 11\], k float32\[2, 7, 3, 11\].*\(B, T",
        ),
        ((Q, K[0], V), {}, ValueError, r"k float32\[7, 3, 11\].*write q"),
        ((Q, K.astype(jnp.bfloat16), V), {}, TypeError, r"k bfloat16.*k.astype\(q.dtype\)"),
        ((Q, K, V.astype(jnp.float16)), {}, TypeError, r"v float16.*v.astype\(q.dtype\)"),
        (
            [x.astype(jnp.int32) for x in (Q, K, V)],
            {},
            TypeError,
            r"int32.*q.astype\(jnp.float32\)",
        ),
        ((Q[:1], K, V), {}, ValueError, r"\[1, 5, 6, 11\].*\[2, 7, 3, 11\].*batch sizes"),
        ((Q, K, V[:1]), {}, ValueError, "batch sizes"),
        ((Q, K[:, :5], V), {}, ValueError, r"\[2, 5, 3, 11\].*\[2, 7, 3, 13\].*S=5, K=3"),
        ((Q, K, V[:, :, :1]), {}, ValueError, "length or heads"),
        ((Q[..., :7], K, V), {}, ValueError, r"head sizes.*D=7"),
        ((Q[:, :, :5], K, V), {}, ValueError, "5 query heads are not a multiple of 3 key heads"),
        (
            (Q, K, V),
            {"implementation": "cuda"},
            ValueError,
            "'cuda': write one of 'reference', 'xla', 'chunked'",
        ),
        (
            (Q, K, V),
            {"implementation": BlockSizes(1, 2, 4, 4)},
            ValueError,
            "heads=2 is not a divisor",
        ),
        ((Q, K, V), {"sinks": jnp.zeros(3)}, ValueError, r"sinks are floats \(H,\) = \(6,\)"),
        ((Q, K, V), {"dropout": 0.1}, TypeError, r"write dropout=\(0.1, key\)"),
        (
            (Q, K, V),
            {"dropout": (1.0, jax.random.key(0))},
            ValueError,
            r"in \[0, 1\), got 1.0",
        ),
        (
            (Q, K, V),
            {"dropout": (0.5, jax.random.key(0)), "implementation": "splash"},
            RefusalError,
            "splash cannot take this call: it keeps no weights to drop; 'chunked' does",
        ),
        (
            (Q, K, V),
            {"implementation": "cudnn"},
            RefusalError,
            "cudnn cannot take this call: float32: cudnn computes in bfloat16",
        ),
        ((Q, K, V), {"softcap": 0.0}, ValueError, "must be positive, got 0.0"),
        ((Q, K, V), {"scale": jnp.ones(2)}, TypeError, "scale is a Python number"),
        (
            (Q, K, V),
            {"mask": jnp.ones((2, 7), bool)},
            ValueError,
            r"write mask\[:, None, None, :\]",
        ),
        ((Q, K, V), {"mask": jnp.ones((2, 5, 7), bool)}, ValueError, r"write mask\[:, None\]"),
        (
            (Q, K, V),
            {"mask": jnp.ones((2, 1, 5, 7))},
            TypeError,
            r"float32: write mask.astype\(bool\)",
        ),
        ((Q, K, V), {"mask": jnp.ones((2, 3, 5, 7), bool)}, ValueError, r"\(2, 3, 5, 7\).*H=6"),
        ((Q, K, V), {"mask": Mask.causal()}, ValueError, r"Mask.causal\(2\)"),
        ((Q, K, V), {"mask": Mask.lengths(key=jnp.ones(3, int))}, ValueError, r"\(3,\).*B=2"),
        ((Q, K, V), {"bias": zeros(5, 7)}, ValueError, r"\(5, 7\).*T=5, S=7; bias\[None\]"),
        ((Q, K, V), {"bias": zeros(2, 3, 5, 7)}, ValueError, r"\(2, 3, 5, 7\).*H=6"),
        (
            (Q, K, V),
            {"bias": jnp.ones((1, 1, 5, 7), bool)},
            TypeError,
            r"bool: write mask=Mask.dense",
        ),
    ],
)
def test_errors(unchecked, given, options, error, said):
    with pytest.raises(error, match=said) as raised:
        attend(*given, **options)
    assert "\n" not in str(raised.value)


NAN, INF = float("nan"), float("inf")
STATIC = {
    "scale": (
        *((x, TypeError, "scale is a Python number, got ") for x in ("1.0", True, 1j, [1.0], (1,))),
        (np.ones(2), TypeError, r"scale is a Python number, got array"),
        *((x, ValueError, "scale is finite, got .*: write scale=None") for x in (NAN, INF, -INF)),
        (np.float32("nan"), ValueError, "scale is finite, got nan"),
    ),
    "softcap": (
        *((x, TypeError, "softcap is a Python number") for x in ("2", True, False, [2.0])),
        *((x, ValueError, "softcap is finite, got .*: write softcap=None") for x in (NAN, INF)),
        *((x, ValueError, "softcap must be positive, got .*: write softcap=None") for x in (0, -1)),
    ),
    "dropout": (
        (("0.1", jax.random.key(0)), TypeError, "dropout rate is a Python number, got '0.1'"),
        ((True, jax.random.key(0)), TypeError, "dropout rate is a Python number, got True"),
        ((NAN, jax.random.key(0)), ValueError, "dropout rate is finite, got nan"),
        ((-0.1, jax.random.key(0)), ValueError, r"in \[0, 1\), got -0.1"),
        ((0.1, 3), TypeError, r"dropout key is an array, got 3: write jax.random.key\(0\)"),
        ([0.1, jax.random.key(0)], TypeError, r"write dropout=\(0.1, key\)"),
    ),
    "implementation": (
        *((x, ValueError, "unknown implementation .*: write one of") for x in (3, True, ["xla"])),
        ("xla or chunked", ValueError, "unknown implementation 'xla or chunked'"),
    ),
    "sinks": (([0.0] * 6, TypeError, r"sinks is an array, got a list: write jnp.asarray\(sinks"),),
    "bias": (([[[[0.0]]]], TypeError, r"bias is an array, got a list: write jnp.asarray\(bias\)"),),
    "mask": (
        ("causal", TypeError, r"mask is a Mask or booleans, got 'causal': write mask=Mask.causal"),
        (Mask.causal, TypeError, "mask is a Mask or booleans, got <bound method"),
        (True, ValueError, r"got shape \(\); write mask\[None, None, None, None\]"),
        ([[True], [True, False]], TypeError, r"Mask.dense\(...\) takes booleans, got"),
    ),
}


@pytest.mark.parametrize("name", STATIC)
def test_what_is_compiled_in_is_checked(unchecked, name):
    for value, error, said in STATIC[name]:
        for call in (attend, attention):
            with pytest.raises(error, match=said) as raised:
                call(Q, K, V, **{name: value})
            assert "\n" not in str(raised.value)


def test_numbers_of_numpy_are_numbers(unchecked):
    run = lambda scale, cap: attention(Q + 1, K + 1, V + 1, scale=scale, softcap=cap)
    for one in (np.float64, np.float16, np.array, jnp.asarray):
        assert bool(jnp.all(run(one(0.5), np.int32(2)) == run(0.5, 2.0)))


def test_arrays_of_numpy_are_arrays(unchecked):
    given = [np.asarray(x + 1) for x in (Q, K, V)]
    bias, sinks = np.ones((1, 1, 5, 7), np.float32), np.ones(6, np.float32)
    found = attention(*given, bias=bias, sinks=sinks, mask=np.ones((2, 1, 5, 7), bool))
    wanted = attention(*map(jnp.asarray, given), bias=jnp.asarray(bias), sinks=jnp.asarray(sinks))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("call", [attention, explain])
@pytest.mark.parametrize("place", range(3))
def test_a_list_is_no_array(unchecked, call, place):
    for value, kind in ((Q.tolist(), "list"), (1.0, "float"), ("q", "str"), ((Q,), "tuple")):
        given = [value if i == place else x for i, x in enumerate((Q, K, V))]
        with pytest.raises(TypeError, match=rf"is an array, got a {kind}: write jnp.asarray"):
            call(*given)


@pytest.mark.parametrize("call", [attention, explain])
def test_there_are_heads_and_features(unchecked, call):
    for q, k, said in (
        (zeros(2, 5, 6, 0), zeros(2, 7, 6, 0), "no features in a head"),
        (zeros(2, 5, 0, 8), zeros(2, 7, 0, 8), "there are no heads"),
        (zeros(2, 5, 0, 8), zeros(2, 7, 3, 8), "there are no heads"),
        (zeros(2, 5, 6, 8), zeros(2, 7, 0, 8), "not a multiple of 0 key heads"),
    ):
        with pytest.raises(ValueError, match=said):
            call(q, k, k)


@pytest.mark.parametrize(
    ("made", "error", "said"),
    [
        (lambda: Mask.lengths(key="ab"), TypeError, "takes integers, got 'ab'"),
        (lambda: Mask.lengths(key=[1.5, 2.0]), TypeError, "takes integers, got float32"),
        (lambda: Mask.lengths(key=[True, False]), TypeError, "takes integers, got bool"),
        (lambda: Mask.lengths(key=3), ValueError, r"shape \(B\), got shape \(\)"),
        (lambda: Mask.segments([[1, 2], [1]], [[1]]), TypeError, "takes integers, got"),
        (lambda: Mask.causal(True), TypeError, r"an integer, got True: write Mask.causal\(0\)"),
        (lambda: Mask.causal(1.5), TypeError, "takes integers, got float32"),
        (lambda: Mask.causal("1"), TypeError, "takes integers, got '1'"),
        (lambda: Mask.causal(NAN), TypeError, "takes integers, got float32"),
        (lambda: Mask.window(1, "2", 0), TypeError, r"Mask.window\(right\) takes integers"),
        (lambda: Mask.window(np.bool_(True), 2, 0), TypeError, "takes an integer"),
        (lambda: Mask.media([[1]], [[1]], latest_only=1), TypeError, "write True or False"),
        (lambda: Mask.keys([[1, 0]]), TypeError, r"mask.astype\(bool\)"),
        (lambda: Mask.keys("no"), TypeError, "takes booleans, got 'no'"),
        (lambda: Mask.dense(None), TypeError, "takes booleans, got None"),
        (
            lambda: BlockSizes(1.5, 1, 2, 3),
            TypeError,
            r"BlockSizes.examples is an integer, got 1.5",
        ),
        (lambda: BlockSizes(1, True, 2, 3), TypeError, "BlockSizes.heads is an integer, got True"),
        (lambda: BlockSizes(1, 1, "2", 3), TypeError, "BlockSizes.queries is an integer, got '2'"),
        (lambda: BlockSizes(1, 1, 2, NAN), TypeError, "BlockSizes.keys is an integer, got nan"),
        (lambda: BlockSizes(1, 1, 2, -3), ValueError, "BlockSizes.keys is at least 1, got -3"),
        (lambda: BlockSizes(1, 1, 2, 3, "int8"), ValueError, "dtype's name or None, got 'int8'"),
    ],
)
def test_masks_and_blocks_check_what_they_are_made_of(unchecked, made, error, said):
    with pytest.raises(error, match=said) as raised:
        made()
    assert "\n" not in str(raised.value)


def test_an_offset_of_numpy_is_known_when_a_kernel_is_compiled(unchecked):
    assert Mask.causal(np.int64(2)) == Mask.causal(2)


def test_traced_scale_says_what_to_do(unchecked):
    with pytest.raises(TypeError, match="multiply q"):
        jax.jit(lambda s: attention(Q, K, V, scale=s))(2.0)


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (lambda t: t.summary([[1.0]]), TypeError, "columns is an array, got a list"),
        (lambda t: t.summary("x"), TypeError, "columns is an array, got a str"),
        (lambda t: t.expect(zeros(0)), ValueError, r"\(B, S, R\) = \(2, 7, R\), got \[0\]"),
        (lambda t: t.expect(zeros(1, 7, 2)), ValueError, r"\(2, 7, R\), got \[1, 7, 2\]"),
        (
            lambda t: t.expect(zeros(2, 7, 1, dtype=jnp.complex64)),
            TypeError,
            "or booleans, got complex64",
        ),
        (lambda t: t.expect(zeros(2, 7, 1), through=1.5), TypeError, "through is the trace of an"),
        (lambda t: t.weights(through=[]), TypeError, "through is the trace of an attention, got "),
        (lambda t: t.weights([0, 0]), TypeError, "queries is an array, got a list"),
        (lambda t: t.weights(jnp.array([0.0])), TypeError, "queries are integers, numbers of"),
        (
            lambda t: t.weights(jnp.array(1)),
            ValueError,
            r"queries are \(R,\) or \(B, R\), got \[\]",
        ),
        (lambda t: t.weights(jnp.array([0, 5])), ValueError, "no query 5: .* numbers from 0 to 4"),
        (lambda t: t.weights(jnp.array([-1])), ValueError, "no query -1"),
        (lambda t: merge_partials([1.0], t.lse[None]), TypeError, "o is an array, got a list"),
        (lambda t: merge_partials(V, NAN), TypeError, "lse is an array, got a float"),
        (lambda t: merge_partials(None, t.lse[None]), ValueError, r"got \[None, \[1, 2, 6, 5\]\]"),
        (
            lambda t: merge_partials(zeros(1, 2, 5, 6, 3), t.lse),
            ValueError,
            r"lse \(P, B, H, T\), got",
        ),
        (lambda t: Mask.media(Q, Q, Q), TypeError, "write True or False"),
    ],
)
def test_what_a_trace_is_asked_for_is_checked(unchecked, ask, error, said):
    with pytest.raises(error, match=said) as raised:
        ask(attend(Q, K, V)[1])
    assert "\n" not in str(raised.value)


def test_a_query_that_does_not_exist_has_no_weights(unchecked):
    """Where its number is known only when the program runs: NaN, not those of another query."""
    _, trace = attend(Q, K, V)
    weights = jax.jit(trace.weights)(jnp.array([0, -1, 5]))
    assert jnp.isnan(weights).all((0, 1, 3)).tolist() == [False, True, True]
