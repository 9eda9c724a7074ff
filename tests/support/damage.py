"""Files of weights that are damaged, hostile or something else, made of whole ones."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np


def packed(header, data=b"", *, length=None):
    """A safetensors file of a header (bytes, or what JSON makes of it) and the bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin, end, *, dtype="F32", shape=(2,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def one(**fields):
    """A file of one tensor of two numbers, in which these fields are others."""
    return packed({"a": entry(0, 8) | fields}, b"\0" * 8)


def pair(first, second, data=b"\0" * 16):
    return packed({"a": first, "b": second}, data)


def twice(name="a"):
    text = json.dumps({name: entry(0, 8)})[1:-1]
    return packed(f"{{{text}, {text}}}".encode(), b"\0" * 8)


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def deep(depth=200_000):
    return b'{"a": ' + b"[" * depth + b"]" * depth + b"}"


# What is wrong, and what is said of it.
HEADERS = {
    "empty": (b"", "cut short"),
    "seven bytes": (b"\0" * 7, "cut short"),
    "length zero": (packed(b""), "cut short"),
    "length beyond the file": (packed({"a": entry(0, 8)}, b"\0" * 8, length=10**6), "cut short"),
    "length of 2^63": (packed({}, length=2**63), "cut short"),
    "length in the header": (packed({"a": entry(0, 8)}, b"\0" * 8, length=9), "is damaged"),
    "no JSON": (packed(b"{nothing}"), "is damaged"),
    "a list": (packed(b"[]"), "cut short"),
    "another encoding": (packed('{"ä": 1}'.encode("latin-1")), "is damaged"),
    "deep": (packed(deep()), "nested too deeply"),
    "a name twice": (twice(), "a is there twice"),
    "an entry of null": (packed({"a": None}), "no dtype, shape and place"),
    "an entry of numbers": (packed({"a": [1, 2]}), "no dtype, shape and place"),
    "no dtype": (one(dtype=None), "no dtype, shape and place"),
    "a negative size": (one(shape=[-2]), "no dtype, shape and place"),
    "a size of true": (one(shape=[True, 2]), "no dtype, shape and place"),
    "a size of 2.0": (one(shape=[2.0]), "no dtype, shape and place"),
    "negative offsets": (one(data_offsets=[-8, 0]), "no dtype, shape and place"),
    "three offsets": (one(data_offsets=[0, 4, 8]), "no dtype, shape and place"),
    "offsets turned round": (one(data_offsets=[8, 0]), "is damaged"),
    "too few bytes": (one(shape=[3]), "F32 of shape (3,) takes 12"),
    "a product beyond 64 bits": (one(shape=[2**62, 2**62]), "is damaged"),
    "many axes": (one(shape=[1] * 40 + [2]), "no dtype, shape and place"),
    "overlapping": (pair(entry(0, 8), entry(4, 12)), "begins at 4, not at 8"),
    "the same place": (pair(entry(0, 8), entry(0, 8), b"\0" * 8), "begins at 0, not at 8"),
    "a hole": (pair(entry(0, 8), entry(12, 20), b"\0" * 20), "begins at 12, not at 8"),
    "bytes left over": (packed({"a": entry(0, 8)}, b"\0" * 9), "not whole"),
    "cut short": (packed({"a": entry(0, 8)}, b"\0" * 7), "not whole"),
}

INDICES = {
    "empty": (b"", "is damaged"),
    "a list": (b"[]", "weight_map"),
    "null": (b"null", "weight_map"),
    "a number": (b"7", "weight_map"),
    "no map": (b"{}", "weight_map"),
    "an empty map": (b'{"weight_map": {}}', "weight_map"),
    "a map of numbers": (b'{"weight_map": {"a": 1}}', "a file of its own folder"),
    "a map of lists": (b'{"weight_map": {"a": ["b"]}}', "a file of its own folder"),
    "upwards": (b'{"weight_map": {"a": "../x.safetensors"}}', "a file of its own folder"),
    "absolute": (b'{"weight_map": {"a": "/etc/passwd"}}', "a file of its own folder"),
    "backslashes": (b'{"weight_map": {"a": "..\\\\x"}}', "a file of its own folder"),
    "the folder": (b'{"weight_map": {"a": "."}}', "a file of its own folder"),
    "a zero": (b'{"weight_map": {"a": "x\\u0000"}}', "a file of its own folder"),
    "escapes": (b'{"weight_map": {"a": "\\u001b[31m"}}', "\\x1b[31m, which is not there"),
    "deep": (deep(), "nested too deeply"),
    "another encoding": (b'{"weight_map": "\xff"}', "is damaged"),
    "absent": (b'{"weight_map": {"a": "b.safetensors"}}', "b.safetensors, which is not there"),
    "a name twice": (b'{"weight_map": {"a": "x", "a": "y"}}', "a is there twice"),
}

FOREIGN = {
    "pytorch_model.bin": (zipped("archive/data.pkl"), "a PyTorch file"),
    "old.pth": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"x" * 60, "a PyTorch file"),
    "weights.pt": (pickle.dumps({"a": 1}), "a PyTorch file"),
    "pytorch_model.bin.index.json": (b"{}", "a PyTorch file"),
    "model.bin": (struct.pack("<IH", 6, 12) + b"WhisperSpec\0" + b"\0" * 60, "a CTranslate2 model"),
    "tf_model.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 60, "a TensorFlow file"),
    "model.ckpt.index": (b"\0" * 60, "a TensorFlow file"),
    "saved_model.pb": (b"\x08\x01", "a TensorFlow file"),
    "flax_model.msgpack": (b"\x81\xa1a\x01", "a Flax file"),
    "model-q4.gguf": (b"GGUF\x03\0\0\0", "a GGUF"),
    "model.onnx": (b"\x08\x07\x12\x07pytorch", "an ONNX graph"),
    "arrays.npz": (zipped("a.npy"), "a NumPy file"),
    "model.pkl": (pickle.dumps([1], 4), "a pickle"),
    "model.zip": (zipped("README"), "an archive"),
    "manifest.ocdbt": (b"\0" * 20, "an Orbax checkpoint"),
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "page.safetensors": (b"<!DOCTYPE html><title>404</title>", "a web page"),
    "zipped.safetensors": (zipped("archive/data.pkl"), "a PyTorch file"),
}


def numbers(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
