"""CTranslate2's files are read to the bit, in parts too; damaged ones are refused in one line."""

import itertools
import re

import ml_dtypes
import numpy as np
import pytest

from crossattn.interop import ImportMismatchError
from crossattn.interop.ctranslate2 import Variables
from crossattn.interop.ctranslate2_names import published_config, published_tensors
from crossattn.interop.files import WeightsError
from tests.support.whisper import TIED, packed, peer, variables_of

RNG = np.random.default_rng(0)
ARRAYS = {
    "a": RNG.normal(size=(3, 4)).astype(np.float32),
    "b": RNG.normal(size=(2,)).astype(np.float16),
    "c": RNG.normal(size=(2, 3, 5)).astype(ml_dtypes.bfloat16),
    "d": np.int16(7),
    "e": RNG.normal(size=(0, 2)).astype(np.float32),
}


def write(folder, *parts):
    paths = [folder / f"model.bin.part{n}" for n, _ in enumerate(parts, 1)]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    return paths


@pytest.mark.parametrize("cuts", [(), (40,), (3, 7, 100)])
@pytest.mark.parametrize("version", [4, 5, 6])
def test_arrays_and_aliases(tmp_path, cuts, version):
    whole = packed(ARRAYS, [("z", "a")], version)
    ends = [0, *cuts, len(whole)]
    parts = [whole[a:b] for a, b in itertools.pairwise(ends)]
    found = Variables(*write(tmp_path, *parts))
    assert found.specification == "WhisperSpec"
    assert set(found) == {*ARRAYS, "z"}
    assert len(found) == 6
    for name, array in (ARRAYS | {"z": ARRAYS["a"]}).items():
        assert found[name].dtype == array.dtype
        assert found.shapes[name] == found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("rows", [True, False])
def test_integers_are_divided_by_their_scales(tmp_path, dtype, rows):
    """As its converter makes them: the largest of each row becomes the largest integer."""
    weights = RNG.normal(size=(5, 7)).astype(np.float32)
    largest = np.abs(weights).max(axis=1 if rows else None)
    scale = (np.iinfo(dtype).max / largest).astype(np.float32)
    stored = np.rint(weights * (scale[:, None] if rows else scale)).astype(dtype)
    content = packed({"w": stored, "w_scale": scale}, [("tied", "w")])
    found = Variables(*write(tmp_path, content))
    assert set(found) == {"w", "tied"}
    assert found["tied"].dtype == np.float32
    np.testing.assert_allclose(found["tied"], weights, atol=0.51 / scale.min())
    np.testing.assert_array_equal(found["w"], found["tied"])


def changed(old, new):
    whole = packed({"a": np.ones(2, np.float32)}, [("z", "a")])
    assert whole.count(old) == 1
    return whole.replace(old, new)


DAMAGED = {
    "empty": (b"", "not whole"),
    "a version of tomorrow": (packed(ARRAYS, version=7), "no CTranslate2 model of a version"),
    "an old version": (packed(ARRAYS, version=3), "no CTranslate2 model of a version"),
    "cut short": (packed(ARRAYS)[:-20], "not whole"),
    "in its head": (packed(ARRAYS)[:30], "not whole"),
    "bytes left over": (packed(ARRAYS) + b"\0", "1 bytes stand behind its end"),
    "no end of a name": (changed(b"\x02\0a\0\x01", b"\x02\0ab\x01"), "is none: no zero ends it"),
    "a name of bytes": (changed(b"\x02\0a\0\x01", b"\x02\0\xff\0\x01"), "is none"),
    "an unknown dtype": (changed(b"\x00\x08\0\0\0", b"\x09\x08\0\0\0"), "a dtype 9"),
    "too few bytes": (changed(b"\x00\x08\0\0\0", b"\x00\x04\0\0\0"), "a has 4 bytes"),
    "many axes": (changed(b"\x02\0a\0\x01", b"\x02\0a\0\xff"), "not whole|bytes"),
    "an alias of nothing": (packed(ARRAYS, [("z", "y")]), "it calls y also z"),
    "an alias that is there": (packed(ARRAYS, [("a", "b")]), "it calls b also a"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(tmp_path, case):
    content, said = DAMAGED[case]
    with pytest.raises(WeightsError, match=said) as error:
        Variables(*write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_integers_without_a_scale_are_no_weights(tmp_path):
    arrays = variables_of(peer()[2])
    arrays["decoder/embeddings/weight"] = np.ones((27, 12), np.int8)
    (file,) = write(tmp_path, packed(arrays, TIED))
    with pytest.raises(WeightsError, match="decoder/embeddings/weight in int8 without scale"):
        published_tensors(Variables(file))


def test_scales_that_cannot_be(tmp_path):
    for scale in (np.ones(4, np.float32), np.zeros(5, np.float32), np.ones(5, np.float16)):
        arrays = {"w": np.ones((5, 7), np.int8), "w_scale": scale}
        with pytest.raises(WeightsError, match="scale"):
            Variables(*write(tmp_path, packed(arrays)))["w"]


def test_no_file(tmp_path):
    with pytest.raises(WeightsError, match="cannot be read"):
        Variables(tmp_path / "model.bin")


def test_whisper_under_its_published_names(tmp_path):
    """To the bit the tensors that it was converted from."""
    about, _, state = peer()
    found = Variables(*write(tmp_path, packed(variables_of(state), TIED)))
    tensors = published_tensors(found)
    wanted = {name: one for name, one in state.items() if name != "proj_out.weight"}
    assert tensors.keys() == wanted.keys()
    for name, one in wanted.items():
        assert tensors[name].tobytes() == one.tobytes(), name
    said = published_config(found, tensors)
    assert {key: said[key] for key in about["config"]} == about["config"]


@pytest.mark.parametrize(("kind", "error"), [("float16", 5e-4), ("int8", 4e-3), ("int16", 1.1e-3)])
def test_what_its_own_converter_wrote(tmp_path, kind, error):
    """Of the same model: in half precision to the bit, else within the step of the integers.

    16 bits have one scale for queries, keys and values, whose largest numbers differ.
    """
    about, arrays, state = peer()
    found = Variables(*write(tmp_path, arrays[f"converted/{kind}"].tobytes()))
    tensors = published_tensors(found)
    assert tensors.keys() == {name for name in state if name != "proj_out.weight"}
    for name, one in tensors.items():
        if kind == "float16":
            np.testing.assert_array_equal(one, state[name].astype(np.float16), name)
        largest = np.abs(state[name]).max()
        np.testing.assert_allclose(one, state[name], atol=error * largest, err_msg=name)
    said = published_config(found, tensors)
    assert {key: said[key] for key in about["config"]} == about["config"]
    assert dict(found.aliases) == {"decoder/projection/weight": "decoder/embeddings/weight"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decoder/scale_embeddings": np.int8(1)}, "decoder/scale_embeddings 1, which Whisper"),
        ({"encoder/activation": np.int8(0)}, "encoder/activation 0, which Whisper"),
        ({"encoder/num_heads": None}, "has no encoder/num_heads"),
        ({"decoder/layer_1/attention/linear_1/bias": np.ones(24, np.float32)}, "k_proj.bias that"),
    ],
)
def test_what_whisper_has_not(tmp_path, change, said):
    variables = variables_of(peer()[2]) | change
    variables = {name: one for name, one in variables.items() if one is not None}
    with pytest.raises(WeightsError, match=re.escape(said)) as error:
        published_tensors(Variables(*write(tmp_path, packed(variables))))
    assert "\n" not in str(error.value)


def test_another_model(tmp_path):
    with pytest.raises(WeightsError, match="model of TransformerSpec: only WhisperSpec is loaded"):
        published_tensors(
            Variables(*write(tmp_path, packed(ARRAYS, specification="TransformerSpec")))
        )


def test_a_table_of_what_does_not_fit(tmp_path):
    variables = variables_of(peer()[2])
    del variables["encoder/layer_1/ffn/linear_0/bias"]
    variables["encoder/odd"] = np.ones((2, 2), np.float32)
    with pytest.raises(ImportMismatchError) as error:
        published_tensors(Variables(*write(tmp_path, packed(variables))))
    assert {line.name: line.problem for line in error.value.lines} == {
        "encoder/odd": "unknown",
        "encoder/layer_1/ffn/linear_0/bias": "missing",
    }
