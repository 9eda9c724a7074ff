"""Files of PyTorch: read by torch as weights only, refused without it, whatever else they hold."""

import json
import sys
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.files import WeightsError
from tests.support.drawing import drawn, same


class Tensor:
    """As much of a tensor as is used."""

    def __init__(self, array):
        self.array, self.dtype = array, array.dtype.name

    def detach(self):
        return self

    contiguous = detach

    def view(self, dtype):
        assert dtype == "int16"
        return Tensor(self.array.view(np.int16))

    def numpy(self):
        assert self.dtype != "bfloat16"
        return self.array


@pytest.fixture
def torch(monkeypatch):
    """Stands for torch: each file of it says which of these contents it has."""
    contents = {}

    def load(file, map_location, *, weights_only):
        assert map_location == "cpu"
        assert weights_only
        found = contents[file.name]
        if isinstance(found, Exception):
            raise found
        return found

    module = types.ModuleType("torch")
    module.__spec__ = types.SimpleNamespace(name="torch")
    module.load, module.is_tensor = load, lambda one: isinstance(one, Tensor)
    module.bfloat16, module.int16 = "bfloat16", "int16"
    monkeypatch.setitem(sys.modules, "torch", module)
    return contents


def saved(path):
    """A file that begins as those of torch do."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    return path


def tensors(state):
    return {name: Tensor(array) for name, array in state.items()}


def test_torch_reads_its_files(tmp_path, torch):
    state = drawn("t5")
    assert np.dtype(ml_dtypes.bfloat16) in {array.dtype for array in state.values()}
    torch["t5.pt"] = {"epoch": 3, "state_dict": tensors(state)}
    params = huggingface.load(saved(tmp_path / "t5.pt"), "t5")
    same(state, huggingface.tensors(params, "t5"))


def test_a_folder_of_several(tmp_path, torch):
    state = drawn("t5")
    for number, name in enumerate(state):
        file = f"pytorch_model-{number}.bin"
        torch[file] = tensors({name: state[name]})
        saved(tmp_path / file)
    (tmp_path / "pytorch_model.bin.index.json").write_text("{}")
    (tmp_path / "optimizer.pt").write_bytes(b"")
    same(state, huggingface.tensors(huggingface.load(tmp_path, "t5"), "t5"))
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 3}))
    with pytest.raises(ImportMismatchError, match=r"d_model +3"):
        huggingface.load(tmp_path, "t5")


def test_parts_of_a_file_are_named_with_dots(tmp_path, torch):
    layer, image = drawn("ip_adapter", 1), drawn("ip_adapter_image")
    parts = {f"1.{name}": array for name, array in layer.items()}
    torch["ip-adapter.bin"] = {"image_proj": tensors(image), "ip_adapter": tensors(parts)}
    file = saved(tmp_path / "ip-adapter.bin")
    for state, name, prefix in (
        (layer, "ip_adapter", "ip_adapter.1."),
        (image, "ip_adapter_image", "image_proj."),
    ):
        found = huggingface.tensors(huggingface.load(file, name, prefix=prefix), name)
        same(state, found)


def test_what_is_no_weights_is_refused(tmp_path, torch):
    file = saved(tmp_path / "t5.pt")
    for content, message in (
        (ValueError("Weights only load failed.\nMore."), "refused by torch: Weights only load fai"),
        ({"model": object()}, "something else than tensors by name"),
        ([1], "something else than tensors by name"),
    ):
        torch["t5.pt"] = content
        with pytest.raises(WeightsError, match=message) as error:
            huggingface.load(file, "t5")
        assert "\n" not in str(error.value)


def test_without_torch_they_are_refused_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"torch\.load\(file, weights_only=True\)"):
        huggingface.load(saved(tmp_path / "t5.pt"), "t5")
