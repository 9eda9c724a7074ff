"""The attention of Flax's modules: `attend` under the arguments of their `attention_fn`."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from crossattn.nn.dtypes import promoted
from crossattn.nn.tables import concrete
from crossattn.ops import Mask, attend
from crossattn.ops.checks import checked_dropout
from crossattn.ops.dropout import Dropout
from crossattn.shapes import Array, Float

__all__ = ["LeadingAxes", "calling", "dot_product_attention"]


class _Call:
    """What a module's call says to the attention inside of it, past Flax, and hears from it."""

    def __init__(self, mask: Mask | None):
        self.mask = mask
        self.trace: Any = None


_CALL: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("call", default=None)


@contextlib.contextmanager
def calling(mask: Mask | None) -> Iterator[_Call]:
    """What the attention that Flax calls in this context hears, and its trace afterwards."""
    call = _Call(mask)
    token = _CALL.set(call)
    try:
        yield call
    finally:
        _CALL.reset(token)


@dataclasses.dataclass(frozen=True)
class LeadingAxes:
    """Any number of leading axes as the one that `attend` has.

    Attributes:
      shape: their sizes, () for none.
    """

    shape: tuple[Any, ...]

    @property
    def size(self) -> Any:
        """B."""
        return math.prod(self.shape)

    def joined(self, x: Array) -> Array:
        """(..., *rest) as (B, *rest)."""
        return x.reshape(self.size, *x.shape[len(self.shape) :])

    def apart(self, x: Array) -> Array:
        """(B, *rest) as (..., *rest)."""
        return x.reshape(*self.shape, *x.shape[1:])

    def pairs(self, x: Any) -> Array:
        """What is broadcastable to (..., H, T, S) as (B|1, H|1, T|1, S|1)."""
        x = jnp.asarray(x)
        missing = len(self.shape) + 3 - x.ndim
        if missing < 0:
            raise ValueError(
                f"a mask or bias is broadcast to (..., H, T, S) with leading axes {self.shape}, "
                f"got shape {x.shape}"
            )
        x = x.reshape(*[1] * missing, *x.shape)
        own = x.shape[:-3]
        if all(n == 1 for n in own):
            return x.reshape(1, *x.shape[-3:])
        return self.joined(jnp.broadcast_to(x, (*self.shape, *x.shape[-3:])))

    def mask(self, mask: Any, H: Any, T: Any) -> Mask:
        """Flax's, or a `Mask`."""
        if mask is None or isinstance(mask, Mask):
            return mask or Mask()
        seen = _visible(mask)
        if self.shape:
            self._check_first(seen.shape, H, T)
        return Mask.dense(self.pairs(seen))

    def _check_first(self, shape: tuple[Any, ...], H: Any, T: Any) -> None:
        """Make sure that a mask without all axes begins with that of heads, or of queries.

        Raises:
          ValueError: it begins with that of examples, or nothing tells which one it is.
        """
        if len(shape) not in (2, 3) or shape[0] == 1:
            return
        letter, size = ("T", T) if len(shape) == 2 else ("H", H)
        said = f"a mask of shape {shape} is read as ({'H, ' * (len(shape) - 2)}T, S)"
        if shape[0] != size:
            raise ValueError(f"{said}, and {letter} is {size}: write {_EXAMPLES[len(shape)]}")
        if self.shape == (size,):
            ours = "mask[None, None]" if len(shape) == 2 else "mask[None]"
            raise ValueError(
                f"{said}, but the batch has {size} examples as well: write {ours} if so, or "
                f"{_EXAMPLES[len(shape)]}"
            )


# How a mask is written that has an axis of examples.
_EXAMPLES = {
    2: "mask[:, None, None, :] if it is (B, S)",
    3: "mask[:, None] if it is (B, T, S)",
}


def _visible(mask: Any) -> Array:
    """A mask of Flax as booleans; one that is added to logits is never read the other way round.

    Raises:
      ValueError: numbers that are no mask, where they are known: others than 0 and 1, or negative
        integers. Where they are not, under `jit`, numbers are visible above 0.
    """
    x = jnp.asarray(mask)
    if x.dtype == jnp.bool_:
        return x
    known = concrete(mask)
    if known is not None:
        floats = jnp.issubdtype(x.dtype, jnp.floating)
        wrong = known[(known != 0) & (known != 1) if floats else known < 0]
        if wrong.size:
            raise ValueError(
                f"mask takes booleans (True = visible), or 0 and 1, got {wrong.flat[0]}: of a mask "
                "that is added to the logits write mask >= 0"
            )
    return x > 0


def dot_product_attention(
    query: Float[Array, "*B T H D"],
    key: Float[Array, "*B S K D"],
    value: Float[Array, "*B S K V"],
    bias: Any = None,
    mask: Any = None,
    broadcast_dropout: bool = True,
    dropout_rng: Any = None,
    dropout_rate: float = 0.0,
    deterministic: bool = False,
    dtype: Any = None,
    precision: Any = None,
    module: Any = None,
    force_fp32_for_softmax: bool = False,
    einsum_dot_general: Any = None,
    qk_attn_weights_einsum: Any = None,
    attn_weights_value_einsum: Any = None,
    promote_dtype: Any = None,
    is_causal: bool = False,
) -> Float[Array, "*B T H V"]:
    """`attend` under the arguments of Flax's functions of this name: an `attention_fn` for them.

    For modules that are made elsewhere and take an `attention_fn`; where you make the module, the
    classes of this file do more: inputs that nobody sees do not reach the projections either.

    Args:
      query: (..., T, H, D), any number of leading axes.
      key: (..., S, K, D), H a multiple of K.
      value: (..., S, K, V).
      bias: added to the logits, broadcastable to (..., H, T, S).
      mask: booleans, or 0 and 1, broadcastable to (..., H, T, S), visible where above 0; or a
        `Mask`, whose examples are those of the leading axes in their order.
      broadcast_dropout: whether all examples and heads drop the same weights. Which ones is drawn
        by this package's generator, not by Flax's.
      dropout_rng: key of the dropout.
      dropout_rate: share of weights that are dropped.
      deterministic: whether none is.
      dtype: of the computation; that to which the arrays are promoted when None.
      precision: accepted: products are at the highest precision whatever it says.
      module: one that the weights (..., H, T, S) are sown into, as `attention_weights`.
      force_fp32_for_softmax: accepted: the softmax is in float32 at least whatever it says.
      einsum_dot_general: refused, as are the next two: quantised products.
      qk_attn_weights_einsum: see there.
      attn_weights_value_einsum: see there.
      promote_dtype: accepted; dtypes are promoted as in JAX.
      is_causal: whether query i sees keys 0 to i only.

    Returns:
      (..., T, H, V).

    Raises:
      ValueError: products of one's own, shapes that do not fit, a mask of other numbers than 0
        and 1, or one whose first axis may be that of examples.

    Example:
      >>> import jax
      >>> from flax import linen as nn
      >>> layer = nn.MultiHeadAttention(num_heads=2, attention_fn=dot_product_attention)
      >>> x = jnp.ones((3, 5, 4))
      >>> layer.init_with_output(jax.random.key(0), x, mask=Mask.causal())[0].shape
      (3, 5, 4)
    """
    own = (einsum_dot_general, qk_attn_weights_einsum, attn_weights_value_einsum)
    if any(each is not None for each in own):
        raise ValueError(
            "products of one's own (einsum, dot_general) cannot be put into this attention: "
            "leave them away, or use Flax's module there"
        )
    call = _CALL.get() or _Call(None)
    query, key, value = promoted(dtype, query, key, value)
    batch = LeadingAxes(query.shape[:-3])
    T, H = query.shape[-3:-1]
    seen = batch.mask(mask, H, T) & (call.mask or Mask())
    if is_causal:
        seen = seen & Mask.causal(0)
    dropout = None
    if not deterministic and dropout_rate > 0:
        dropout = _dropout((dropout_rate, dropout_rng), broadcast_dropout, batch.size, query.shape)
    out, call.trace = attend(
        *(batch.joined(x) for x in (query, key, value)),
        mask=seen,
        bias=None if bias is None else batch.pairs(bias),
        dropout=dropout,
    )
    if module is not None:
        _sow(module, batch.apart(call.trace.weights()).astype(query.dtype))
    return batch.apart(out)


def _dropout(given: tuple[float, Any], broadcast: bool, B: int, shape: tuple) -> Any:
    """Of each example and head, or the same for all."""
    given = checked_dropout(given)
    if not broadcast:
        return given
    one: Any = Dropout.of(given, 1, 1)
    return Dropout(jnp.broadcast_to(one.keys, (B, shape[-2], 2)), one.first, one.rate)


def _sow(module: Any, weights: Array) -> None:
    if isinstance(module, nnx.Module):
        module.sow(nnx.Intermediate, "attention_weights", weights)
    else:
        module.sow("intermediates", "attention_weights", weights)
