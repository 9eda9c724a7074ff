"""Writing texts: against plain loops without a cache, one row at a time."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from crossattn.models.generate import Beam, Greedy, Sample, generate
from crossattn.nn.cache import KVCache
from tests.support.toys import M, blended, toy

B, P, V, LENGTH = 3, 2, 7, 5
T = P + LENGTH
END, PAD = 1, 9
MIXED = Sample(temperature=0.7, top_k=5, top_p=0.9)
WAYS = (Greedy(), MIXED, Beam(3), Beam(1, length_penalty=0.0), Beam(2, length_penalty=2.0))
TABLES = range(4)


@functools.cache
def writer(strategy, eos_id=END, length=LENGTH, **settings):
    """One program per strategy."""

    def write(table, cache, prompt, lengths, key):
        call = {"length": length, "eos_id": eos_id, "pad_id": PAD, "strategy": strategy}
        return generate(toy(table), cache, prompt, **call, key=key, lengths=lengths)

    return jax.jit(write, **settings)


def empty(strategy, rows=B, length=LENGTH):
    return jnp.zeros((1, rows * strategy.beams, P + length), jnp.int32)


def written(strategy, table, prompt, lengths=None, key=0):
    lengths = jnp.full(B, P) if lengths is None else jnp.asarray(lengths)
    given = (jnp.asarray(table), empty(strategy), jnp.asarray(prompt), lengths, jax.random.key(key))
    return jax.device_get(writer(strategy)(*given))


def tables(seed, vocabulary=V):
    rng = np.random.default_rng(seed)
    table = rng.normal(0, 2, (M, vocabulary)).astype(np.float32)
    table[:, END] += 1.5  # some texts end early
    prompt = rng.integers(2, vocabulary, (B, P)).astype(np.int32)
    return table, prompt


def log_probabilities(table, text):
    logits = table[blended(text)].astype(np.float64)
    return logits - np.log(np.exp(logits).sum())


@functools.cache
def drawing(strategy):
    """Words for rows of logits, without a loop and without a cache."""
    return jax.jit(
        lambda logits, key, position: strategy.choose(logits, jax.random.fold_in(key, position))
    )


def one_text(strategy, table, prompts, row, key):
    """The text and score of one row; the others are there since one key serves all rows."""
    text, score = list(prompts[row]), 0.0
    while True:
        logits = np.zeros((B, V), np.float32)
        logits[row] = table[blended(text)]
        word = int(drawing(strategy)(logits, jax.random.key(key), len(text))[row])
        score += log_probabilities(table, text)[word]
        text.append(word)
        if word == END or len(text) == len(prompts[row]) + LENGTH:
            return text, score


def beam_text(strategy, table, prompt, ends=(END,), keep=2):
    """Beam search with lists, of `keep` times as many continuations as there are beams."""
    grows, ended = [(0.0, list(prompt))], []
    for n in range(1, LENGTH + 1):
        every = [
            (score + gain, [*text, word])
            for score, text in grows
            for word, gain in enumerate(log_probabilities(table, text))
        ]
        every = sorted(every, reverse=True)[: keep * strategy.width]
        closed = [text[-1] in ends or n == LENGTH for _, text in every]
        scale = n**strategy.length_penalty
        new = [(s / scale, text) for (s, text), over in zip(every, closed, strict=True) if over]
        first = {tuple(text) for _, text in every[: strategy.width]}
        ended += [(s, text) for s, text in new if tuple(text) in first]
        ended = sorted(ended, reverse=True)[: strategy.width]
        grows = [one for one, over in zip(every, closed, strict=True) if not over][: strategy.width]
        if not grows or (len(ended) == strategy.width and grows[0][0] / scale <= ended[-1][0]):
            break
    score, text = ended[0]
    return text, score


def expected(strategy, table, prompts, row, key=0):
    if isinstance(strategy, Beam):
        return beam_text(strategy, table, prompts[row])
    return one_text(strategy, table, prompts, row, key)


@pytest.mark.parametrize("lengths", [(P, P, P), (1, 2, 1)], ids=["even", "ragged"])
@pytest.mark.parametrize("strategy", WAYS, ids=str)
def test_equals_a_plain_loop_without_a_cache(strategy, lengths):
    early = 0
    for seed in TABLES:
        table, prompt = tables(seed)
        texts = written(strategy, table, prompt, lengths, key=seed)
        prompts = [row[:n] for row, n in zip(prompt, lengths, strict=True)]
        for row in range(B):
            text, score = expected(strategy, table, prompts, row, key=seed)
            n = len(text)
            assert texts.lengths[row] == n
            assert texts.tokens[row].tolist() == [*text, *[PAD] * (T - n)]
            np.testing.assert_allclose(texts.score[row], score, rtol=1e-5)
            check_observed(texts.observed, table, row, text)
            early += n < lengths[row] + LENGTH
    assert 0 < early < B * len(TABLES)


def check_observed(observed, table, row, text):
    """What was seen of the text that is kept; the last token is not read."""
    blends = [blended(text[: n + 1]) for n in range(len(text) - 1)]
    want = {"row": np.array(blends), "both": (np.array(text[:-1]), table[blends])}
    for got, read in zip(jax.tree.leaves(observed), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(got[row, : len(read)], read)
        assert not got[row, len(read) :].any()


@pytest.mark.parametrize("strategy", WAYS[1:3], ids=str)
def test_a_row_does_not_change_the_others(strategy):
    table, prompt = tables(0)
    other = prompt.copy()
    other[0] = [2, 3]
    # After this prompt there is the end.
    table[blended(other[0])] = np.where(np.arange(V) == END, 30, 0)
    one, two = written(strategy, table, prompt), written(strategy, table, other)
    assert two.lengths[0] == P + 1
    assert max(two.lengths[1:]) > P + 1
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1:], b[1:]), one, two)


def test_a_wide_beam_finds_the_best_text_of_all():
    vocabulary, length = 5, 4
    strategy = Beam(vocabulary ** (length - 1))
    table, prompt = tables(0, vocabulary)
    write = writer(strategy, None, length)
    texts = write(table, empty(strategy, 1, length), prompt[:1], jnp.array([P]), jax.random.key(0))
    scores = {}
    for words in itertools.product(range(vocabulary), repeat=length):
        text = [*prompt[0], *words]
        gains = [log_probabilities(table, text[:n])[text[n]] for n in range(P, P + length)]
        scores[tuple(text)] = sum(gains) / length
    best = max(scores, key=scores.get)
    assert tuple(texts.tokens[0].tolist()) == best
    np.testing.assert_allclose(texts.score[0], scores[best], rtol=1e-5)


def kept_by_hand(strategy, logits):
    """The words that may be drawn, from their definition."""
    logits = logits.astype(np.float64) / strategy.temperature
    order = np.argsort(-logits)[: strategy.top_k]
    mass = np.exp(logits[order]) / np.exp(logits[order]).sum()
    sizes = [n for n in range(1, len(order) + 1) if mass[:n].sum() >= (strategy.top_p or 2.0)]
    return set(order[: sizes[0] if sizes else None].tolist())


@pytest.mark.parametrize(
    "strategy",
    [
        Sample(),
        Sample(top_k=3),
        Sample(top_k=100),
        Sample(top_p=0.01),
        Sample(top_p=0.6),
        Sample(top_p=1.0),
        Sample(temperature=2.0, top_k=5, top_p=0.8),
    ],
    ids=str,
)
def test_sampling_keeps_exactly_the_likely_words(strategy):
    logits = np.random.default_rng(0).normal(0, 3, (13, 11)).astype(np.float32)
    kept = np.asarray(jax.jit(strategy.kept)(logits))
    there = np.isfinite(kept)
    assert [set(np.flatnonzero(row)) for row in there] == [
        kept_by_hand(strategy, row) for row in logits
    ]
    np.testing.assert_allclose(kept[there], (logits / np.float32(strategy.temperature))[there])


def test_equal_words_at_the_limit():
    logits = jnp.array([[0.0, 1.0, 1.0, 1.0]])
    # As transformers: `top_k` cannot say which of them, `top_p` needs only so much of them.
    assert jnp.isfinite(Sample(top_k=2).kept(logits)).tolist() == [[False, True, True, True]]
    assert jnp.isfinite(Sample(top_p=0.5).kept(logits)).sum() == 2


def test_another_key_needs_no_other_program():
    traces = []

    def step(cache, tokens, position):
        traces.append(position)
        return jnp.zeros((B, V)), cache, None

    call = {"length": LENGTH, "eos_id": None, "strategy": Sample()}
    write = jax.jit(lambda prompt, key: generate(step, (), prompt, key=key, **call))
    prompt = jnp.zeros((B, P), jnp.int32)
    first = write(prompt, jax.random.key(0))
    once = len(traces)
    others = [write(prompt, jax.random.key(seed)) for seed in (1, 2)]
    assert len(traces) == once
    assert first.observed is None
    assert not any((first.tokens == other.tokens).all() for other in others)
    # Rows with the same prompt are drawn independently.
    assert not (first.tokens[0] == first.tokens[1]).all()


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
@pytest.mark.parametrize("strategy", WAYS[1:3], ids=str)
def test_eight_devices_write_the_same_with_a_donated_cache(strategy):
    table, _ = tables(0)
    rows = 8
    prompt = np.random.default_rng(1).integers(2, V, (rows, P)).astype(np.int32)
    lengths = np.full(rows, P)
    key = jax.random.key(0)
    one = writer(strategy)(table, empty(strategy, rows), prompt, lengths, key)
    mesh = jax.make_mesh((rows,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = lambda leaf, *axes: jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*axes)))
    given = (
        place(table),
        place(empty(strategy, rows), None, "data"),
        place(prompt, "data"),
        place(lengths, "data"),
        place(key),
    )
    program = writer(strategy, donate_argnums=1).lower(*given).compile()
    many = program(*given)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(many))
    # Beams that change positions stay on their device.
    assert not re.search(r"s32\[\d+,\d+,\d\S* all-gather", program.as_text())


@pytest.mark.parametrize("strategy", WAYS[:3], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_scores_are_in_float32_or_float64(x64, strategy, dtype):
    call = {"length": LENGTH, "eos_id": END, "strategy": strategy, "key": jax.random.key(0)}
    table = jnp.zeros((M, V), dtype)
    texts = jax.eval_shape(
        lambda cache: generate(toy(table), cache, jnp.zeros((B, P), jnp.int64), **call),
        empty(strategy),
    )
    assert texts.score.dtype == ("float64" if dtype == "float64" else "float32")
    assert texts.tokens.dtype == texts.lengths.dtype == "int32"


def test_beams_go_on_where_many_of_the_best_words_are_ends():
    strategy, ends, differ = Beam(3, length_penalty=4.0), (1, 2, 3), 0
    write = writer(strategy, ends)
    for seed in (3, 4, 8):
        table, prompt = tables(seed)
        table[:, list(ends)] += 1.0
        given = table, empty(strategy), prompt, jnp.full(B, P), jax.random.key(0)
        texts = jax.device_get(write(*given))
        for row in range(B):
            text, score = beam_text(strategy, table, prompt[row], ends, keep=4)
            assert texts.tokens[row, : len(text)].tolist() == text
            np.testing.assert_allclose(texts.score[row], score, atol=1e-5)
            differ += text != beam_text(strategy, table, prompt[row], ends)[0]
    assert differ == 3


def test_the_past_of_beams_is_found_on_its_own_axis():
    """A cache without an axis of layers, whose heads are as many as the rows: (N, K, T, 1)."""
    rows = 2
    strategy = Beam(2)
    plain, prompt = tables(0)[0], np.array([[2, 3], [4, 5]], np.int32)

    def through(cache, tokens, position):
        texts = cache.keys[:, 0, :, 0].astype(jnp.int32)[None]
        logits, texts, _ = toy(jnp.asarray(plain))(texts, tokens, position)
        keys = jnp.broadcast_to(texts[0, :, None, :, None], cache.keys.shape).astype(jnp.float32)
        return logits, KVCache(keys, keys), None

    keys = jnp.zeros((4, 4, P + LENGTH, 1))
    texts = generate(
        through, KVCache(keys, keys), prompt, length=LENGTH, eos_id=END, strategy=strategy
    )
    for row in range(rows):
        text, score = beam_text(strategy, plain, prompt[row])
        assert texts.tokens[row, : len(text)].tolist() == text
        np.testing.assert_allclose(texts.score[row], score, rtol=1e-5)
    with pytest.raises(ValueError, match=r"make it with 4 rows .* at axis 0"):
        generate(
            through,
            KVCache(keys[:3], keys[:3]),
            prompt,
            length=LENGTH,
            eos_id=END,
            strategy=strategy,
        )
