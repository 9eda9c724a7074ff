"""Tensors in files of PyTorch, read by torch itself where it is installed, and then only weights.

Nothing here needs torch: without it these files are refused, with the command that converts them.
"""

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from crossattn.interop.files import Files, WeightsError
from crossattn.interop.foreign import TORCH, described

__all__ = ["TorchFiles", "weight_files"]


class TorchFiles(dict[str, np.ndarray]):
    """The tensors of PyTorch's files by their names.

    Attributes:
      folder: in which the files are.

    Raises:
      WeightsError: torch refuses a file, or there is something else than tensors in it.
    """

    def __init__(self, files: list[Path]):
        super().__init__()
        self.folder = files[0].parent
        for file in files:
            self.update(_read(file))


def weight_files(path: str | os.PathLike) -> Any:  # checked, arrays of it would be read
    """The tensors of a file or a folder, `Files`; `TorchFiles` where torch is installed.

    Raises:
      WeightsError: there are none, or they cannot be read.
    """
    try:
        files = _torch_files(Path(path))
    except OSError:  # about which there is a message already
        files = []
    return TorchFiles(files) if files and importlib.util.find_spec("torch") else Files(path)


def _torch_files(path: Path) -> list[Path]:
    """A file of PyTorch, or those of a folder that has no others."""
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [one for one in inside if one == path or one.match("pytorch_model*.bin")]
    theirs = all(one.is_file() and described(one) == TORCH for one in files)
    return files if theirs and not any(".safetensors" in one.name for one in inside) else []


def _read(file: Path) -> Mapping[str, np.ndarray]:
    torch: Any = importlib.import_module("torch")
    try:
        # What is no tensor is not unpickled: it could run anything.
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many of its own
        raise WeightsError(f"{file} is refused by torch: {str(error).splitlines()[0]}") from error
    if isinstance(content, Mapping):
        content = _flat(content.get("state_dict", content))
    if not isinstance(content, Mapping) or not all(map(torch.is_tensor, content.values())):
        raise WeightsError(f"{file} holds something else than tensors by name")
    return {name: _array(tensor, torch) for name, tensor in content.items()}


def _flat(content: Any) -> Any:
    """Mappings of mappings, as IP-Adapters are stored, by names with dots."""
    if not isinstance(content, Mapping):
        return content
    found: dict[str, Any] = {}
    for name, one in content.items():
        inner = _flat(one)
        own = {f"{name}.{k}": v for k, v in inner.items()} if isinstance(inner, Mapping) else None
        found |= {name: inner} if own is None else own
    return found


def _array(tensor: Any, torch: Any) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:  # NumPy has none of its own
        return tensor.contiguous().view(torch.int16).numpy().view(jnp.dtype("bfloat16"))
    return tensor.numpy()
