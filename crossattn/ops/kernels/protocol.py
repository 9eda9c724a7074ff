"""What a kernel is, and what it is given: one protocol for every implementation.

To add one: a file beside this one whose `KERNEL` is an object of a subclass of `Kernel`, and a row
of the table in `dispatch` that says where it is taken. It is found by itself, also by the tests of
conformance.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax

from crossattn.ops.sizes import all_known

__all__ = ["AttentionCall", "BackwardInputs", "Gradients", "Kernel", "RefusalError"]


class RefusalError(ValueError):
    """Raised where an implementation cannot take a call; its text is the reason."""


@dataclasses.dataclass(frozen=True)
class AttentionCall:
    """One call of the operation, checked. A pytree whose numbers are static.

    Where a choice is explained, arrays are their shapes (`jax.ShapeDtypeStruct`).
    """

    q: Any  # (B, T, H, D)
    k: Any  # (B, S, K, D)
    v: Any  # (B, S, K, V)
    mask: Any  # a Mask
    bias: Any  # (B|1, H|1, T|1, S|1), or None
    dropout: Any  # a Dropout, or None
    scale: float
    softcap: float | None
    heads_first: bool = False  # keys and values are views of arrays that lie (B, K, S, D)

    @property
    def sizes(self) -> tuple[Any, Any, Any, int, int]:
        """(B, T, S, H, K)."""
        (B, T, H, _), (_, S, K, _) = self.q.shape, self.k.shape
        return B, T, S, H, K

    # What the table of implementations reads.

    @property
    def known(self) -> bool:
        """Whether no size is one of `jax.export.symbolic_shape`."""
        return all_known(*self.sizes)

    @property
    def T(self) -> Any:
        """How many queries."""
        return self.q.shape[1]

    @property
    def S(self) -> Any:
        """How many keys."""
        return self.k.shape[1]

    @property
    def keys(self) -> int:
        """Numbers in the keys, which a dense implementation copies heads first."""
        B, _, S, _, K = self.sizes
        return B * S * K * self.q.shape[3]

    @property
    def scores(self) -> int:
        """Entries of the matrix of scores that a dense implementation makes."""
        B, T, S, H, _ = self.sizes
        return B * H * T * S

    @property
    def tiles(self) -> int:
        """Processors kept busy when each takes 128 queries of one head."""
        B, T, _, H, _ = self.sizes
        return B * H * -(-T // 128)


jax.tree_util.register_dataclass(
    AttentionCall,
    data_fields=["q", "k", "v", "mask", "bias", "dropout"],
    meta_fields=["scale", "softcap", "heads_first"],
)


class BackwardInputs(NamedTuple):
    """What `backward` is given beside the call: results over all keys, and their cotangents."""

    o: Any  # (B, T, H, V)
    lse: Any  # (B, H, T)
    do: Any
    dlse: Any = None  # None: zero
    dq: Any = None  # to which the gradient of q is added; None: zero
    dk: Any = None


Gradients = tuple[Any, Any, Any, Any]  # dq, dk, dv, dbias (None without a bias)


class Kernel:
    """One implementation. Subclasses are frozen dataclasses: equal ones run the same program.

    Attributes:
      name: what users write.
      summary: what it is, on one line.
      platforms: for which alone it can be compiled; empty: for all.
      dtypes: those of the arrays that it computes in; empty: all.
      biased: whether it adds a bias to scores.
      any_size: whether it takes sizes of `jax.export.symbolic_shape`.
      undropped: why it drops no weights; None for one that does.
      autodiff: whether JAX differentiates `forward`, and there is no `backward`.
      adds: whether `backward` adds to `BackwardInputs.dq` and `dk` itself, which saves two copies.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    platforms: ClassVar[tuple[str, ...]] = ()
    dtypes: ClassVar[tuple[str, ...]] = ()
    biased: ClassVar[bool] = True
    any_size: ClassVar[bool] = False
    undropped: ClassVar[str | None] = "it keeps no weights to drop; 'chunked' does"
    autodiff: ClassVar[bool] = False
    adds: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """As `explain` calls it."""
        return self.name

    @property
    def static_mask(self) -> bool:
        """Whether offsets must be known when it is compiled; for others they are data."""
        return False

    def unsupported(self, call: AttentionCall) -> str | None:
        """Why it cannot take the call, from its static side and what is installed; else None."""
        if call.dropout is not None and self.undropped is not None:
            return self.undropped
        if not self.any_size and not call.known:
            return "it wants sizes that are known, and B, T or S is symbolic"
        if self.dtypes and call.q.dtype.name not in self.dtypes:
            return f"{call.q.dtype}: {self.name} computes in {' and '.join(self.dtypes)}"
        if call.bias is not None and not self.biased:
            return f"a bias: {self.name} adds none to its scores"
        return None

    def assumed(self) -> str | None:
        """What is assumed of a machine that is not at hand; None: nothing."""
        return None

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        """The same with what the platform ("cpu", "cuda", "tpu", "default") and sizes decide."""
        return self

    def forward(self, call: AttentionCall) -> tuple[Any, Any]:
        """(o (B, T, H, V) in v's dtype, lse (B, H, T) in float32 or float64)."""
        raise NotImplementedError

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        """(dq, dk, dv, dbias), in the dtypes of the arrays; dbias is None without a bias.

        `given` are results over all keys, of which the call may hold only some; a kernel that needs
        all of them at once ("xla", "few_keys") takes no part in split-KV.
        """
        raise NotImplementedError

    def gradients(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        """`backward`, added to what is given."""
        if self.adds:
            return self.backward(call, given)
        dq, dk, *rest = self.backward(call, given._replace(dq=None, dk=None))
        dq, dk = (g if x is None else g + x for g, x in ((dq, given.dq), (dk, given.dk)))
        return dq, dk, *rest
