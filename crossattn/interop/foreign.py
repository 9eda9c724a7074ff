"""Files of weights that are no safetensors: what each is, and what to do with it.

Told by their first bytes and their names. None is opened further: a pickle runs what is in it.
"""

import re
import struct
import zipfile
from pathlib import Path

__all__ = ["described", "start_of"]

START = 64
TORCH = (
    "a PyTorch file, which is a pickle and is not opened here: read it in torch with "
    "torch.load(file, weights_only=True), write it with safetensors.torch.save_file; where torch "
    "is installed, load does the first of it itself"
)
CTRANSLATE2 = (
    "a CTranslate2 model: crossattn.pretrained.load_model reads Whispers, of others give the "
    "variables that crossattn.interop.ctranslate2.Variables reads to load as a dictionary"
)
TENSORFLOW = (
    "a TensorFlow file: give its variables to load as a dictionary of arrays, or save the model "
    "from transformers with save_pretrained"
)
FLAX = (
    "a Flax file: read it with flax.serialization.msgpack_restore, and give its arrays to load as "
    "a dictionary under the names of the published class"
)
GGUF = "a GGUF or GGML file, whose weights are quantised: take the checkpoint that it was made from"
ONNX = "an ONNX graph, which has lost the names of a checkpoint: take the one that it was made from"
NUMPY = (
    "a NumPy file: load takes a dictionary of arrays, as in load(dict(numpy.load(file)), preset)"
)
ORBAX = "an Orbax checkpoint: restore it with orbax.checkpoint, its arrays are parameters already"
POINTER = "a pointer of Git LFS, not the file itself: write git lfs pull"
ARCHIVE = "an archive: unpack it"
PAGE = "a web page, not a file of weights: download it again"
PICKLE = (
    "a pickle, which is not opened here: read it where you trust it, and write its tensors with "
    "safetensors.torch.save_file or safetensors.numpy.save_file"
)

# Hugging Face's names first, so that of several files the likeliest is named.
NAMES = (
    (
        r"saved_model\.pb|checkpoint|.*\.ckpt(-\d+)?\.index|.*\.data-\d+-of-\d+|.*\.(h5|hdf5|keras)",
        TENSORFLOW,
    ),
    (r".*\.msgpack", FLAX),
    (r".*\.(gguf|ggml)", GGUF),
    (r".*\.onnx(\.data)?", ONNX),
    (r".*\.np[yz]", NUMPY),
    (r"manifest\.ocdbt|_CHECKPOINT_METADATA|_METADATA", ORBAX),
    (r".*\.(bin|pt|pth|ckpt)(\.index\.json)?", TORCH),
    (r".*\.(pkl|pickle|joblib)", PICKLE),
    (r".*\.(tar|tgz|zip|gz|bz2|xz|zst|7z)", ARCHIVE),
)
STARTS = (
    (b"\x89HDF\r\n\x1a\n", TENSORFLOW),
    (b"GGUF", GGUF),
    (b"ggml", GGUF),
    (b"lmgg", GGUF),
    (b"\x93NUMPY", NUMPY),
    (b"version https://git-lfs", POINTER),
    (b"\x1f\x8b", ARCHIVE),
    (b"BZh", ARCHIVE),
    (b"\xfd7zXZ", ARCHIVE),
    (b"7z\xbc\xaf", ARCHIVE),
    # The protocols of pickles; the second is how torch.save began a file until 2020.
    (b"\x80\x02\x8a\nl\xfc\x9c", TORCH),
    *((bytes([0x80, protocol]), PICKLE) for protocol in range(2, 6)),
)


def described(path: Path) -> str | None:
    """What a file is and what to do with it; None where nothing tells.

    >>> described(Path("flax_model.msgpack")).split(":")[0]
    'a Flax file'
    """
    start = start_of(path)
    if start[:4] == b"PK\x03\x04":
        return _zipped(path)
    if _ctranslate2(start):
        return CTRANSLATE2
    if start.lstrip()[:5].lower() in (b"<!doc", b"<html", b"<?xml"):
        return PAGE
    known = next((what for first, what in STARTS if start.startswith(first)), None)
    named = next((what for name, what in NAMES if re.fullmatch(name, path.name)), None)
    # A pickle under a name of torch's is torch's.
    return named if named is not None and known in (None, PICKLE) else known


def start_of(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(START)
    except OSError:
        return b""


def _zipped(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ARCHIVE
    if any(name.endswith(".npy") for name in names):
        return NUMPY
    if any(name.endswith("data.pkl") for name in names):
        return TORCH
    return TENSORFLOW if path.suffix == ".keras" else ARCHIVE


def _ctranslate2(start: bytes) -> bool:
    """A version, and the name of a model's specification: its length, its letters, a zero."""
    if len(start) < 8:
        return False
    version, size = struct.unpack("<IH", start[:6])
    name = start[6 : 5 + size]
    return version < 100 and len(name) > 4 and name.isalnum() and start[5 + size :][:1] == b"\0"
