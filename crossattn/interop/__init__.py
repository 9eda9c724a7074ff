"""Other libraries' tensors as our parameters and back, and our modules inside Flax NNX."""

from crossattn.interop import huggingface, nnx
from crossattn.interop.table import ImportMismatchError

__all__ = ["ImportMismatchError", "huggingface", "nnx"]
