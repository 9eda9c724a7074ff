"""Other libraries' tensors as our parameters and back, our modules inside Flax NNX, Flax's own."""

from crossattn.interop import flax, huggingface, nnx
from crossattn.interop.table import ImportMismatchError

__all__ = ["ImportMismatchError", "flax", "huggingface", "nnx"]
