"""Hooks of the logits and several end tokens: texts and scores that transformers wrote."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.generate import Beam, Greedy, Sample, generate
from crossattn.models.logits import ForceTokens, NoRepeatNGrams, RepetitionPenalty, SuppressTokens
from tests.support.toys import toy

FIXTURE = dict(np.load(Path(__file__).parents[1] / "fixtures" / "generation.npz"))
ABOUT = json.loads(str(FIXTURE["about"]))
LENGTH, PAD = ABOUT["length"], -7
TABLES = [name for name in ABOUT["cases"] if name != "whisper"]


def hooks(options, P=1):
    """Those of transformers' options, in its order."""
    first = 2 if "forced_bos_token_id" in options and P == 1 else 1
    forced = {"forced_bos_token_id": 1, "forced_eos_token_id": LENGTH}
    forced = {at: options[name] for name, at in forced.items() if name in options}
    made = {
        "repetition_penalty": RepetitionPenalty,
        "no_repeat_ngram_size": NoRepeatNGrams,
        "suppress_tokens": SuppressTokens,
        "begin_suppress_tokens": lambda tokens: SuppressTokens(tokens, at=first),
    }
    made = {name: make(options[name]) for name, make in made.items() if name in options}
    inner = [made[name] for name in ("repetition_penalty", "no_repeat_ngram_size") if name in made]
    outer = [made[name] for name in made if "suppress" in name]
    return (*inner, *([ForceTokens(forced)] if forced else []), *outer)


def ways():
    return {"greedy": Greedy(), "beam": Beam(ABOUT["beam"]["num_beams"])}


@pytest.mark.parametrize("search", ways())
@pytest.mark.parametrize("case", TABLES)
def test_tables_write_what_transformers_wrote(case, search):
    options = ABOUT["cases"][case]
    strategy, given = ways()[search], {key: FIXTURE[f"{case}/{key}"] for key in ("table", "prompt")}
    _, B, P = given["prompt"].shape
    call = {
        "length": LENGTH,
        "eos_id": options.get("eos_token_id", 1),
        "pad_id": PAD,
        "strategy": strategy,
    }

    @jax.jit
    def write(table, prompt):
        cache = jnp.zeros((1, B * strategy.beams, P + LENGTH), jnp.int32)
        return generate(toy(table), cache, prompt, **call, logits=hooks(options, P))

    wanted, scores = (FIXTURE[f"{case}/{search}/{key}"] for key in ("tokens", "scores"))
    for seed, (table, prompt) in enumerate(zip(*given.values(), strict=True)):
        texts = jax.device_get(write(table.astype(np.float32), prompt))
        check(texts, wanted[seed], scores[seed], P, call["eos_id"])


def check(texts, tokens, scores, P, end):
    """The same texts and scores; behind the first end there is the pad."""
    tokens = tokens[:, : P + LENGTH]
    ended = np.isin(tokens, end)
    ended[:, :P] = False
    counts = np.cumsum(np.cumsum(ended, axis=1), axis=1) < 2
    assert 0 < (~counts[:, -1]).sum() < len(tokens)
    np.testing.assert_array_equal(texts.tokens, np.where(counts, tokens, PAD))
    np.testing.assert_array_equal(texts.lengths, counts.sum(axis=1))
    np.testing.assert_allclose(texts.score, scores, rtol=2e-5, atol=2e-5)


def told():
    """What a hook of one's own is told under beams: each text in a row of logits of its own."""
    B, T, lengths = 2, 6, jnp.array([1, 2])
    strategy = Beam(2)

    def step(cache, tokens, position):
        cache = cache.at[0, :, position].set(tokens)
        logits = jnp.sin(
            (cache[0].sum(1)[:, None] * 7 + jnp.arange(5)[None] * 3).astype(jnp.float32)
        )
        return logits.astype(jnp.bfloat16), cache, None

    def hook(logits, text):
        # A logit depends on the whole text, as the hook sees it, and a word is taken away.
        told = jnp.where(text.tokens < 0, 0, text.tokens).sum(1)
        rows = {"tokens": text.tokens, "count": text.count, "lengths": text.lengths}
        jax.debug.callback(lambda **row: seen.append(row), **rows, told=told, logits=logits)
        return jnp.where((jnp.arange(5) == 3)[None], -jnp.inf, logits)

    seen = []
    cache = jnp.zeros((1, B * 2, T), jnp.int32)
    call = {"length": 4, "eos_id": None, "strategy": strategy, "lengths": lengths}
    texts = generate(step, cache, [[4, 0], [1, 2]], **call, logits=hook)
    jax.effects_barrier()
    return jax.device_get(texts), [jax.device_get(row) for row in seen]


def test_a_hook_is_told_the_texts_of_its_beams():
    texts, seen = told()
    assert len(seen) == 5
    for position, row in enumerate(seen, 1):
        assert (row["tokens"][:, :position] >= 0).all()
        assert (row["tokens"][:, position:] == -1).all()
        np.testing.assert_array_equal(row["lengths"], [1, 1, 2, 2])
        np.testing.assert_array_equal(row["count"], position + 1 - row["lengths"])
        # The words that the hook sees are those that the step has in its cache.
        logits = np.sin(row["told"][:, None] * 7.0 + np.arange(5) * 3)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        assert row["logits"].dtype == np.float32
        np.testing.assert_allclose(row["logits"], log_p, atol=0.02)
    np.testing.assert_array_equal(seen[0]["tokens"][:, 0], [4, 4, 1, 1])
    np.testing.assert_array_equal(seen[1]["tokens"][2:, 1], [2, 2])
    assert not (texts.tokens == 3).any()


def test_hooks_are_called_in_order_for_every_row_at_its_own_place():
    step = lambda cache, tokens, position: (jnp.zeros((2, 5)), cache, None)
    hooks = [ForceTokens({1: (2, 3), 2: 4}), SuppressTokens(2, at=1)]
    call = {"length": 3, "eos_id": 4, "key": jax.random.key(0), "strategy": Sample(), "pad_id": 9}
    texts = generate(step, (), [[0, 1], [0, 0]], lengths=[2, 1], **call, logits=hooks)
    assert texts.tokens.tolist() == [[0, 1, 3, 4, 9], [0, 3, 4, 9, 9]]
    # Sums of the logits after the hooks: each word was the only one.
    assert texts.score.tolist() == [0, 0]
    # All words are gone: the second is not written.
    gone = generate(step, (), [[0], [1]], **call, logits=SuppressTokens(range(5), at=2))
    assert gone.lengths.tolist() == [2, 2]
    assert gone.tokens[:, 2:].tolist() == [[9, 9], [9, 9]]


def attempt(hook):
    step = lambda cache, tokens, position: (jnp.zeros((1, 5)), cache, None)
    return generate(step, (), [[0]], length=2, eos_id=None, logits=hook)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SuppressTokens(()), "a token or several of them, got shape"),
        (lambda: SuppressTokens("a"), "holds integers, got 'a'"),
        (lambda: SuppressTokens(1.5), "holds integers, got 1.5"),
        (lambda: SuppressTokens(1, at=0), "at is at least 1"),
        (lambda: SuppressTokens(1, at=True), "at is an integer"),
        (lambda: ForceTokens(7), r"takes \{number: token\}"),
        (lambda: ForceTokens({0: 7}), "is at least 1"),
        (lambda: ForceTokens({1: 0.5}), "holds integers"),
        (lambda: RepetitionPenalty(0.0), "penalty is above 0"),
        (lambda: RepetitionPenalty(float("nan")), "penalty is finite"),
        (lambda: NoRepeatNGrams(0), "size is at least 1"),
        (lambda: NoRepeatNGrams(2.0), "size is an integer"),
        (lambda: attempt(SuppressTokens((1, 5))), "token 5 is outside of the vocabulary, 0 to 4"),
        (lambda: attempt(ForceTokens({1: -1})), "token -1 is outside of the vocabulary"),
        (lambda: attempt(lambda logits, text: logits[:, 0]), r"returned \(1,\), it was given"),
    ],
)
def test_impossible_hooks(unchecked, call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()
