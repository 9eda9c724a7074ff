"""What the compiled loop of `generate` does not do for every word."""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from crossattn.models.generate import Beam, Greedy, generate
from crossattn.models.hoist import hoisted
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import presets

B, S, M, H, L, V, ROOM = 5, 17, 22, 2, 3, 13, 7
WEIGHTS, CONTEXT = {M * M, 4 * M * M, V * M}, {B * S * M}
FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "while", "constant"}


@pytest.fixture(scope="module")
def decoder():
    """A decoder, and arrays in the places of its parameters and of its context."""
    model = TextDecoder(presets.build("whisper", width=M, heads=H, layers=L), V, ROOM)
    sound = jax.ShapeDtypeStruct((B, S, M), jnp.float32)
    tokens = jnp.ones((B, 2), int)
    return model, jax.eval_shape(model.init, jax.random.key(0), tokens, sound), sound


def compiled(decoder, strategy):
    """The program that writes."""
    model, params, sound = decoder

    @jax.jit
    def write(params, sound):
        projected = model.apply(params, sound, method="project")
        cache = model.apply(params, B * strategy.beams, ROOM, method="init_cache")

        def step(cache, tokens, position):
            given = tokens, projected, cache, position
            return *model.apply(params, *given, method="decode_step")[:2], None

        call = {"length": ROOM - 1, "eos_id": None, "strategy": strategy}
        return generate(step, cache, [[1, 2]] * B, **call, prefill=step)

    return write.lower(params, sound).compile().as_text()


def turn(text):
    """(opcode, entries of its result) of what a turn of the outer loop does, and all it calls."""
    parts, name = {}, None
    for line in text.splitlines():
        if line.endswith("{"):
            name = line.removeprefix("ENTRY ").split()[0].lstrip("%")
        parts.setdefault(name, []).append(line)
    loops = re.findall(r" while\(.*?body=%?([\w.-]+)", text)
    todo, seen, found = [max(loops, key=lambda name: len(parts[name]))], set(), []
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in parts[name]:
            todo += re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.-]+)", line)
            if one := re.match(r"\s+(?:ROOT )?\S+ = \w+\[([\d,]*)\]\S* ([\w-]+)\(", line):
                found.append((one[2], math.prod(int(n) for n in one[1].split(",") if n)))
    return [(opcode, size) for opcode, size in found if opcode not in FREE]


def makes(found, sizes):
    """Which operations make arrays of these sizes, or stacks of them."""
    every = {size * layers for size in sizes for layers in (1, L)}
    return {opcode for opcode, size in found if size in every}


@pytest.mark.parametrize("strategy", [Greedy(), Beam(2)], ids=str)
def test_no_turn_copies_weights_or_context(decoder, strategy):
    found = turn(compiled(decoder, strategy))
    assert len(found) > 100
    assert not makes(found, WEIGHTS | CONTEXT)
    # The cache is written in place, and read behind a mask; only beams that change places move it.
    cache = {B * strategy.beams * ROOM * M}
    assert "dynamic-update-slice" in makes(found, cache)
    moved = {"copy", "dynamic-slice", "slice", "concatenate", "gather", "transpose"}
    if strategy.beams == 1:
        assert not makes(found, cache) & moved


def test_what_is_hoisted_is_computed_once():
    def step(x, n):
        y = x @ jnp.exp(weights) + jnp.arange(3.0)[None] * n
        return {"y": y, "n": jnp.zeros((), n.dtype)}, weights.T

    weights, x, n = jnp.eye(3) * 0.5, jnp.ones((2, 3)), jnp.float32(2)
    run = lambda weights, *given: hoisted(step, x, n)[0](*given)
    for one, other in zip(
        jax.tree.leaves(run(weights, x, n)), jax.tree.leaves(step(x, n)), strict=True
    ):
        assert jnp.array_equal(one, other)
    assert hoisted(step, x, n)[1][0]["y"].shape == (2, 3)


def test_what_has_an_effect_stays_where_it_is():
    said = []
    step, _ = hoisted(lambda x: (jax.debug.callback(said.append, 1), x + 1)[1], jnp.zeros(()))
    assert not said
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: step(x), x))
    assert loop(jnp.zeros(())) == 3
    jax.effects_barrier()
    assert len(said) == 3
