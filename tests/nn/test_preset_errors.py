"""What is wrong is said in one line: misspelt slots, contexts that are missing or of another width.

`preset_mistakes.py` makes the mistakes, in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from crossattn import Mask
from crossattn.nn import presets
from tests.support.preset_mistakes import STREAMS

B, T, M, H = 2, 3, 8, 2
SCRIPT = Path(__file__).parents[1] / "support" / "preset_mistakes.py"
WORDS = {
    "gate": "unknown ResidualConfig.gate 'sigmoyd', did you mean 'sigmoid'? One of 'tanh', 'tanh-e",
    "norm": "unknown ResidualConfig.norm 'por', did you mean 'pre'? One of 'pre', 'post', ",
    "norm kind": "unknown ResidualConfig.norm_kind None: one of 'layer', 'rms', 'rms+1'",
    "head norm": "unknown Logits.norm 'rmsnorm', did you mean 'rms'? One of 'layer', ",
    "competition": "did you mean 'queries'? One of 'keys', 'queries'",
    "talking": "unknown Logits.talking 'yes': one of False, True",
    "bias_kv": "unknown ExtraKeys.bias_kv 2: one of False, True",
    "theta": "Rotary.theta must be positive, got 0",
    "interleaved": "unknown Rotary.interleaved 'x': one of False, True",
    "order": "unknown BlockConfig.order 'cros', did you mean 'cross'? One of 'self', 'cross', ",
    "order as a word": "BlockConfig.order is a tuple of words: write ('cross',), not 'cross'",
    "context norm": "unknown BlockConfig.context_norm 'l': one of 'layer', 'rms', 'rms+1', None",
    "positions": "unknown AttentionConfig.positions 'ad', did you mean 'add'? One of 'rotary'",
    "dropout": "Block.dropout is a rate below 1, got 1.0",
    "less dropout": "Block.dropout is at least 0, got -0.5",
    "order of two": "unknown TwoStreamConfig.order 'x_to_contex', did you mean 'x_to_context'? ",
    "exchange": "did you mean 'shared'? One of 'separate', 'shared', 'one-product'",
    "link": "unknown TwoStreamConfig.link 'sum': one of 'add', 'scaled', 'interpolated'",
    "link alone": "unknown Link.kind 'scale', did you mean 'scaled'? One of ",
    "remat": "unknown remat 'all': one of 'everything', "
    "'all but attention', 'all but products', None",
    "remat of a stack": "unknown remat 'all': one of 'everything', "
    "'all but attention', 'all but products', None",
    "preset": "unknown preset 'zzz': one of 'encoder_decoder_post', ",
    "no layers": "layers=0: give at least 1, or leave it out",
    "fewer": "layers=-1: give at least 1, or leave it out",
    "no heads": "heads=0: give at least 1",
    "heads": "width 8 is not a multiple of heads 3: choose heads=2, or another width",
    "ip_adapter contexts": "3 contexts for pictures=1: give one for the text and one for each pict",
    "ip_adapter scales": "2 scales for pictures=1: give one for each picture",
    "ip_adapter masks": "1 masks for pictures=1: give one for the text and one for each picture",
    "ip_adapter regions": "2 regions for pictures=1: give one for each picture",
    "ip_adapter half": "some contexts are arrays, others are projected: give all of them to ",
    **dict.fromkeys(
        (f"{name} wide" for name in STREAMS),
        "streams of widths 8 and 6 for a module of widths 8 and 8: ",
    ),
}
MISSING = (*STREAMS, "qformer", "ip_adapter")


@pytest.fixture(scope="module")
def said():
    path = os.pathsep.join([str(SCRIPT.parents[2]), *os.environ.get("PYTHONPATH", "").split(":")])
    run = subprocess.run(
        [sys.executable, SCRIPT],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return json.loads(run.stdout)


def test_values_are_refused_in_one_line(said):
    for name, words in WORDS.items():
        kind, message = said.pop(name)
        assert kind == "ValueError", name
        assert words in message, name
        assert "\n" not in message, name
        if name.endswith(" wide"):
            assert "context_width=" in message or "map the context to width 8 first" in message
    assert said.pop("ip_adapter scale") == [
        "TypeError",
        "scales has one number for each picture: write [1.0]",
    ]
    wanted = ["TypeError", "context is required: an array (B, S, N)"]
    assert said == dict.fromkeys([*(f"{name} None" for name in MISSING), "ip_adapter none"], wanted)


READERS = ("vilbert", "lxmert", "meter", "sam_two_way", "prefix_lm")


@pytest.mark.parametrize("name", [*READERS, "bidirectional", "bottleneck", "ip_adapter"])
def test_a_context_may_have_no_tokens(name):
    module, x, context = (
        presets.build(name, width=M, heads=H),
        jnp.ones((B, T, M)),
        jnp.ones((B, 0, M)),
    )
    seen = Mask.lengths(key=jnp.array([0, 0]))
    if name == "ip_adapter":
        given, where = (x, [context, context]), {"scales": [0.5], "masks": [seen, seen]}
    else:
        given, where = ((x, context),), {"context_mask": seen}
    run = lambda: module.init_with_output(jax.random.key(0), *given, **where)
    out = jax.tree.leaves(jax.eval_shape(run)[0])
    assert out[0].shape == (B, T, M)
    assert name == "ip_adapter" or out[1].shape == (B, 0, M)
