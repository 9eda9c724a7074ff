"""Every preset against an implementation that we did not write, in float64.

WRITE_PRESETS=1 python -m pytest tests/nn/test_presets_against_peers.py

compares all gradients as well, and writes docs/presets.md from what is measured. A plain run
changes no file, and takes the gradients of some: compiling them is nearly all of its time.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from crossattn.interop import huggingface
from crossattn.nn import presets
from crossattn.nn.parameters import count_parameters
from crossattn.report.render.markdown import markdown_table
from tests.support.fixtures import FOLDER, float64, read, zero_paths
from tests.support.preset_calls import arguments
from tests.support.stream_fixtures import CASES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "presets.md"
WRITE = "WRITE_PRESETS" in os.environ
PRESETS = set(presets.names())
COMPOSED = {name: presets.get(name).composed for name in presets.names()}
COMPOSED = {name: composed for name, composed in COMPOSED.items() if composed is not None}
# Between them every kind of sublayer, mask, norm and gate.
DIFFERENTIATED = ("bidirectional", "idefics_cross", "merged", "resampler_masked", "slots_null")
STREAMS = ("x", "context")
measured = {}


def imported(peer, names):
    """Our parameters in float64."""
    if names is None:
        return float64({"params": dict(peer.state)})
    like = null_key(peer) if names == "null_key" else None
    return float64(huggingface.load(peer.state, names, like=like))


def null_key(peer):
    """How many heads there are is not in the tensors."""
    H, M, N = (peer.settings[name] for name in ("heads", "width", "context_width"))
    maps = {"query": (M, M), "key": (N, M), "value": (N, M), "out": (M, M)}
    shapes = {f"{name}/kernel": shape for name, shape in maps.items()}
    shapes |= {f"{name}/bias": (M,) for name in maps}
    shapes |= {"bias_k": (H, M // H), "bias_v": (H, M // H)}
    like = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    return {"params": {"cross_attention": unflatten_dict(like, sep="/")}}


def named(gradients, names):
    """Gradients of our parameters under the names of the class."""
    if names is None:
        return gradients["params"]
    flat = flatten_dict(gradients["params"], sep="/")
    flat = {path: 0 * g if path in zero_paths(names) else g for path, g in flat.items()}
    return huggingface.tensors({"params": unflatten_dict(flat, sep="/")}, names)


def difference(ours, theirs, kept=None):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.all(np.isfinite(ours))
    difference = np.abs(ours - theirs)
    return (difference if kept is None else difference[kept]).max()


def program(peer, of):
    """Outputs, and gradients of parameters and inputs; all cases of a file share it."""

    def loss(params, floats, others, cotangents):
        out = of.run(peer.settings, params, others | floats)
        return sum(jnp.sum(out[stream] * g) for stream, g in cotangents.items()), out

    if WRITE or peer.name in DIFFERENTIATED:
        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    return jax.jit(lambda *arguments: (None, loss(*arguments)[1]))


def compared(run, of, arrays, params):
    """The largest difference of the streams, and of the gradients."""
    inputs = {key[3:]: jnp.asarray(x) for key, x in arrays.items() if key.startswith("in/")}
    kept = {name: inputs[f"{name}_mask"][:, 0, 0] for name in STREAMS if f"{name}_mask" in inputs}
    kept |= {"x": inputs.pop("compare")} if "compare" in inputs else {}
    floats = {key: x for key, x in inputs.items() if x.dtype == jnp.float64}
    others = {key: x for key, x in inputs.items() if key not in floats}
    cotangents = {key[10:]: x for key, x in arrays.items() if key.startswith("cotangent/")}
    gradients, out = run(params, floats, others, cotangents)
    value = max(
        difference(out[stream], arrays[f"out/{stream}"], kept.get(stream)) for stream in cotangents
    )
    if gradients is None:
        return value, 0.0
    by_params, by_inputs = gradients
    found = {f"grad/{name}": g for name, g in by_inputs.items()}
    found |= {f"grad/state/{name}": g for name, g in named(by_params, of.names).items()}
    theirs = {key: g for key, g in arrays.items() if key.startswith("grad/")}
    assert theirs.keys() <= found.keys()
    assert len(theirs) >= 2
    scale = max(1.0, *(np.abs(g).max() for g in theirs.values()))
    return value, max(difference(found[key], g) for key, g in theirs.items()) / scale


@pytest.mark.parametrize("name", sorted(CASES))
def test_agrees(x64, name):
    peer, of = read(name), CASES[name]
    params = imported(peer, of.names)
    run = program(peer, of)
    found = [compared(run, of, arrays, params) for arrays in peer.cases.values()]
    value, gradient = (max(column) for column in zip(*found, strict=True))
    measured[name] = (value, gradient)
    assert value <= peer.tolerance
    assert gradient <= peer.tolerance


def test_every_file_is_compared():
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(CASES)


def test_every_preset_is_compared_or_made_of_such():
    compared = {case.preset for case in CASES.values()}
    assert compared & COMPOSED.keys() == set()
    assert compared | COMPOSED.keys() == PRESETS


def test_the_registry_names_the_classes_that_are_compared():
    found = {}
    for name, case in CASES.items():
        found.setdefault(case.preset, set()).add(read(name).about["class"].split(".")[-1])
    for name in PRESETS:
        assert set(presets.get(name).checked) == found.get(name, set()), name


def test_the_page_has_every_preset():
    if WRITE:
        PAGE.write_text(page())
    assert PAGE.read_text().endswith(f"\n\n{CALLS}\n{MEANING}")
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert {line.split("`")[1] for line in rows} == PRESETS
    for line in rows:
        preset = presets.get(line.split("`")[1])
        _, paper, against = line.split(" | ")[:3]
        assert paper == preset.paper
        assert against == str(preset.composed or against)
    bad = [line for line in rows if line.count("|") != rows[0].count("|")]
    assert bad == []


WIDTH, HEADS = 512, 8


def parameters(preset):
    """Of one layer, or of the whole where the preset is a stack, at width 512 with 8 heads."""
    several = preset in ("qformer", "coca_decoder", "bottleneck")
    layers = None if several or preset == "ip_adapter" else 1
    module = presets.build(preset, width=WIDTH, heads=HEADS, layers=layers)
    x = jnp.zeros((1, 4, WIDTH))
    given, where = arguments(module, x, x, jnp.ones((1, 4), bool))
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *given, **where))
    return count_parameters(shapes)


def with_code(table):
    """A table whose cells are Markdown: code in them stays code."""
    return markdown_table(table).replace("\\`", "`")


def page():
    rows = []
    for name, of in CASES.items():
        if name in measured:
            about, (value, gradient) = read(name).about, measured[name]
            bound = "float32 inside" if about["upcasts"] else "float64"
            against = f"{about['library']} {about['version']} `{about['class'].split('.')[-1]}`"
            rows.append(
                [
                    f"`{of.preset}`",
                    presets.get(of.preset).paper,
                    against,
                    f"{value:.1e}",
                    f"{gradient:.1e}",
                    bound,
                    f"{parameters(of.preset):,}",
                ]
            )
    for preset, composed in COMPOSED.items():
        own = f"{parameters(preset):,}"
        rows.append([f"`{preset}`", presets.get(preset).paper, str(composed), *"---", own])
    header = ["preset", "paper", "checked against", "difference", "of gradients", "their precision"]
    table = with_code(([*header, "parameters"], sorted(rows)))
    return f"{TEXT}\n{table}\n\n{CALLS}\n{MEANING}"


WAYS = (
    ["module", "call", "returns"],
    [
        ["Block, Stack; CocaDecoder", "`module(x, context, mask=, self_mask=)`", "x, trace"],
        [
            "TwoStreams, Prefix, StreamStack; Bottleneck",
            "`module((x, context), x_mask=, context_mask=)`",
            "(x, context), traces",
        ],
        [
            "the same with towers: bridgetower",
            "`module((x, context), towers=(x_states, context_states))`",
            "(x, context), traces",
        ],
        [
            "QFormer: qformer",
            "`module(context, words, mask=, self_mask=joint_mask(...))`",
            "(queries, words), traces",
        ],
        [
            "DecoupledAttention: ip_adapter",
            "`module(x, [text, picture], scales=[1.0], masks=)`",
            "x, traces",
        ],
    ],
)
CALLS = f"""## How they are called

`presets.build` returns a module of one of five kinds; a stack of it is called as one layer is.

{with_code(WAYS)}

In place of traces stacks return what `observe=` made of each layer's; CocaDecoder returns the text
of its lower half before that. Words of a QFormer may be None. Towers of a stack have a leading axis
of its layers. `module.clone(context_width=N)` of a TwoStreams takes a context of another width.

`presets.build(..., config=replace(presets.config(name), ...))` makes a variant of any slot.
`dtype`, `param_dtype`, `kernel_init`, `dropout` (with `apply(..., rngs={{"dropout": key}})`),
`implementation` and `layout` (context parallel) reach all parts of every preset:
`tests/nn/test_policy.py`.

`remat` of a stack says what its backward pass computes again instead of keeping it: `"everything"`
of a layer, `"all but attention"`, which keeps what attention has read and does not run its kernel
twice, or `"all but products"`.
"""

MEANING = """## What every preset does

`tests/nn/test_presets.py` runs each of them, as a stack of two layers over 8 devices:

* Hidden context never matters: outputs and all gradients are equal to the bit when it is NaN.
* The order of the context never matters, where it has no positions.
* An empty context leaves exactly the residual path, to the bit. Some always have something to read:
  their own queries (merged, resampler, resampler_masked, latent_projector), learned keys (null_key,
  registers), shared tokens (bottleneck). mllama leaves its feed-forward layer out as well.
* A loop over layers on one device equals the scan on eight; rematerialisation changes nothing;
  bfloat16 stays within 6 % of the largest output.
* Token by token over a context that was projected once equals all at once. It does not apply where
  the context reads the words (vilbert, lxmert, meter, bridgetower, bidirectional, sam_two_way,
  bottleneck), where all queries are read at once (resampler, resampler_masked, latent_projector),
  and to ip_adapter, which is one attention: `project` its contexts once.
* `jax.eval_shape` of 32 layers of width 4096.
* Gates begin closed (flamingo, idefics, mllama): the block is the identity, to the bit.
"""

TEXT = f"""# Presets

Written by the tests (`WRITE_PRESETS=1 python -m pytest tests/nn/test_presets_against_peers.py`).

Each preset with the weights of the class beside it, random ones of tiny sizes, both in float64: the
largest difference of what comes out, and of the gradients of inputs and parameters in units of
the largest one (or of 1). The tests demand 1e-12; 5e-6 where the class goes through float32 inside.
Parameters are those of one layer (of the default number where the preset is a stack) at width
{WIDTH} with {HEADS} heads.
"""
