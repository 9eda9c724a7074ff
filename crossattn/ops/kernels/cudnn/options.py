"""The two kernels of cuDNN, and what they are told beside the tokens.

They are called below `jax.nn.dot_product_attention(implementation="cudnn")`, which rounds lse to
bfloat16: too coarse to join partial results by. Its derivative rule has no cotangent of lse and
runs the forward kernel again. The backward kernel itself takes lse and the output as given
(P from lse, delta = rowsum(dO * O)), so it is exact also where both are of a softmax over further
keys.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from crossattn.ops.kernels.cudnn.primitives import call_primitive, library
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.masks import lowering
from crossattn.shapes import Array

__all__ = ["Options", "PackedSequences", "run_backward", "run_forward"]

ELSEWHERE = (
    "cudnn runs on NVIDIA GPUs only: leave `implementation` out, which takes what suits each "
    "platform, or pip install 'crossattn[cuda]' on a machine with a GPU"
)


class PackedSequences(NamedTuple):
    """Which queries see which keys, int32 (B, M) each; those that are not used have lengths 0."""

    query_starts: Array
    query_lengths: Array
    key_starts: Array
    key_lengths: Array

    @property
    def lengths(self) -> tuple[Array, Array]:
        """Of queries and keys, as jax takes them."""
        return self.query_lengths, self.key_lengths

    @property
    def offsets(self) -> tuple[Array, Array]:
        """(B, M + 1) of queries and keys, as jax takes them: it drops what is negative."""
        end = lambda x: jnp.pad(x, [(0, 0), (0, 1)], constant_values=-1)
        return end(self.query_starts), end(self.key_starts)


class Options(NamedTuple):
    """What the kernels are told beside the arrays."""

    scale: float
    causal: bool = False
    left: int | None = None  # how many keys of the causal mask are seen, the last ones
    lengths: tuple[Array, Array] | None = None  # int32 (B,) of queries and keys, at least 1
    heads_first: bool = False
    packed: PackedSequences | None = None
    bias: Array | None = None  # (B|1, H|1, T, S)
    bias_gradient: bool = False  # whether the backward kernel returns that of bias, too
    refuses: bool = False  # whether programs for other platforms may meet it

    @classmethod
    def of(cls, call: AttentionCall, query: Any = None, key: Any = None) -> Options:
        """For the bands of a call and so many queries and keys, (B,); None: all of them."""
        B, T, S, *_ = call.sizes
        window = lowering.static_band(call.mask, T, S)
        left = None if window is None or window.low <= 1 - T else 1 - window.low
        options = cls(call.scale, window is not None, left, None, call.heads_first)
        # The key that makes S even is hidden by lengths, or by causal(0) where T <= S.
        if query is None and key is None and (S % 2 == 0 or (window is not None and T <= S)):
            return options
        count = lambda x, n: jnp.full((B,), n, jnp.int32) if x is None else jnp.maximum(x, 1)
        queries, keys = (count(x, n).astype(jnp.int32) for x, n in ((query, T), (key, S)))
        return options._replace(lengths=(queries, keys))

    @property
    def told(self) -> dict[str, Any]:
        """What `call_primitive` takes beside tokens."""
        kinds, packed = library.MaskType, self.packed
        mask_type = kinds.CAUSAL if self.causal else kinds.NO_MASK
        if self.lengths is not None:
            mask_type = kinds.PADDING_CAUSAL if self.causal else kinds.PADDING
        return {
            "scale": self.scale,
            "mask_type": mask_type,
            "sliding_window_length": self.left,
            "bias": self.bias,
            "variadic_args": (self.bias is not None, self.bias_gradient),
            "lengths": self.lengths or (packed.lengths if packed else ()),
            "offsets": packed.offsets if packed else (),
            "heads_first": self.heads_first,
            "elsewhere": ELSEWHERE if self.refuses else None,
        }


def run_forward(q: Array, k: Array, v: Array, options: Options) -> tuple[Array, Array]:
    """(o (B, T, H, D), lse (B, H, T)); of packed sequences, lse is (B M, H, T)."""
    o, lse = call_primitive("fwd", (q, k, v), (), is_training=True, **options.told)
    return o, lse


def run_backward(
    q: Array, k: Array, v: Array, o: Array, lse: Array, do: Array, options: Options
) -> list[Array]:
    """[dq, dk, dv] for p = exp(s - lse) and delta = rowsum(do * o), whatever lse and o are.

    And the gradient of the bias, where the options ask for it.
    """
    return call_primitive("bwd", (q, k, v), (lse, o, do), **options.told)
