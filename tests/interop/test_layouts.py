"""A layout of one's own is read, refused and written as those of presets are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.entries import dense, fused
from crossattn.interop.table import Entry, Layout
from crossattn.nn import CrossAttention
from tests.support.drawing import same

LAYOUT = Layout(
    (
        Entry("emb.weight", ("words/embedding",), "W M"),
        *fused("attn.", "attention"),
        *dense("fc", "out", "W M"),
        Entry("steps.{i}.qkv", ("steps/q", "steps/k"), "2A M", "M A", interleaved=True),
    ),
    tied={"fc.tied": "fc.weight"},
    buffers=(r"table",),
)


def tensors(width=8, words=5):
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    return {
        "emb.weight": draw(words, width),
        "attn.in_proj_weight": draw(3 * width, width),
        "attn.in_proj_bias": draw(3 * width),
        "attn.out_proj.weight": draw(width, width),
        "attn.out_proj.bias": draw(width),
        "fc.weight": draw(words, width),
        "fc.bias": draw(words),
        "steps.0.qkv": draw(6, width),
        "steps.1.qkv": draw(6, width),
    }


def test_it_comes_back_byte_for_byte(tmp_path):
    own = tensors()
    params = huggingface.load(own | {"table": np.ones(3)}, layout=LAYOUT)
    path = tmp_path / "model.safetensors"
    huggingface.save(params, path=path, layout=LAYOUT)
    same(own, load_file(path))
    again = huggingface.load(path, layout=LAYOUT, like=params)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, again))
    q, k = params["params"]["steps"]["q"], params["params"]["steps"]["k"]
    np.testing.assert_array_equal(q[1], own["steps.1.qkv"][::2].T)
    np.testing.assert_array_equal(k[0], own["steps.0.qkv"][1::2].T)


def test_its_attention_is_that_of_the_module():
    own = tensors()
    loaded = huggingface.load(own, layout=LAYOUT)["params"]["attention"]
    params = {"params": jax.tree.map(jnp.asarray, loaded)}
    x, context = jnp.ones((1, 2, 8)), jnp.ones((1, 3, 8))
    y, _ = CrossAttention(8, 2).apply(params, x, context)
    value = own["attn.in_proj_weight"][16:] @ np.ones(8) + own["attn.in_proj_bias"][16:]
    wanted = own["attn.out_proj.weight"] @ value + own["attn.out_proj.bias"]
    np.testing.assert_allclose(y[0, 0], wanted, atol=1e-5)


def test_what_does_not_fit_is_a_table():
    own = tensors()
    wrong = {name: own[name] for name in own if name != "fc.bias"}
    wrong |= {"emb.weight": own["emb.weight"][:, :7], "other": own["fc.bias"]}
    with pytest.raises(ImportMismatchError, match="3 tensors do not fit the layout") as error:
        huggingface.load(wrong, layout=LAYOUT)
    problems = {(line.problem, line.name) for line in error.value.lines}
    assert problems == {("missing", "fc.bias"), ("misshaped", "emb.weight"), ("unknown", "other")}
    with pytest.raises(ImportMismatchError, match=r"prefix 'model\.'"):
        huggingface.load({f"model.{name}": one for name, one in own.items()}, layout=LAYOUT)
    with pytest.raises(ValueError, match="the layout has no part 'head': there are attention, out"):
        huggingface.load(own, layout=LAYOUT, parts="head")
    with pytest.raises(ImportMismatchError, match="untied"):
        huggingface.load(own | {"fc.tied": own["fc.weight"] + 1}, layout=LAYOUT)
    params = huggingface.load(own, layout=LAYOUT)
    del params["params"]["out"]["bias"]
    with pytest.raises(ImportMismatchError, match=r"missing +out/bias"):
        huggingface.tensors(params, layout=LAYOUT)


def test_a_config_beside_it_is_compared(tmp_path):
    save_file(tensors(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"vocab_size": 6}')
    with pytest.raises(ImportMismatchError, match=r"vocab_size +6 +5, as the tensors have it"):
        huggingface.load(tmp_path, layout=LAYOUT)


def test_a_preset_or_a_layout():
    for given in ({}, {"preset": "t5", "layout": LAYOUT}):
        with pytest.raises(ValueError, match="the name of a preset or a layout"):
            huggingface.look({}, **given)
    with pytest.raises(TypeError, match="save needs a path"):
        huggingface.save({}, layout=LAYOUT)
