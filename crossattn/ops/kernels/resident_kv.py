"""Many queries over few keys on TPUs: all keys of some heads stay in VMEM, queries pass by.

One pass (Dao et al. 2022, "FlashAttention", with one block of keys): forward reads q and writes o,
backward reads q, o and do and writes dq, while dk and dv are summed up in VMEM; nothing of T x S
reaches the memory. Arrays are read as they lie, so that none is transposed or copied beside the
kernel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.private import PrivateModule, no_axis, refuse_mesh, tpu_kernel
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Gradients, Kernel
from crossattn.ops.kernels.resident_kv_steps import (
    LANES,
    ROWS,
    SUBLANES,
    Lying,
    Step,
    pallas,
)
from crossattn.ops.masks.intervals import Intervals, intervals, refuse_intervals
from crossattn.shapes import Array

__all__ = ["KERNEL", "ResidentKVKernel"]

tpu = PrivateModule("jax.experimental.pallas.tpu")

# Of all heads of a step. Heads are unrolled: twice as many are twice the program.
SCORES, MOST_SCORES = 2**20, 2**21
# What a step keeps may take 40 MiB; tpu7x has 64 MiB of VMEM, v5e and v6e 128.
KEPT_BYTES, VMEM_BYTES = 40 * 2**20, 56 * 2**20
ELSEWHERE = "resident_kv is a kernel of TPUs, and this program is for another platform"


@dataclasses.dataclass(frozen=True)
class ResidentKVKernel(Kernel):
    """The two kernels, with what surrounds them.

    Attributes:
      queries: block of queries at most, a multiple of 128.
      interpret: run them without a TPU, slowly.
      refuses: to be lowered for another platform, where a branch of it would be NaN.

    >>> from crossattn import Mask
    >>> x = jnp.zeros((1, 4096, 8, 64), jnp.float16)
    >>> KERNEL.unsupported(AttentionCall(x, x, x, Mask(), None, None, 0.125, None))
    'float16: resident_kv computes in bfloat16 and float32'
    """

    queries: int = 1024
    interpret: bool = False
    refuses: bool = True

    name = "resident_kv"
    summary = "all keys in a TPU's VMEM, queries in blocks, one pass: many queries over few keys"
    platforms = ("tpu",)
    dtypes = ("bfloat16", "float32")
    biased = False

    def unsupported(self, call: AttentionCall) -> str | None:
        refusal = super().unsupported(call) or no_axis(call)
        if refusal is not None:
            return refusal
        cut = _Cut.of(call, self.queries)
        if cut.scores > MOST_SCORES or cut.bytes(call) > KEPT_BYTES:
            return f"{call.S} keys of {cut.key_heads} heads at once exceed a TPU's VMEM"
        return refuse_intervals(call.mask) or refuse_mesh()

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        return dataclasses.replace(self, refuses=platform not in self.platforms)

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        cut = _Cut.of(call, self.queries)
        step, (B, T, _, H, _), (D, V) = cut.step(call), call.sizes, cut.features(call)
        (at_q, at_k, at_v, at_o), (mask, masked) = step.lying, cut.mask(call)
        like = jax.ShapeDtypeStruct
        o, lse = self._called(
            cut,
            step.forward,
            (at_q.out(call.q), at_k.out(call.k), at_v.out(call.v), mask),
            (cut.by_query(at_q, D), cut.by_key(at_k, D), cut.by_key(at_v, V), masked),
            (like(at_o.shape(B, T, H, V), call.v.dtype), like((B, H, T), jnp.float32)),
            (cut.by_query(at_o, V), cut.by_row()),
            [((cut.keys, D), call.k.dtype), ((V, cut.keys), call.v.dtype)],
            call.scores * (D + V),
        )
        return at_o.back(o), lse

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        """(dq, dk, dv, None) in the dtypes of q, k and v.

        Exact also where o and lse are those of a softmax over these and further keys.
        """
        cut = _Cut.of(call, self.queries)
        step, (D, V), n = cut.step(call), cut.features(call), cut.keys
        (at_q, at_k, at_v, at_o), (mask, masked) = step.lying, cut.mask(call)
        inputs = at_q.out(call.q), at_k.out(call.k), at_v.out(call.v)
        specs = cut.by_query(at_q, D), cut.by_key(at_k, D), cut.by_key(at_v, V)
        o, row, key, value = cut.by_query(at_o, V), cut.by_row(), call.k.dtype, call.v.dtype
        [(dq, dk, dv)] = self._called(
            cut,
            step.backward,
            (*inputs, mask, (at_o.out(given.o), at_o.out(given.do), given.lse, given.dlse)),
            (*specs, masked, (o, o, row, None if given.dlse is None else row)),
            (tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs),),
            (specs,),
            [((n, D), key), ((n, V), value), ((D, n), key), ((n, D), None), ((n, V), None)],
            call.scores * (3 * D + 2 * V),
        )
        return at_q.back(dq), at_k.back(dk), at_v.back(dv), None

    def _called(self, cut, body, arrays, specs, shapes, results, kept, products) -> Any:
        """body(blocks of arrays, blocks of results, what is kept) for every block."""

        def kernel(*refs: Any) -> None:
            n = len(arrays) + len(shapes)
            body(*refs[:n], refs[n:])

        scratch = [tpu.VMEM((cut.key_heads, *shape), dtype or jnp.float32) for shape, dtype in kept]
        cost = pallas.CostEstimate(
            flops=2 * products,
            transcendentals=cut.scores * math.prod(cut.grid),
            bytes_accessed=sum(
                x.size * x.dtype.itemsize for x in jax.tree.leaves((arrays, shapes))
            ),
        )
        name, order = f"{self.name}_{body.__name__}", ("parallel", "parallel", "arbitrary")
        call = pallas.pallas_call(
            kernel,
            shapes,
            grid=cut.grid,
            in_specs=specs,
            out_specs=results,
            scratch_shapes=scratch,
            compiler_params=tpu.CompilerParams(
                dimension_semantics=order, vmem_limit_bytes=VMEM_BYTES
            ),
            cost_estimate=cost,
            interpret=self.interpret,
            name=name,
        )
        with jax.named_scope(name):
            return tpu_kernel(call, ELSEWHERE if self.refuses else None, self.interpret)(*arrays)


KERNEL = ResidentKVKernel()


@dataclasses.dataclass(frozen=True)
class _Cut:
    """How a call is cut into blocks; a grid of (examples, blocks of heads, blocks of queries)."""

    queries: int
    keys: int  # all of them, and what fills them up
    heads: int
    key_heads: int
    grid: tuple[int, int, int]

    @classmethod
    def of(cls, call: AttentionCall, most: int) -> _Cut:
        B, T, S, H, K = call.sizes
        key_heads = SUBLANES if K % SUBLANES == 0 else K  # a tile of heads, or all
        heads, keys = H // K * key_heads, _up(S, ROWS)
        most = min(most, max(SCORES // (heads * keys) // LANES, 1) * LANES)
        queries = min(most, _up(T, LANES))
        return cls(queries, keys, heads, key_heads, (B, K // key_heads, -(-T // queries)))

    @property
    def scores(self) -> int:
        """Entries of the scores of a step."""
        return self.heads * self.keys * self.queries

    def bytes(self, call: AttentionCall) -> int:
        """What a step of the backward pass keeps in VMEM; blocks twice, as the next one arrives."""
        (D, V), size = self.features(call), call.q.dtype.itemsize
        blocks = self.heads * self.queries + self.key_heads * _up(self.keys, LANES)
        kept = _up(D, LANES) * (2 * size + 4) + _up(V, LANES) * (size + 4)
        passing = 4 * self.queries * (4 * self.keys + self.heads * D)  # scores, and dq in float32
        return 4 * (D + V) * blocks * size + self.key_heads * self.keys * kept + passing

    @staticmethod
    def features(call: AttentionCall) -> tuple[int, int]:
        """D and V."""
        return call.q.shape[3], call.v.shape[3]

    def step(self, call: AttentionCall) -> Step:
        (_, T, S, H, K), (D, V) = call.sizes, self.features(call)
        lying = Lying.of(H, D), Lying.of(K, D), Lying.of(K, V), Lying.of(H, V)
        sizes = T, S, self.queries, self.keys, self.heads, H // K
        return Step(*sizes, call.scale, call.softcap, lying)

    def by_query(self, at: Lying, X: int) -> Any:
        """Blocks of (B, T, H, X), as it lies."""
        where = lambda b, h, t: at.shape(b, t, h, 0)
        return pallas.BlockSpec(at.shape(1, self.queries, self.heads, X), where)

    def by_key(self, at: Lying, X: int) -> Any:
        """Blocks of (B, S, K, X), as it lies."""
        n = self.keys if at.features else _up(self.keys, LANES)
        where = lambda b, h, t: at.shape(b, 0, h, 0)
        return pallas.BlockSpec(at.shape(1, n, self.key_heads, X), where)

    def by_row(self) -> Any:
        """Blocks of (B, H, T)."""
        return pallas.BlockSpec((1, self.heads, self.queries), lambda b, h, t: (b, h, t))

    def mask(self, call: AttentionCall) -> tuple[Intervals | None, Intervals | None]:
        """The mask of a call as arrays, and their blocks."""
        found = intervals(call.mask, *call.sizes[:3])
        if found is None:
            return None, None
        rows, columns, pairs = found
        columns = jnp.pad(columns, ((0, 0), (0, self.keys - call.S), (0, 0)))
        by_query = _block((1, rows.shape[1], self.queries), rows, lambda t: (0, t))
        by_key = _block((1, *columns.shape[1:]), columns, lambda t: (0, 0))
        if pairs is None:
            return Intervals(rows, columns, None), Intervals(by_query, by_key, None)
        several = pairs.shape[2] > 1
        lanes = _up(self.keys, LANES) if pairs.shape[3] > 1 else 1
        block = 1, 1, self.queries if several else 1, lanes
        by_pair = _block(block, pairs, lambda t: (0, t if several else 0, 0))
        return Intervals(rows, columns, pairs), Intervals(by_query, by_key, by_pair)


def _block(shape: tuple[int, ...], x: Array, at: Callable[[Any], tuple[Any, ...]]) -> Any:
    """Blocks of an array of each example, or of one for all."""
    own = x.shape[0] > 1
    return pallas.BlockSpec(shape, lambda b, h, t: (b if own else 0, *at(t)))


def _up(n: int, step: int) -> int:
    return -(-n // step) * step
