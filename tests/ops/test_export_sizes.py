"""`jax.export` with sizes that are not known: one program for CPU, GPU and TPU, any B, T and S."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from crossattn import BlockSizes, Mask, attend, attention, explain
from crossattn.ops.api import RefusalError
from crossattn.ops.kernels import any_size
from tests.support.cases import Call, assert_close, evaluate, inputs, kinds, run

PLATFORMS = ("cpu", "cuda", "tpu")
B, T, S = SIZES = export.symbolic_shape("B, T, S")
CALL = Call(H=6, K=3, bias="HTS", softcap=1.7)
# The second has several blocks of the chosen sizes, and of the small ones of the tests.
NUMBERS = ({"T": 5, "S": 7}, {"T": 131, "S": 257})


def shape(*sizes, dtype="float32"):
    return jax.ShapeDtypeStruct(sizes, dtype)


def symbolic(tree):
    """Shapes with letters for the sizes of `CALL`, whose primes belong to one axis each."""
    names = {CALL.B: B, CALL.T: T, CALL.S: S}
    return jax.tree.map(lambda x: shape(*(names.get(n, n) for n in x.shape), dtype=x.dtype), tree)


def exported(function, *given, **static):
    return export.export(jax.jit(function), platforms=PLATFORMS)(*given, **static)


SMALL = pytest.param(BlockSizes(1, 3, 2, 3), marks=pytest.mark.slow)


@pytest.mark.parametrize("implementation", [None, SMALL], ids=str)
def test_one_program_has_every_mask_bias_and_gradient(unchecked, monkeypatch, implementation):
    """Numbers are the definition's; None is dense for the first sizes, in blocks for the second."""
    monkeypatch.setattr(any_size, "FEW", 1000)
    static = {"implementation": implementation, "scale": None, "softcap": CALL.softcap}
    arrays = jax.tree.map(lambda x: x.astype(np.float32), inputs(CALL))
    leaves = kinds(CALL)["everything"]
    program = export.export(evaluate, platforms=PLATFORMS)(
        symbolic(arrays), symbolic(leaves), **static
    )
    sizes = NUMBERS if implementation is None else (NUMBERS[0], {"T": 11, "S": 13})
    for number in sizes:
        call = Call(H=6, K=3, bias="HTS", softcap=1.7, **number)
        arrays = inputs(call, dtype=np.float32)
        given = jax.tree.map(lambda x: x.astype(np.float32), arrays)
        for kind, leaves in kinds(call).items():
            found = jax.tree.map(np.asarray, program.call(given, leaves))
            wanted = run(call, arrays, leaves, "reference", np.float32)
            assert_close(found, wanted, arrays, np.float32, 20.0), kind


i32 = lambda *sizes: shape(*sizes, dtype="int32")
MASKS = {
    "none": (lambda: None, {}),
    "short lengths": (
        Mask.lengths,
        {"query": shape(B, dtype="int8"), "key": shape(B, dtype="int8")},
    ),
    "unsigned lengths": (Mask.lengths, {"key": shape(B, dtype="uint32")}),
    "causal": (lambda: Mask.causal(S - T), {}),
    "causal from an argument": (Mask.causal, {"offset": i32(B)}),
    "window": (lambda: Mask.window(2, None, 0), {}),
    "segments": (Mask.segments, {"query": i32(B, T), "key": i32(B, S)}),
    "media": (
        lambda q, k: Mask.media(q, k, latest_only=False),
        {"q": i32(B, T), "k": i32(B, S)},
    ),
    "keys": (Mask.keys, {"visible": shape(B, S, dtype="bool")}),
    "keys of lengths": (
        lambda seen, key: Mask.keys(seen) & Mask.lengths(key=key),
        {"seen": shape(B, S, dtype="bool"), "key": i32(B)},
    ),
    "dense": (Mask.dense, {"visible": shape(1, 1, T, S, dtype="bool")}),
    "dense for keys": (Mask.dense, {"visible": shape(B, 1, 1, S, dtype="bool")}),
}


@pytest.mark.parametrize("kind", MASKS)
def test_every_mask_alone(unchecked, kind):
    """Forward and gradient lower for three platforms, with no kernel of one of them."""
    make, leaves = MASKS[kind]

    def loss(q, k, v, leaves):
        return attention(q, k, v, mask=make(**leaves)).sum()

    q, k = shape(B, T, 6, 8, dtype="bfloat16"), shape(B, S, 3, 8, dtype="bfloat16")
    program = exported(jax.value_and_grad(loss, (0, 1, 2)), q, k, k, leaves)
    assert [str(x.shape) for x in program.out_avals[1:]] == [str(x.shape) for x in (q, k, k)]


def test_hidden_keys_are_gathered_as_with_known_sizes(unchecked):
    def run(q, k, seen):
        def out(k):
            return attention(q, k, k, mask=Mask.keys(seen), implementation=BlockSizes(1, 1, 2, 3))

        o, pull = jax.vjp(out, k)
        return o, pull(o)[0]

    rng = np.random.default_rng(0)
    program = exported(run, shape(B, T, 3, 8), shape(B, S, 3, 8), shape(B, S, dtype="bool"))
    for b, t, s in ((2, 5, 7), (3, 2, 13)):
        q, k = (rng.standard_normal((b, n, 3, 8)).astype(np.float32) for n in (t, s))
        seen = rng.random((b, s)) < 0.6
        for found, wanted in zip(program.call(q, k, seen), jax.jit(run)(q, k, seen), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.slow
def test_statistics_of_any_size(unchecked):
    def found(q, k, lengths):
        _, trace = attend(q, k, k, mask=Mask.lengths(key=lengths) & Mask.causal(2))
        entropy, pull = jax.vjp(lambda q: dataclasses.replace(trace, q=q).entropy(), q)
        return trace.summary(k[:, :, 0, :2]), trace.weights(jnp.array([1])), pull(entropy)

    rng = np.random.default_rng(0)
    program = exported(found, shape(B, T, 6, 8), shape(B, S, 3, 8), i32(B))
    for b, t, s in ((2, 3, 7), (1, 131, 3)):
        q, k = (rng.standard_normal((b, n, h, 8)).astype(np.float32) for n, h in ((t, 6), (s, 3)))
        given = q, k, np.array([s, 0][:b], np.int32)
        wanted = jax.jit(found)(*given)
        assert_allclose = lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5)
        jax.tree.map(assert_allclose, program.call(*given), wanted)


def test_nothing_of_size_T_S_where_the_scores_are_many(unchecked):
    """Which of the two is run is decided when sizes are put in: one is left of the program."""
    program = exported(attention, shape(B, T, 2, 8), shape(B, S, 2, 8), shape(B, S, 2, 8))
    q, k = shape(1, 1031, 2, 8), shape(1, 8209, 2, 8)
    compiled = jax.jit(program.call).lower(q, k, k).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1031 * 8209  # one byte for each pair


def test_only_the_batch_is_not_known(unchecked):
    run = lambda q, k: attention(q, k, k, mask=Mask.causal(0))
    program = exported(run, shape(B, 5, 3, 8), shape(B, 7, 3, 8))
    x = np.random.default_rng(0).standard_normal((3, 7, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(program.call(x[:, :5], x), run(x[:, :5], x), atol=1e-6)


def test_the_choice_for_any_size_is_explained(unchecked):
    q, k = shape(B, T, 8, 64, dtype="bfloat16"), shape(B, S, 8, 64, dtype="bfloat16")
    said = "xla or chunked (B, T or S is symbolic: right for any size)"
    assert explain(q, k, k).splitlines() == [
        f"{name}: {said}" for name in ("cpu", "cuda", "tpu", "default")
    ]
    assert f"cpu: {said}" in explain(q, k, k, dropout=(0.5, jax.random.key(0)))
    for one in (shape(2, T, 8, 64), shape(2, 5, 8, 64)):
        other = shape(2, S if one.shape[1] == 5 else 7, 8, 64)
        assert f"cpu: {said}" in explain(one, other, other)


# What CPUs, TPUs and unknown platforms take where sizes are known: (B, T, S, H), heads of 64.
CHOICES = {
    (2, 5, 7, 3): ("xla", "xla", "xla"),
    (64, 16, 49, 4): ("xla", "xla", "xla"),
    (16, 1, 576, 8): ("chunked", "xla", "xla"),
    (16, 32, 196, 8): ("chunked", "xla", "xla"),
    (2, 4096, 77, 8): ("few_keys", "resident_kv", "chunked"),
    (8, 64, 4096, 8): ("chunked", "splash", "chunked"),
    (1, 64, 50000, 8): ("chunked", "splash", "chunked"),
    (1, 4096, 4096, 8): ("chunked", "splash", "chunked"),
}


def test_the_choice_for_known_sizes_is_that_of_the_table():
    for (b, t, s, h), wanted in CHOICES.items():
        q, k = (shape(b, n, h, 64, dtype="bfloat16") for n in (t, s))
        said = dict(line.split(": ", 1) for line in explain(q, k, k).splitlines() if line[0] != " ")
        found = tuple(said[name].split()[0] for name in ("cpu", "tpu", "default"))
        assert found == wanted, (b, t, s, h)


@pytest.mark.parametrize("name", ["few_keys", "split_kv", "cudnn", "splash", "resident_kv"])
def test_a_kernel_that_wants_known_sizes_says_so(unchecked, name):
    run = lambda q, k: attention(q, k, k, implementation=name)
    with pytest.raises(RefusalError, match="sizes that are known, and B, T or S is symbolic"):
        exported(run, shape(B, T, 3, 8), shape(B, S, 3, 8))


def test_dropout_of_any_size(unchecked):
    run = lambda q, k, key: attention(q, k, k, dropout=(0.5, jax.random.wrap_key_data(key)))
    program = exported(run, shape(B, T, 3, 8), shape(B, S, 3, 8), shape(2, dtype="uint32"))
    q, k = (np.random.default_rng(n).standard_normal((2, n, 3, 8), np.float32) for n in (5, 7))
    key = np.array([0, 7], np.uint32)
    np.testing.assert_allclose(program.call(q, k, key), run(q, k, key), atol=1e-6)


def test_blocks_that_need_not_divide_a_batch_are_refused(unchecked):
    run = lambda q, k: attention(q, k, k, implementation=BlockSizes(2, 1, 2, 3))
    with pytest.raises(ValueError, match=r"BlockSizes.examples=2 is not a divisor of B"):
        exported(run, shape(B, T, 3, 8), shape(B, S, 3, 8))
