"""Which weights are dropped: a sound draw, the same for every block, implementation and call."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from crossattn import BlockSizes, Mask, attend, attention, explain
from crossattn.ops.api import RefusalError
from crossattn.ops.dropout import Dropout, kept, threefry2x32

KEY = jax.random.key(7)
# Random123's known answers (tests/kat_vectors): rounds, counter, key, words.
ZEROS, ONES = (0, 0), (0xFFFFFFFF, 0xFFFFFFFF)
PI = (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344)
ANSWERS = (
    (13, ZEROS, ZEROS, (0x9D1C5EC6, 0x8BD50731)),
    (13, ONES, ONES, (0xFD36D048, 0x2D17272C)),
    (13, *PI, (0xBA3E4725, 0xF27D669E)),
    (20, ZEROS, ZEROS, (0x6B200159, 0x99BA4EFE)),
)


def words(pair):
    return tuple(map(jnp.uint32, pair))


@pytest.mark.parametrize(("rounds", "counter", "key", "answer"), ANSWERS)
def test_the_generator_gives_the_known_answers(rounds, counter, key, answer):
    found = threefry2x32(words(key), words(counter), rounds)
    assert tuple(map(int, found)) == answer


def test_the_generator_is_that_of_jax():
    folded = jax.vmap(lambda n: jax.random.key_data(jax.random.fold_in(KEY, n)))(jnp.arange(99))
    key = words(np.asarray(jax.random.key_data(KEY)).tolist())
    found = threefry2x32(key, (jnp.uint32(0), jnp.arange(99, dtype=jnp.uint32)))
    np.testing.assert_array_equal(np.stack(found, axis=1), folded)


def drawn(rate, key, B=3, H=4, T=64, S=96):
    draw = lambda key: kept(Dropout.of((rate, key), B, H), (B, H, T, S), jnp.float32) > 0
    return np.asarray(jax.jit(draw)(key))


# No two of them opposite: the sums would be the same.
STEPS = [step for step in itertools.product((0, 1), (0, 1), (0, 1, 2), (0, 1, 2, 32)) if any(step)]
STEPS += [(0, 0, -1, 1), (0, 0, -1, 2), (1, -1, 0, 0), (0, -1, 1, 1)]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_weights_are_dropped_independently(rate):
    """The share that stays; and neighbours of every kind: examples, heads, queries, keys."""
    stays = drawn(rate, KEY) - (1 - rate)
    spread = rate * (1 - rate)
    z = [stays.sum() / np.sqrt(spread * stays.size)]
    for step in STEPS:
        product = stays * np.roll(stays, step, (0, 1, 2, 3))
        z.append(product.sum() / (spread * np.sqrt(stays.size)))
    # Four corners of a rectangle: what pairs do not show.
    corners = stays * np.roll(stays, 1, 2) * np.roll(stays, 1, 3) * np.roll(stays, (1, 1), (2, 3))
    z.append(corners.sum() / (spread**2 * np.sqrt(stays.size)))
    other = drawn(rate, jax.random.key(8)) - (1 - rate)
    z.append((stays * other).sum() / (spread * np.sqrt(stays.size)))
    z = np.asarray(z)
    assert np.abs(z).max() < 4
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_patterns_of_neighbours_are_equally_frequent():
    stays = drawn(0.5, KEY)
    for axis in (2, 3):
        bits = np.moveaxis(stays, axis, -1).reshape(-1, 8)
        counts = np.bincount(bits @ (1 << np.arange(8)), minlength=256)
        assert 1e-3 < stats.chisquare(counts).pvalue < 1 - 1e-3
    # Rows and columns hold as many as chance gives them, neither more evenly nor less.
    for axis in range(4):
        lines = stays.sum(axis)
        n = stays.shape[axis]
        found = ((lines - n / 2) ** 2 / (n / 4)).sum()
        assert 1e-3 < stats.chi2.cdf(found, lines.size) < 1 - 1e-3


B, H, K, T, S, D = 2, 4, 2, 7, 11, 3
BLOCKS = BlockSizes(1, 1, 2, 3), BlockSizes(2, 1, 7, 4), BlockSizes(1, 2, 4, 11)
IMPLEMENTATIONS = ("reference", "xla", "few_keys", "split_kv", *BLOCKS)
MASKS = {
    "causal": Mask.causal(S - T),
    # Keys gathered from where they lie.
    "keys": Mask.keys(jnp.asarray(np.random.default_rng(0).random((B, S)) < 0.5)),
}


@pytest.mark.parametrize("name", MASKS)
def test_neither_blocks_nor_implementations_change_what_is_dropped(name):
    """Seen, to the bit, through values that are one-hot in the keys."""
    mask = MASKS[name]
    q, k = (jax.random.normal(jax.random.key(n), (B, n, h, D)) for n, h in ((T, H), (S, K)))
    v = jnp.broadcast_to(jnp.eye(S)[:, None], (B, S, K, S))

    @jax.jit
    def run(key):
        run = functools.partial(attention, q, k, v, mask=mask, dropout=(0.4, key))
        return [run(implementation=name) > 0 for name in IMPLEMENTATIONS]

    visible = np.asarray(mask.dense_array(B, T, S))
    wanted = drawn(0.4, KEY, B, H, T, S) & visible
    assert 0.4 < wanted.sum() / np.broadcast_to(visible, wanted.shape).sum() < 0.8
    for implementation, found in zip(IMPLEMENTATIONS, run(KEY), strict=True):
        found = np.asarray(found).swapaxes(1, 2)
        np.testing.assert_array_equal(found, wanted, err_msg=str(implementation))


def test_the_mean_and_the_variance_of_ten_thousand_draws():
    """Of a sum of w v m / (1 - r): that without dropout, and the sum of w^2 v^2 r / (1 - r)."""
    rate, n = 0.3, 10_000
    q, k, v = jax.random.normal(jax.random.key(1), (3, 1, 5, 2, D))
    q, blocks = q[:, :3], BlockSizes(1, 1, 2, 3)

    @jax.jit
    def run(keys):
        one = lambda key: attention(q, k, v, dropout=(rate, key), implementation=blocks)
        plain, trace = attend(q, k, v)
        return jax.vmap(one)(keys), plain, trace.weights()

    outs, plain, weights = (np.asarray(x, np.float64) for x in run(jax.random.split(KEY, n)))
    variance = np.einsum("bhts,bshv->bthv", weights**2, np.square(v)) * rate / (1 - rate)
    z = (outs.mean(0) - plain) / np.sqrt(variance / n)
    assert np.abs(z).max() < 4
    assert 0.3 < np.mean(z**2) < 2  # of few heads and queries, which share their values
    np.testing.assert_allclose(outs.var(0), variance, rtol=0.06)


@pytest.mark.slow
def test_second_derivatives_drop_the_same():
    q, k = (jax.random.normal(jax.random.key(n), (1, n, 1, D)) for n in (T, S))

    @functools.partial(jax.jit, static_argnums=1)
    def run(q, implementation):
        how = {"dropout": (0.4, KEY), "implementation": implementation}
        slope = jax.grad(lambda q: jnp.sin(attention(q, k, k, **how)).sum())
        return jax.grad(lambda q: (slope(q) ** 2).sum())(q)

    np.testing.assert_allclose(run(q, BLOCKS[0]), run(q, "reference"), rtol=1e-4, atol=1e-5)


def test_no_array_of_all_pairs_is_made():
    q, k = (jax.ShapeDtypeStruct((1, n, 8, 64), jnp.float32) for n in (16, 65536))

    def both(q, k, v, key):
        call = lambda q, k, v: attention(q, k, v, dropout=(0.1, key))
        return jax.grad(lambda *x: call(*x).sum(), (0, 1, 2))(q, k, v)

    forward = lambda q, k, v, key: attention(q, k, v, dropout=(0.1, key))
    assert "cpu: chunked" in explain(q, k, k, dropout=(0.1, KEY))
    for call in (forward, both):
        compiled = jax.jit(call).lower(q, k, k, KEY).compile()
        assert compiled.memory_analysis().temp_size_in_bytes <= 8 * 2**20


def test_without_a_key_or_a_rate_the_program_is_the_same():
    q, k = jnp.ones((B, T, H, D)), jnp.ones((B, S, K, D))
    program = lambda dropout: str(
        jax.make_jaxpr(lambda q, k: attention(q, k, k, dropout=dropout))(q, k)
    )
    assert program(None) == program((0.0, KEY)) != program((0.1, KEY))


def test_any_kind_of_key_is_one():
    q, k = jax.random.normal(KEY, (2, B, S, K, D))
    run = lambda key: attention(q, k, k, dropout=(0.5, key))
    np.testing.assert_array_equal(run(jax.random.PRNGKey(7)), run(KEY))
    assert not np.array_equal(run(jax.random.key(7, impl="rbg")), run(KEY))
    with pytest.raises(ValueError, match="accepts a single key"):
        run(jax.random.split(KEY))


@pytest.mark.parametrize("name", ["cudnn", "splash"])
def test_a_fused_kernel_that_cannot_says_so(name):
    q = jnp.ones((B, T, H, 64), jnp.bfloat16)
    with pytest.raises(RefusalError, match=f"{name} cannot take this call: .* 'chunked' d"):
        attention(q, q, q, dropout=(0.5, KEY), implementation=name)
    said = explain(*(jax.ShapeDtypeStruct((8, 2048, 8, 64), "bfloat16"),) * 3, dropout=(0.5, KEY))
    chosen = [line.split()[1] for line in said.splitlines() if not line.startswith(" ")]
    assert chosen == ["chunked"] * 4
