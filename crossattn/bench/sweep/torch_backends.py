"""torch's fused attention, one backend at a time, on the arrays of jax."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..benchmarks.attention import optional_module
from ..timing import Program, UnavailableError
from .cases import DeviceCase
from .masks import hidden_arrays, written_out

BACKENDS = {
    "torch-flash": "FLASH_ATTENTION",
    "torch-cudnn": "CUDNN_ATTENTION",
    "torch-efficient": "EFFICIENT_ATTENTION",
    "torch-default": None,
}


def load_torch(cases: Sequence[DeviceCase]) -> None:
    """Import torch if anyone needs it, which takes seconds, while others compile."""
    if any(name in BACKENDS for case in cases for name in case.contestants):
        with contextlib.suppress(UnavailableError):
            optional_module("torch")


def torch_programs(
    case: DeviceCase, name: str, arrays: Sequence[jax.Array], calls: int
) -> tuple[Any, dict[str, Program]]:
    """Results of a first call, as arrays of jax, and programs "call" and "loop".

    The loop is a CUDA graph of so many calls; where torch cannot capture one, and on a CPU, it is
    the calls in a row.

    Raises:
      UnavailableError: torch is not installed, or this build has no CUDA.
    """
    torch = optional_module("torch")
    cuda = case.device == "gpu"
    if cuda and not torch.cuda.is_available():
        raise UnavailableError("this build of torch has no CUDA")
    call = _call(torch, case, name, arrays)

    def several() -> None:
        for _ in range(calls):
            call()

    def run(work: Any) -> None:
        work()
        if cuda:
            torch.cuda.synchronize()

    found = [x.detach().contiguous() for x in call()]
    run(lambda: None)
    results = [jax.dlpack.from_dlpack(x) for x in found]
    once = several
    if cuda:
        several = _captured(torch, several)
    return results, {
        "call": Program(lambda: run(once), lambda result: None, calls),
        "loop": Program(lambda: run(several), lambda result: None, calls),
    }


def _call(torch: Any, case: DeviceCase, name: str, arrays: Sequence[jax.Array]) -> Any:
    """A function that makes one call: [out], or [out, dq, dk, dv]."""
    backward = case.direction == "backward"
    tensors = [torch.from_dlpack(x).detach() for x in arrays]
    for x in tensors[:3]:
        x.requires_grad_(backward)
    leaves = hidden_arrays(case.mask, case.shape, case.seed)
    given = written_out(case.mask, case.shape, leaves)
    options: dict[str, Any] = {"enable_gqa": True} if case.shape.K else {}
    for x in given.values():
        mask = torch.from_numpy(np.array(x)).to(tensors[0].device)
        options["attn_mask"] = mask if mask.dtype == torch.bool else mask.to(tensors[0].dtype)
    attend = torch.nn.functional.scaled_dot_product_attention
    backend = BACKENDS[name]

    def compute() -> list[Any]:
        q, k, v = (x.transpose(1, 2) for x in tensors[:3])
        out = attend(q, k, v, **options).transpose(1, 2)
        gradients = torch.autograd.grad(out, tensors[:3], tensors[3]) if backward else ()
        return [out, *gradients]

    def call() -> list[Any]:
        with torch.set_grad_enabled(backward):
            if backend is None:
                return compute()
            with torch.nn.attention.sdpa_kernel(getattr(torch.nn.attention.SDPBackend, backend)):
                return compute()

    return call


def _captured(torch: Any, several: Any) -> Any:
    """A CUDA graph of the calls, or the calls."""
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            several()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            several()
    except RuntimeError:
        torch.cuda.synchronize()
        return several
    return graph.replay
