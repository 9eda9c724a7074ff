"""Other libraries' tensors as our parameters, our modules in NNX, our attention in Flax's."""

from crossattn.interop import flax, huggingface, nnx
from crossattn.interop.table import ImportMismatchError

__all__ = ["ImportMismatchError", "flax", "huggingface", "nnx"]
