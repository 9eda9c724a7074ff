"""Calls that do not fit: one line that names both sides and says what to write."""

import jax
import jax.numpy as jnp
import pytest

from crossattn import Mask, attend, attention
from crossattn.ops.api import RefusalError
from crossattn.ops.blocks import Blocks


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
        ((Q, K, V), {"implementation": Blocks(1, 2, 4, 4)}, ValueError, "heads=2 is not a divisor"),
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
            {"dropout": (0.5, jax.random.key(0)), "implementation": "chunked"},
            RefusalError,
            "chunked cannot take this call: it keeps no weights",
        ),
        (
            (Q, K, V),
            {"implementation": "cudnn"},
            RefusalError,
            "cudnn cannot take this call: float32: cuDNN computes in bfloat16",
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


def test_traced_scale_says_what_to_do(unchecked):
    with pytest.raises(TypeError, match="multiply q"):
        jax.jit(lambda s: attention(Q, K, V, scale=s))(2.0)
