"""Files of weights that are damaged, hostile or something else: one line each, and nothing read."""

import os
import pickle

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from crossattn.interop import huggingface
from crossattn.interop.huggingface import Files, WeightsError
from tests.support.damage import FOREIGN, HEADERS, INDICES, entry, one, packed, pair

INDEX = "model.safetensors.index.json"


def refused(path):
    with pytest.raises(WeightsError) as error:
        huggingface.load(path, "t5")
    said = str(error.value)
    assert said.isprintable()
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", HEADERS)
def test_a_damaged_header_is_said_in_one_line(name, tmp_path):
    content, wanted = HEADERS[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert wanted in refused(path)
    assert str(path) in refused(tmp_path)


def test_a_header_beyond_the_bound_of_the_format_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(packed({}, length=100_000_001))
        file.truncate(100_000_100)
    assert "cannot be read" in refused(path)


@pytest.mark.parametrize("name", INDICES)
def test_a_damaged_or_hostile_index_is_said_in_one_line(name, tmp_path):
    content, wanted = INDICES[name]
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "x.safetensors")
    (folder / INDEX).write_bytes(content)
    assert wanted in refused(folder)
    assert wanted in refused(folder / INDEX)


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_named_and_never_opened(name, tmp_path):
    content, wanted = FOREIGN[name]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(content)
    assert wanted in refused(tmp_path)
    if name != "pytorch_model.bin.index.json":
        assert wanted in refused(tmp_path / name)


def test_a_pickle_is_not_run(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for name in ("pytorch_model.bin", "model.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Runs()))
        assert "pickle" in refused(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_links_of_a_cache_are_followed(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    save_file({"a": np.arange(2.0)}, tmp_path / "blobs" / "1234")
    (tmp_path / "snapshot" / "part.safetensors").symlink_to("../blobs/1234")
    (tmp_path / "snapshot" / INDEX).write_text('{"weight_map": {"a": "part.safetensors"}}')
    np.testing.assert_array_equal(Files(tmp_path / "snapshot")["a"], [0, 1])
    (tmp_path / "blobs" / "1234").unlink()
    assert "is not there" in refused(tmp_path / "snapshot")


def test_a_pipe_is_not_waited_for(tmp_path):
    for name in ("model.safetensors", "pytorch_model.bin", "config.json"):
        os.mkfifo(tmp_path / name)
    assert "holds no safetensors file" in refused(tmp_path)
    assert "there is no file or folder" in refused(tmp_path / "model.safetensors")


def test_what_the_format_allows_is_read(tmp_path):
    tensors = {
        "scalar": np.array(3, np.float32),
        "none": np.ones((0, 3), np.float16),
        "brain": np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16),
        "wide": np.arange(2.0),
        "whole": np.arange(5),
        "yes": np.array([True, False]),
        "größe \x1b": np.ones(1, np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    files = Files(tmp_path)
    assert files.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert files[name].dtype == tensor.dtype
        assert files.shapes[name] == tensor.shape
        np.testing.assert_array_equal(files[name], tensor)


def test_a_file_that_becomes_shorter_is_noticed(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(one())
    files = Files(path)
    path.write_bytes(one()[:-1])
    with pytest.raises(WeightsError, match="a is not whole"):
        files["a"]
    path.unlink()
    with pytest.raises(WeightsError, match="No such file"):
        files["a"]
    assert "File name too long" in refused(tmp_path / ("x" * 300))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "I8", "U8", "F4", "BOOL", "NEW"])
def test_numbers_that_are_no_weights_are_refused(dtype, tmp_path):
    """Quantised tensors have a scale elsewhere: as they are they are other numbers."""
    path = tmp_path / "model.safetensors"
    names = [f"EncDecAttention.{name}.weight" for name in "qkvo"] + ["layer_norm.weight"]
    shapes = [(2, 2)] * 4 + [(2,)]
    header, end = {}, 0
    for name, shape in zip(names, shapes, strict=True):
        kind = dtype if "q.weight" in name else "F32"
        size = int(np.prod(shape)) * (1 if kind == dtype else 4)
        header[name] = entry(end, end + size, dtype=kind, shape=shape)
        end += size
    path.write_bytes(packed(header, b"\1" * end))
    with pytest.raises(huggingface.ImportMismatchError, match=rf"dtype +\S*q.weight +{dtype} +F64"):
        huggingface.load(path, "t5")
    # In another tensor they trouble nobody.
    header["other"] = header.pop("EncDecAttention.q.weight")
    path.write_bytes(packed(header, b"\1" * end))
    assert Files(path)["layer_norm.weight"].shape == (2,)


def test_a_tensor_of_two_files_is_not_chosen_between(tmp_path):
    for name in ("model", "model.fp16"):
        (tmp_path / f"{name}.safetensors").write_bytes(pair(entry(0, 8), entry(8, 16)))
    said = refused(tmp_path)
    assert "model.safetensors has a, as has model.fp16.safetensors" in said
    assert "give one of the files" in said
