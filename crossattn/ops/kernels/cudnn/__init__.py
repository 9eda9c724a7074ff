"""Attention on NVIDIA GPUs by cuDNN's fused kernels, the ones that jax.nn calls.

cuDNN (FlashAttention, Dao et al. 2022) computes in bfloat16 and float16 with softmax in float32; it
knows lengths, a causal mask whose first query sees the first key, packed sequences, and a bias.
Every other mask is brought to one of these: `forms` says which, `gathering`, `packing` and
`writing` do it, and undo it for what comes back. Rows without a visible key, NaN in padding and
head sizes that cuDNN does not take are dealt with in `kernel`.
"""

from crossattn.ops.kernels.cudnn.kernel import KERNEL

__all__ = ["KERNEL"]
