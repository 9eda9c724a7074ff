"""Rules find every parameter, fit every mesh or say why not, and mistakes are named."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from crossattn.data.batches import Batch
from crossattn.models.config import VisionLanguageConfig
from crossattn.models.text_decoder import TextDecoder
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.nn import AttentionConfig, BlockConfig, ExtraKeys, Logits, low_rank, presets
from crossattn.nn.block import Block
from crossattn.sharding import PRESETS, Rule, make_mesh, partition
from crossattn.train.step import initial_state
from tests.support.families import some_quick
from tests.support.preset_calls import arguments

SPLIT = {name: set(name.split("+")) & {"fsdp", "tensor"} for name in PRESETS}
WIDTH = 16


def shapes(preset="encoder_decoder_pre", vocabulary=62, **fields):
    """State of a decoder with width 24, 4 heads and 3 layers, as shapes."""
    contexts = ("image", "boxes") if preset == "ip_adapter" else ("image",)
    sizes = {"width": 24, "layers": 3, "image_encoder": "conv", "contexts": contexts}
    config = VisionLanguageConfig(preset=preset, **sizes | fields)
    model = VisionLanguageDecoder(vocabulary, config)
    batch = Batch(
        np.zeros((2, 7), np.int32),
        np.zeros((2, 7), bool),
        np.zeros((2, 7, 5), bool),
        np.zeros((2, 24, 24, 3), np.uint8),
        np.zeros((2, 5, 9), np.float32),
        np.zeros((2, 5, 3), np.float32),
    )
    return jax.eval_shape(lambda: initial_state(model, optax.adamw(0.1), 0, batch))


def specs(tree, line, rules, **options):
    plan = partition(tree, make_mesh(line), rules, **options)
    return {leaf.path: leaf.spec for leaf in plan.leaves}


def tree(**leaves):
    return {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in leaves.items()}


def test_presets_on_the_decoder():
    state = shapes()
    found = specs(state, "data=2,fsdp=2,tensor=2", "fsdp+tensor")
    block = "params/params/stack/blocks/"
    expected = {
        "cross_attention/query/kernel": P(None, "fsdp", "tensor"),
        "cross_attention/value/bias": P(None, "tensor"),
        "cross_attention/out/kernel": P(None, "tensor", "fsdp"),
        "cross_attention/out/bias": P(),
        "mlp/up/kernel": P(None, "fsdp", "tensor"),
        "mlp/up/bias": P(None, "tensor"),
        "mlp/down/kernel": P(None, "tensor", "fsdp"),
        "mlp/down/bias": P(),
        "self_residual/norm/scale": P(),
    }
    assert {path: found[block + path] for path in expected} == expected
    assert found["params/params/words/embedding"] == P("tensor", "fsdp")
    assert found["params/params/logits/kernel"] == P("fsdp", "tensor")
    # The largest of the whole axes: 9 * 24 inputs of the convolution, not its 24 outputs.
    assert found["params/params/encoder/mix/kernel"] == P("fsdp")
    # The optimizer's trees follow their parameters, its counters are everywhere.
    moments = {path: spec for path, spec in found.items() if "/mu/" in path or "/nu/" in path}
    for path, spec in moments.items():
        assert spec == found["params/params/" + path.split("/params/", 1)[1]]
    assert sum(bool(spec) for spec in moments.values()) > 20
    assert found["step"] == P()
    # Axes of one device split nothing; "fsdp" knows no tensor axis.
    assert set(specs(state, "data=8", "fsdp+tensor").values()) == {P()}
    assert set(specs(state, "tensor=2,data=4", "fsdp").values()) == {P()}
    assert set(specs(state, "fsdp=8", "replicated").values()) == {P()}
    assert specs(state, "fsdp=2,data=4", "fsdp")[block + "mlp/up/kernel"] == P(None, None, "fsdp")


@pytest.mark.parametrize("row", [*some_quick(presets.names()), "connector", "cross_every"])
def test_presets_know_every_module(row):
    fields = {"connector": {"connector": "qformer"}, "cross_every": {"cross_every": 3}}.get(row)
    state = shapes(row, width=32) if fields is None else shapes(**fields)
    for name in PRESETS:
        plan = partition(state, make_mesh("data=2,fsdp=2,tensor=2"), name)
        assert plan.notes == ()
        assert jax.tree.structure(plan.specs) == jax.tree.structure(state)
        # Matrices of every block are split over the axes of the preset.
        for leaf in plan.leaves:
            parts = any(f"/params/{part}" in leaf.path for part in ("stack", "connector"))
            if parts and leaf.path.endswith("kernel") and "/context_projection/" not in leaf.path:
                assert set(filter(None, leaf.spec)) == SPLIT[name], leaf


def parameters(name):
    """Of a module of width 16 with 4 heads, as shapes; nothing is computed."""
    depth = None if name == "ip_adapter" else 2
    module = presets.build(name, width=WIDTH, heads=4, layers=depth)
    x, context = jnp.ones((2, 3, WIDTH)), jnp.ones((2, 5, WIDTH))
    given, where = arguments(module, x, context, jnp.ones((2, 5), bool))
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *given, **where))


@pytest.mark.parametrize("name", some_quick(presets.names()))
def test_rules_know_every_preset(name):
    params = parameters(name)
    for rules, wanted in SPLIT.items():
        plan = partition(params, make_mesh("data=2,fsdp=2,tensor=2"), rules)
        assert plan.notes == ()
        for leaf in plan.leaves:
            # Its output is read whole by two other products.
            if leaf.path.endswith("kernel") and "/context_projection/" not in leaf.path:
                assert set(filter(None, leaf.spec)) == wanted, leaf


def test_rules_know_every_slot_and_low_rank():
    keys = ExtraKeys(bias_kv=True, sink=True, registers=3)
    design = BlockConfig(
        cross_attention=AttentionConfig(extra_keys=keys, logits=Logits(norm="rms"), head_gate=True),
        self_attention=AttentionConfig(logits=Logits(talking=True)),
    )
    x = jnp.ones((2, 3, WIDTH))
    block = Block(WIDTH, 4, design)
    params = jax.eval_shape(lambda: block.init(jax.random.key(0), x, x))
    stack = presets.build("t5", width=WIDTH, heads=4, layers=2)
    text = TextDecoder(stack, 32, 16, first_norm=True, transformed=True)
    words = jax.eval_shape(lambda: text.init(jax.random.key(0), jnp.ones((2, 3), int), x))
    adapters = jax.eval_shape(
        lambda: low_rank.create_adapters(
            jax.random.key(0), jax.tree.map(lambda x: jnp.ones(x.shape), words), "", rank=2
        )
    )
    for rules in PRESETS:
        for tree in (params, words, adapters):
            assert partition(tree, make_mesh("data=2,fsdp=2,tensor=2"), rules).notes == ()


def test_what_does_not_divide_stays_whole_and_is_said():
    plan = partition(shapes(vocabulary=61), make_mesh("fsdp=2,tensor=4"), "fsdp+tensor")
    found = {leaf.path: leaf.spec for leaf in plan.leaves}
    assert found["params/params/words/embedding"] == P(None, "fsdp")
    (words, kernel, bias) = sorted(plan.notes, key=lambda note: "logits" in note)
    assert "words" in words
    assert "on (61, 24): 61 does not divide by tensor=4, left whole" in words
    assert "params/params/words/embedding and 2 more" in words
    assert "(24, 61)" in kernel + bias
    assert words in str(plan)
    odd = partition(tree(kernel=(3, 5)), make_mesh("fsdp=8"), "fsdp")
    assert odd.notes[0].endswith("(3, 5): no whole axis divides by fsdp=8, left whole (kernel)")
    assert odd.idle == ("fsdp",)


def test_one_array_axis_over_several_mesh_axes_and_a_leading_axis():
    rules = [Rule("kernel$", (("fsdp", "tensor"), None))]
    assert specs(tree(kernel=(7, 8, 3)), "fsdp=2,tensor=4", rules) == {
        "kernel": P(None, ("fsdp", "tensor"))
    }
    assert specs(tree(kernel=(8, 3), step=()), "fsdp=2,data=4", rules)["kernel"] == P("fsdp")
    # The axis L of a scanned stack stays whole, however long it is.
    assert specs(tree(kernel=(40, 4, 6)), "fsdp=2,data=4", "fsdp") == {
        "kernel": P(None, None, "fsdp")
    }
    seeds = specs(tree(kernel=(2, 7, 8, 3), step=(2,)), "seed=2,fsdp=4", rules, leading="seed")
    assert seeds == {"kernel": P("seed", None, "fsdp"), "step": P("seed")}


def test_bytes_of_a_device_are_what_it_holds():
    plan = partition(tree(kernel=(4, 6), bias=(6,)), make_mesh("fsdp=2,tensor=2,data=2"), "tensor")
    by_path = {leaf.path: leaf.bytes for leaf in plan.leaves}
    assert by_path == {"bias": 24, "kernel": 96}
    plan = partition({"up": tree(kernel=(4, 6))}, make_mesh("fsdp=4,tensor=2"), "fsdp+tensor")
    assert plan.leaves[0].bytes == 12
    row = ["up/kernel", "(4, 6)", "P('fsdp', 'tensor')", "12"]
    assert re.split(" {2,}", str(plan).splitlines()[1]) == row


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [Rule("kernel$", (None, "tensr"))],
            "block/kernel: Rule('kernel$') names mesh axis 'tensr'",
        ),
        ([Rule("kernel$", (None, None), spread="fdsp")], "does not have; write 'fsdp'"),
        ([Rule("kernel$", ("tensor", None, None))], "(3, 8): Rule('kernel$') is for arrays with 3"),
        (
            [Rule("kernl$", (None, "tensor"))],
            "block/kernel (3, 8): no rule matches; add Rule(r'ker",
        ),
        (
            [Rule("qurey/", (None, "tensor")), Rule("", ())],
            "Rule('qurey/') matches no path, the last of which is 'block/kernel'; correct it",
        ),
        (
            [Rule("", ()), Rule("kernel$", (None, "tensor"))],
            "Rule('kernel$') decides nothing: a rule before it decides block/kernel",
        ),
        ("fdsp", "unknown rules 'fdsp'; write 'fsdp'"),
    ],
)
def test_a_mistake_is_one_line(rules, message):
    with pytest.raises(ValueError, match=r"rule|Rule") as caught:
        partition({"block": tree(kernel=(3, 8))}, make_mesh("data=4,tensor=2"), rules)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_collisions_are_found_before_there_is_a_tree():
    with pytest.raises(ValueError, match=r"Rule\('kernel\$'\) names mesh axis 'tensor' twice"):
        Rule("kernel$", ("tensor", "tensor"))
    with pytest.raises(ValueError, match="mesh axis 'fsdp' twice"):
        Rule("kernel$", (("fsdp", "tensor"), None), spread="fsdp")
    with pytest.raises(ValueError, match="is no regular expression"):
        Rule("(kernel", ())
