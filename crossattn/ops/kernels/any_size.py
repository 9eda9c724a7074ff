"""Attention of sizes that are not known: one program, made by `jax.export`, for any B, T and S.

Queries and keys are filled up to whole blocks, of which `chunked` then takes any number: no T x S
array, at the price of one copy of each input. Where few scores turn out to be made, filling costs
more than it saves, so the program decides when it runs; where sizes are put in before it is
compiled for good, as `Exported.call` does, XLA keeps one of the two.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels import chunked, dense
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Gradients, Kernel

__all__ = ["EITHER"]

FEW = 2**20  # scores that a dense implementation may make


@dataclasses.dataclass(frozen=True)
class DenseOrChunkedKernel(Kernel):
    """What is taken where sizes are not known; a choice, but no name to write."""

    blocks: Kernel = chunked.KERNEL

    name = "xla or chunked"
    summary = "dense or in blocks, which the program decides when it runs"
    any_size = True
    undropped = None

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        return dataclasses.replace(self, blocks=self.blocks.fitted(platform, call))

    def forward(self, call: AttentionCall) -> Any:
        return jax.lax.cond(_few(call), dense.KERNEL.forward, self.blocks.forward, call)

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        return jax.lax.cond(_few(call), dense.KERNEL.backward, self.blocks.backward, call, given)


EITHER = DenseOrChunkedKernel()


def _few(call: AttentionCall) -> Any:
    B, T, S, H, _ = call.sizes
    # In float32, since the product of what int32 holds need not be.
    return math.prod(jnp.asarray(n).astype(jnp.float32) for n in (B, H, T, S)) <= FEW
