"""The cross-entropy of a large vocabulary beside optax's, which has all logits at once."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from crossattn.nn.head import Targets, cross_entropy
from crossattn.sharding import make_mesh

B, T, M, V = 8, 7, 6, 26
RNG = np.random.default_rng(0)
X, TABLE, BIAS = (jnp.asarray(RNG.normal(size=s), jnp.float32) for s in ((B, T, M), (V, M), (V,)))
WORDS = jnp.asarray(RNG.integers(V, size=(B, T)), jnp.int32)
WEIGHT = jnp.asarray(RNG.random((B, T)) * (RNG.random((B, T)) < 0.7) / (B * T), jnp.float32)


def blockwise(blocks, axis=0, smoothing=0.0, **fields):
    def run(x, table, bias, weight, words=WORDS):
        targets = Targets(words, weight, smoothing)
        table = table.T if axis else table
        return cross_entropy(x, table, targets, axis=axis, bias=bias, blocks=blocks, **fields)

    return run


def plain(x, table, bias, weight, words=WORDS, smoothing=0.0):
    logits = jnp.einsum("btm,vm->btv", x, table)
    logits = logits if bias is None else logits + bias[None, None]
    labels = optax.smooth_labels(jax.nn.one_hot(words, V), smoothing)
    loss = optax.safe_softmax_cross_entropy(logits, labels)
    return (loss * weight).sum(), jnp.argmax(logits, -1).astype(words.dtype) == words


def differentiated(loss, *given):
    program = jax.value_and_grad(loss, range(len(given)), has_aux=True)
    (value, right), found = jax.jit(program)(*given)
    return value, right, [leaf for leaf in found if leaf is not None]


def close(got, want, tolerance=2e-6):
    check = lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())
    jax.tree.map(check, got, want)


@pytest.mark.parametrize(
    ("blocks", "axis", "smoothing", "bias"),
    [(1, 0, 0.1, BIAS), (3, 1, 0.1, BIAS), (100, 0, 0.0, None)],
)
def test_loss_and_gradients_are_those_of_all_logits(blocks, axis, smoothing, bias):
    """Of tied and untied heads; blocks that do not divide the positions; the weights' as well."""
    given = X, TABLE, bias, WEIGHT
    got = differentiated(blockwise(blocks, axis, smoothing), *given)
    want = differentiated(lambda *x: plain(*x, smoothing=smoothing), *given)
    np.testing.assert_array_equal(np.where(WEIGHT, got[1], 0), np.where(WEIGHT, want[1], 0))
    close((got[0], got[2]), (want[0], want[2]))
    alone, right = jax.jit(blockwise(blocks, axis, smoothing))(*given)
    close(alone, want[0])
    np.testing.assert_array_equal(right, got[1])


def test_equal_logits_are_the_first_word():
    zeros = jnp.zeros_like(TABLE)
    right = jax.jit(blockwise(2))(X, zeros, None, WEIGHT)[1]
    np.testing.assert_array_equal(np.where(WEIGHT, right, 0), np.where(WEIGHT, WORDS == 0, 0))


def test_second_derivatives(x64):
    given = [leaf.astype(jnp.float64) for leaf in (X, TABLE, WEIGHT)]

    def twice(loss):
        first = jax.grad(lambda x, table, weight: loss(x, table, None, weight)[0], (0, 1, 2))
        norm = lambda *given: sum((leaf**2).sum() for leaf in first(*given))
        return jax.jit(jax.grad(norm, (0, 1, 2)))(*given)

    close(twice(blockwise(3)), twice(plain), 1e-12)


def test_half_precision_is_added_up_in_float32():
    """Weights of a mean over many words leave half precision its digits."""
    for dtype in (jnp.bfloat16, jnp.float16):
        given = X.astype(dtype), TABLE, None, WEIGHT * 1e-4
        loss, _, (dx, dtable, _) = differentiated(blockwise(3), *given)
        exact = X.astype(dtype).astype(jnp.float32), TABLE.astype(dtype).astype(jnp.float32)
        want, _, (wx, wtable, _) = differentiated(plain, *exact, None, given[3])
        assert (loss.dtype, dx.dtype, dtable.dtype) == (jnp.float32, dtype, jnp.float32)
        close(loss, want)
        bits = float(jnp.finfo(dtype).eps)
        close(dtable, wtable, 2 * bits)
        floor = 6e-8 / np.abs(wx).max() if dtype == jnp.float16 else 0
        close(dx.astype(jnp.float32), wx, 2 * bits + floor)


def test_what_has_no_weight_influences_nothing():
    bad = WEIGHT == 0
    given = jnp.where(bad[..., None], jnp.nan, X), TABLE, BIAS, WEIGHT
    words = jnp.where(bad, -100, WORDS)
    got = differentiated(lambda *x: blockwise(3)(*x, words), *given)
    want = differentiated(blockwise(3), X, TABLE, BIAS, WEIGHT)
    close((got[0], got[2][:3]), (want[0], want[2][:3]), 0)
    nothing = differentiated(blockwise(2), X, TABLE, BIAS, jnp.zeros_like(WEIGHT))
    assert nothing[0] == 0
    assert not any(np.any(leaf) for leaf in nothing[2][:3])


def test_words_outside_of_the_vocabulary_are_refused_or_nan():
    words = WORDS.at[0, 0].set(V)
    weight = WEIGHT.at[0, 0].set(1.0)
    with pytest.raises(ValueError, match=f"word {V} of a table of {V}: numbers are 0 to {V - 1}"):
        blockwise(2)(X, TABLE, None, weight, words)
    loss = lambda *x: jax.jit(blockwise(2))(*x)[0]
    assert np.isnan(loss(X, TABLE, None, weight, words))
    # Numbers of one byte are counted as well.
    few = differentiated(
        lambda *x: blockwise(2)(*x, WORDS.astype(jnp.uint8)), X, TABLE, None, WEIGHT
    )
    close(few[0], loss(X, TABLE, None, WEIGHT))


@pytest.mark.parametrize(
    ("axes", "spec", "axis"),
    [
        ("data=8", PartitionSpec(), 0),
        ("fsdp=4,tensor=2", PartitionSpec("tensor", "fsdp"), 0),
        ("data=2,context=2,tensor=2", PartitionSpec(None, "tensor"), 1),
    ],
)
def test_over_devices(axes, spec, axis):
    """The numbers of one device; the table and its gradient are sent once, not by each block."""
    mesh, blocks = make_mesh(axes), 3
    arrays = RNG.normal(size=(B, T, 16)), RNG.normal(size=(16, 64) if axis else (64, 16))
    x, table = (jnp.asarray(leaf, jnp.float32) for leaf in arrays)

    def run(x, table, weight, words):
        targets = Targets(words, weight)
        return cross_entropy(x, table, targets, axis=axis, blocks=blocks)[0]

    def step(*given):
        loss, found = jax.value_and_grad(run, (0, 1))(*given)
        return loss, jax.lax.with_sharding_constraint(found, (rows, whole))

    rows, whole = (NamedSharding(mesh, s) for s in (PartitionSpec(("data", "fsdp")), spec))
    given = x, table, WEIGHT, WORDS
    placed = [jax.device_put(*pair) for pair in zip(given, (rows, whole, rows, rows), strict=True)]
    with jax.set_mesh(mesh):
        program = jax.jit(step).lower(*placed).compile()
    close(program(*placed), jax.jit(jax.value_and_grad(run, (0, 1)))(*given))
    bodies = re.findall(r"^(ENTRY )?%?[\w.-]+ .*?\{\n(.*?)^\}", program.as_text(), re.M | re.S)
    sent = {True: [0], False: [0]}
    for entry, body in bodies:
        for line in re.findall(r"= (.*?) (?:all-\w+|reduce-scatter)\(", body):
            sizes = [
                np.prod(list(map(int, n.split(",")))) for n in re.findall(r"\[([\d,]+)\]", line)
            ]
            sent[bool(entry)] += sizes
    assert max(sent[True]) >= table.size / mesh.shape["tensor"]
    assert max(sent[False]) <= B * -(-T // blocks) * 16 < table.size / mesh.shape["tensor"]
