"""The GPU that a CUDA program is for: JAX's default device, or an assumed one where that is none.

Programs for a GPU can be lowered on any machine, so what a kernel takes there does not depend on
the machine at hand.
"""

from __future__ import annotations

from typing import Any

from jax.extend import backend

from crossattn.ops.kernels.private import PrivateModule

__all__ = ["assumed", "refusal"]

library = PrivateModule("jax._src.cudnn.fused_attention_stablehlo")

# Hopper, and the largest head that its cuDNN takes. Ampere, Ada and Turing take 128.
ASSUMED_CAPABILITY, ASSUMED_HEAD = "9.0", 256
OLDEST_CAPABILITY = "8.0"


def _here() -> bool:
    return "cuda" in backend.get_backend().platform_version


def assumed() -> str | None:
    """What is assumed of the GPU, in words; None where JAX's default device is one."""
    if _here():
        return None
    return (
        f"an NVIDIA GPU of compute capability {ASSUMED_CAPABILITY} with its cuDNN, "
        "as none is JAX's default device"
    )


def refusal(q: Any, v: Any, is_packed: bool = False) -> str | None:
    """Why the GPU cannot take queries and values (B, N, H, D) of these shapes: jax's own checks."""
    if not _here():
        if max(q.shape[3], v.shape[3]) > ASSUMED_HEAD:
            return f"heads of more than {ASSUMED_HEAD}: cuDNN takes no larger head dim"
        return None
    try:
        version = library.check_cudnn_version()
    except RuntimeError:
        return "jax has no cuDNN here: pip install 'crossattn[cuda]'"
    if not library.check_compute_capability(OLDEST_CAPABILITY):
        return f"the GPU's compute capability is below {OLDEST_CAPABILITY} (Ampere)"
    layout, has_bias, is_training = library.AttentionLayout.BTNH.value, False, True
    try:
        library.check_is_flash_attention(q, v, v, layout, version, has_bias, is_training, is_packed)
    except NotImplementedError as error:
        return str(error)
    return None
