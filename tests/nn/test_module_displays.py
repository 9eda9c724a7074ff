"""What modules, configurations and presets say of themselves."""

import pydoc

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from crossattn.nn import Block, BlockConfig, CrossAttention, Logits, ResidualConfig, Stack, presets

EVERY = presets.names()


def test_a_module_names_what_is_not_as_by_default():
    module = CrossAttention(8, 2, logits=Logits(norm="rms"), dtype=jnp.bfloat16, name="look")
    assert repr(module) == (
        "CrossAttention(width=8, heads=2, logits=Logits(norm='rms'), dtype=bfloat16)"
    )
    gate = BlockConfig(residual=ResidualConfig(gate="tanh"))
    assert repr(Stack(2, 8, 2, gate)) == (
        "Stack(layers=2, width=8, heads=2, "
        "config=BlockConfig(residual=ResidualConfig(gate='tanh')))"
    )
    assert repr(BlockConfig()) == "BlockConfig()"
    assert eval(repr(gate)) == gate


@pytest.mark.parametrize("name", EVERY)
def test_every_preset_shows_itself(name):
    module, preset = presets.build(name, width=8, heads=2), presets.get(name)
    assert repr(module).startswith(f"{type(module).__name__}(")
    assert "\n" not in repr(module)
    assert len(repr(module)) < 900
    assert repr(preset).startswith(f"<preset {name}: ")
    assert len(repr(preset)) < 250
    for thing in (module, preset):
        html = thing._repr_html_()
        assert len(html) < 30_000
        assert "<script" not in html
    assert preset.paper.split(",")[0] in preset._repr_html_()


def test_slots_are_in_their_order():
    html = Block(8, 2, presets.config("flamingo"))._repr_html_()
    assert "config: cross → mlp" in html
    changed, same = html.split("<details>")
    assert "config.residual.gate" in changed
    assert "&#x27;tanh&#x27;" in changed
    assert "config.residual.skip" in same


def test_bound_modules_and_others_of_linen():
    module = CrossAttention(8, 2)
    x = jnp.ones((1, 2, 8))
    params = module.init(jax.random.key(0), x, x)
    bound = module.bind(params)
    assert repr(bound) == repr(module) == "CrossAttention(width=8, heads=2)"
    assert bound._repr_html_() == module._repr_html_()

    class Own(nn.Module):
        inner: nn.Module

    assert "CrossAttention(width=8, heads=2)" in repr(Own(module))


def test_differences_are_lines_and_a_table():
    found = presets.differences("flamingo", "idefics")
    assert found == list(found)
    assert found[0].startswith("residual.norm_kind: ")
    html = found._repr_html_()
    assert html.count("<tr>") == len(found) + 1
    assert "&#x27;layer&#x27;" in html
    assert '<th scope="col"' in html
    assert "idefics</th>" in html
    assert "no field differs" in presets.differences("t5", "t5")._repr_html_()


def test_the_table_has_every_preset():
    table = presets.table()
    assert [line.split()[0] for line in repr(table).splitlines()] == ["preset", *EVERY]
    html = table._repr_html_()
    assert html.count("<tr>") == len(EVERY) + 1
    assert len(html) < 60_000


def test_help_begins_with_all_fields():
    text = pydoc.plain(pydoc.render_doc(CrossAttention))
    first = text[: text.index("Method resolution order")]
    for field in ("width", "head_gate", "dtype", "param_dtype", "implementation", "layout"):
        assert f"{field}:" in first
    assert "dropout is that of weights" in first


@pytest.mark.filterwarnings("ignore:The chararray class")  # treescope with numpy 2.5
def test_treescope_draws_them():
    treescope = pytest.importorskip("treescope")
    for thing in (CrossAttention(8, 2), presets.config("t5"), presets.get("t5")):
        assert type(thing).__name__ in treescope.render_to_html(thing, compressed=False)
        assert treescope.render_to_text(thing)
