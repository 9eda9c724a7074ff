"""What an attention looked at, computed afterwards, only if asked."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.checks import checked_columns, checked_queries
from crossattn.ops.numbers import short_repr
from crossattn.ops.reference import precision, scores
from crossattn.ops.trace.display import DrawnTrace
from crossattn.ops.trace.statistics import Sums, sums
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["AttentionTrace", "Summary"]


class Summary(NamedTuple):
    """Statistics of every query, (B, H, T); 0 where it sees no key."""

    entropy: Any  # -sum p log p over the keys, in nats
    visible: Any  # how many keys it sees, int32
    peak: Any  # the largest weight
    peak_key: Any  # the first key that has it, int32
    expected: Any  # of each column, (B, H, T, R); None without columns

    @property
    def normalized_entropy(self) -> Float[Array, "*E B H T"]:
        """Entropy over the logarithm of the number of visible keys, which uniform weights reach.

        1 is uniform; 0 where one key or none is visible.
        """
        several = self.visible > 1
        count = jnp.where(several, self.visible, 2).astype(self.entropy.dtype)
        return jnp.where(several, self.entropy / jnp.log(count), 0)


def _of_each(rank: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Of several traces at once, as `vmap` and `scan` stack them: the method of each.

    Arrays of more than `rank` axes, and traces of several as well, have one entry for each.
    """

    def several(x: Any) -> bool:
        return x.q.ndim > 4 if isinstance(x, AttentionTrace) else getattr(x, "ndim", 0) > rank

    def decorated(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(trace: AttentionTrace, *given: Any, **named: Any) -> Any:
            if trace.q.ndim <= 4:
                return method(trace, *given, **named)
            each = {str(i): x for i, x in enumerate(given)} | named
            own = {name: x for name, x in each.items() if several(x)}

            def one(trace: AttentionTrace, own: dict[str, Any]) -> Any:
                now = each | own
                rest = {name: now[name] for name in named}
                return call(trace, *(now[str(i)] for i in range(len(given))), **rest)

            return jax.vmap(one)(trace, own)

        return call

    return decorated


@dataclasses.dataclass(frozen=True, repr=False)
class AttentionTrace(DrawnTrace):
    """Refers to the arrays of one attention; every map and statistic is a pure function of it.

    A pytree. Under `jit` an unused trace costs nothing: it holds only what exists anyway. Weights
    are those of the keys: under sinks a row sums to less than 1, and the entropy is that of what
    is left, -sum p log p. Results are exact under any mask, bias and soft-cap, in float32 (float64
    for float64), 0 for a query that sees no key, and differentiable in reverse mode, twice.

    All statistics come from one pass over the keys in O(T (R + 1)) memory for R columns: ask for a
    `summary`; `entropy`, `peak` and `expect` are each a pass of their own, for one of its parts.

    Traces of an ensemble (`nn.vmap`) or of a stack (`nn.scan`), whose arrays have leading axes,
    give results with these axes in front.

    >>> import jax
    >>> from crossattn import attend
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3, 8))
    >>> out, trace = attend(x[:, :2], x, x)
    >>> trace
    AttentionTrace(B=2, T=2, S=5, H=3, D=8, float32, scale=0.3536)
    >>> trace.weights(jnp.array([1])).shape, trace.entropy(normalized=True).shape
    ((2, 3, 1, 5), (2, 3, 2))
    >>> summary = trace.summary(jnp.ones((2, 5, 1)))
    >>> summary.visible[0, 0].tolist(), summary.expected.round(5)[0, 0].tolist()
    ([5, 5], [[1.0], [1.0]])
    """

    q: Any
    k: Any
    mask: Any
    bias: Any
    lse: Any  # of what the weights are normalised by, sinks included
    scale: float
    softcap: float | None
    key_lse: Any = None  # of the keys alone, where sinks took part; None: lse

    @property
    def valid(self) -> Bool[Array, "*E B H T"]:
        """Whether the query sees any key at all."""
        return self._keys_lse != -jnp.inf

    @_of_each(2)
    def weights(
        self,
        queries: Int[Array, " R"] | Int[Array, "B R"] | None = None,
        *,
        through: AttentionTrace | None = None,
    ) -> Float[Array, "B H R S"]:
        """Attention weights of the queries at (R,) or (B, R), integers in [0, T); None = all.

        Where a number outside of it is known only when the program runs, its weights are NaN.

        `through` the attention that made this one's context, as in a resampler: text looks at
        latents, latents have looked at patches, and the product of both maps says how text looks at
        patches (attention rollout: Abnar & Zuidema 2020, "Quantifying attention flow in
        transformers", without its residual term). A latent's heads are averaged, since each of this
        trace's heads reads a mixture of them; a latent that sees no patch hands nothing on.
        """
        weights = self._weights(checked_queries(queries, self.q.shape[1]))
        return weights if through is None else self._checked(through)._handed_on(weights)

    def rows(self, *args: Any, **named: Any) -> Array:
        """The former name of `weights`."""
        warnings.warn("AttentionTrace.rows is now weights", DeprecationWarning, stacklevel=2)
        return self.weights(*args, **named)

    @_of_each(3)
    def summary(
        self, columns: Float[Array, "B S R"] | Bool[Array, "B S R"] | None = None
    ) -> Summary:
        """Entropy, number of visible keys, peak, and the expectation of columns, in one pass."""
        return self._summary(Sums._fields, columns)

    @_of_each(3)
    def entropy(self, normalized: bool = False) -> Float[Array, "B H T"]:
        """Entropy of each query's weights in nats; `normalized`: see `Summary`."""
        summary = self._summary(("mean", "entropy", *(("visible",) if normalized else ())))
        return summary.normalized_entropy if normalized else summary.entropy

    @_of_each(3)
    def peak(self) -> tuple[Float[Array, "B H T"], Int[Array, "B H T"]]:
        """Largest weight of each query and the first key that has it; (0, 0) without a key."""
        summary = self._summary(("total", "top", "at"))
        return summary.peak, summary.peak_key

    @_of_each(3)
    def expect(
        self,
        columns: Float[Array, "B S R"] | Bool[Array, "B S R"],
        *,
        through: AttentionTrace | None = None,
    ) -> Float[Array, "B H T R"]:
        """Expectation of each column under the weights.

        Mass of (soft, overlapping) regions, expected position, anything that is a number per key;
        with `through`, per key of that attention: see `weights`.
        """
        if through is not None:
            columns = self._checked(through).expect(columns).mean(1)
        return self._summary(("total", "columns"), columns).expected

    @property
    def _keys_lse(self) -> Array:
        return self.lse if self.key_lse is None else self.key_lse

    def _summary(self, parts: tuple[str, ...], columns: Array | None = None) -> Summary:
        """Of these `Sums`; None where what it is made of is not among them."""
        columns = checked_columns(columns, self.q.shape[0], self.k.shape[1])
        if columns is not None:
            columns = columns.astype(precision(self.q.dtype))
        found = self._sums(parts, columns)
        some, log_mass = self.valid, self._log_mass()
        mass = jnp.where(some, jnp.exp(log_mass), 0)
        entropy, peak, expected = found.entropy, None, None
        # Without sinks the mass is 1: a product with it would be two more arrays.
        if entropy is not None and self.key_lse is not None:
            entropy = mass * (entropy - log_mass)
        if found.total is not None:
            mass = mass / jnp.where(some, found.total, 1)
        if found.top is not None:
            peak = mass * jnp.exp(jnp.where(some, found.top, 0))
        if found.columns is not None:
            # Where no key is visible, a cotangent that is NaN must not get through.
            expected = mass[..., None] * jnp.where(some[..., None], found.columns, 0)
        return Summary(entropy, found.visible, peak, found.at, expected)

    def _sums(self, names: tuple[str, ...], columns: Array | None) -> Sums:
        call = (self.q, self.k, self.mask, self.bias, self._keys_lse, columns)
        return sums(*call, scale=self.scale, softcap=self.softcap, parts=names)

    def _log_mass(self) -> Array:
        """Of the share of the weight that sinks leave to the keys, (B, H, T)."""
        if self.key_lse is None:
            return jnp.zeros_like(self.lse)
        return jnp.where(self.valid, self.key_lse - self.lse, 0)

    def _checked(self, through: AttentionTrace) -> AttentionTrace:
        if not isinstance(through, AttentionTrace):
            raise TypeError(f"through is the trace of an attention, got {short_repr(through)}")
        (B, L), (C, T) = (self.q.shape[0], self.k.shape[1]), through.q.shape[:2]
        if (B, L) != (C, T):
            raise ValueError(
                f"through: its {T} queries (B={C}) must be the {L} keys (B={B}) of this trace; "
                "pass the trace of the attention whose output was this one's context"
            )
        return through

    def _handed_on(self, weights: Array) -> Array:
        """weights (B, H, R, T) of this trace's queries times its rows, averaged over its heads."""
        (B, H, R, T), S = weights.shape, self.k.shape[1]
        # The product is the transpose of an expectation, so it needs no T x S array either.
        columns = jnp.zeros((B, S, H * R), weights.dtype)
        _, transpose = jax.vjp(lambda columns: self.expect(columns).mean(1), columns)
        (handed_on,) = transpose(weights.reshape(B, H * R, T).swapaxes(1, 2))
        return handed_on.swapaxes(1, 2).reshape(B, H, R, S)

    # As in dense.py: one compilation for a call outside of jit, inlined within.
    @partial(jax.jit, inline=True)
    def _weights(self, queries: Any) -> Array:
        (B, T, _, _), S = self.q.shape, self.k.shape[1]
        q, bias, rows = self.q, self.bias, None
        lse, log_mass = self._keys_lse, self._log_mass()
        if queries is not None:
            rows = queries if queries.ndim == 2 else queries[None]
            take = jax.vmap(lambda x, r: jnp.take(x, r, axis=0))
            each = jnp.broadcast_to(rows, (B, rows.shape[1]))
            of_heads = lambda x: take(x.swapaxes(1, 2), each).swapaxes(1, 2)
            q, lse, log_mass = take(q, each), of_heads(lse), of_heads(log_mass)
            if bias is not None and bias.shape[2] != 1:
                bias = of_heads(jnp.broadcast_to(bias, (B, *bias.shape[1:])))
        visible = self.mask.visible(B, T, S, rows)
        s, _ = scores(q, self.k, visible, bias, self.scale, self.softcap)
        # As in statistics.py the lse cancels, and so does its rounding.
        shift = jax.lax.stop_gradient(jnp.where(lse == -jnp.inf, 0, lse))
        e = jnp.exp(s - shift[..., None])
        total = e.sum(3)
        return (jnp.exp(log_mass) / jnp.where(total == 0, 1, total))[..., None] * e


jax.tree_util.register_dataclass(
    AttentionTrace,
    data_fields=["q", "k", "mask", "bias", "lse", "key_lse"],
    meta_fields=["scale", "softcap"],
)
