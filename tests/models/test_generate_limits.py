"""Writing texts: what generate refuses, and what it does where nothing can be written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.generate import Beam, Greedy, Sample, generate
from crossattn.models.logits import ForceTokens, RepetitionPenalty
from tests.support.toys import M, toy

B, P, V, LENGTH = 3, 2, 7, 5
END, PAD = 1, 9


@pytest.mark.parametrize("strategy", [Greedy(), Sample(), Beam(2)], ids=str)
def test_where_no_word_is_possible_the_prompt_stays(strategy):
    # The next word is the next number; after 3 there is none.
    def step(cache, tokens, position):
        logits = jnp.where(jax.nn.one_hot(tokens + 1, V) > 0, 0.0, -jnp.inf)
        return jnp.where((tokens == 3)[:, None], cache[0], logits), cache, tokens

    call = {"length": 4, "eos_id": 6, "pad_id": PAD, "strategy": strategy, "key": jax.random.key(1)}
    write = jax.jit(lambda said, prompt: generate(step, said, prompt, **call))
    prompt = jnp.array([[0, 3], [0, 2], [4, 5]])
    some = jnp.full((1, 3 * strategy.beams, V), -jnp.inf)
    for said, score in ((some, -np.inf), (some * 0, np.nan), (-some, np.nan)):
        for one in (said, said.at[..., 2].set(jnp.where(score == score, -jnp.inf, said[..., 2]))):
            texts = jax.device_get(write(one, prompt))
            np.testing.assert_array_equal(texts.score[:2], [score, score])
            np.testing.assert_array_equal(texts.lengths[:2], [2, 3])
            assert texts.tokens[:2].tolist() == [[0, 3, *[PAD] * 4], [0, 2, 3, *[PAD] * 3]]
            assert texts.observed[:2].tolist() == [[0, 3, 0, 0, 0, 0], [0, 2, 3, 0, 0, 0]]
            assert np.isfinite(texts.score[2])
            assert texts.tokens[2].tolist() == [4, 5, 6, *[PAD] * 3]


def test_beams_out_of_the_race_may_say_what_they_want():
    # Only the next number can be written: the second beam holds words that nobody chose.
    def step(cache, tokens, position):
        logits = jnp.where(jax.nn.one_hot(tokens + 1, V) > 0, 0.0, -jnp.inf)
        stray = (tokens != position + 2)[:, None]
        return jnp.where(stray, jnp.nan, logits), cache, stray

    texts = generate(step, (), [[2]], length=4, eos_id=5, pad_id=PAD, strategy=Beam(2))
    assert texts.tokens.tolist() == [[2, 3, 4, 5, PAD]]
    assert texts.score.tolist() == [0]


def test_numbers_known_only_to_the_program_spoil_the_score_of_their_row():
    call = {"length": 2, "eos_id": None}
    step = lambda cache, tokens, position: (jax.nn.one_hot(tokens, V), cache, None)
    write = jax.jit(lambda prompt, lengths: generate(step, (), prompt, lengths=lengths, **call))
    prompt = jnp.array([[1, 2], [1, V], [V, 2], [-1, 2], [1, 2], [1, 2], [1, -100], [1, 2]])
    texts = write(prompt, jnp.array([2, 2, 2, 2, 0, 3, 1, -1], "int8"))
    # What stands behind a prompt is not read.
    np.testing.assert_array_equal(np.isnan(texts.score), [0, 1, 1, 1, 1, 1, 0, 1])


@pytest.mark.parametrize(
    "several", [(5, 3), [5, 3, 5], np.array([3, 5]), jnp.array([5, 3])], ids=str
)
@pytest.mark.parametrize("strategy", [Greedy(), Beam(2)], ids=str)
def test_each_of_several_ends_ends_a_text(strategy, several):
    step = lambda cache, tokens, position: (9.0 * jax.nn.one_hot(tokens + 1, V), cache, None)
    call = {"length": 4, "pad_id": PAD, "strategy": strategy}
    texts = generate(step, (), [[0], [4]], eos_id=several, **call)
    assert texts.tokens.tolist() == [[0, 1, 2, 3, PAD], [4, 5, PAD, PAD, PAD]]
    if isinstance(several, jax.Array):
        within = jax.jit(lambda end: generate(step, (), [[0], [4]], eos_id=end, **call))
        np.testing.assert_array_equal(within(several).tokens, texts.tokens)


def test_settings_may_be_numbers_of_numpy(unchecked):
    one = Sample(temperature=np.float64(0.5), top_k=np.int64(2), top_p=np.float32(1.0))
    assert one == Sample(temperature=0.5, top_k=2, top_p=1.0)
    assert hash(one) == hash(Sample(temperature=0.5, top_k=2, top_p=1.0))
    assert one.kept(jnp.array([[1.0, 2.0, 0.0]])).tolist() == [[2, 4, -np.inf]]
    assert Beam(np.int32(2), np.float64(0.5)) == Beam(2, 0.5)
    penalty = RepetitionPenalty(np.float64(2.0))
    assert hash((penalty, ForceTokens({1: np.int64(2)}))) == hash(
        (RepetitionPenalty(2.0), ForceTokens([[1, [2]]]))
    )
    step = lambda cache, tokens, position: (jax.nn.one_hot(tokens + 1, V), cache, None)
    given = {"eos_id": np.int64(6), "length": np.int32(2), "pad_id": np.uint8(9), "logits": penalty}
    texts = generate(step, (), [[0]], strategy=Beam(np.int32(2), np.float64(0.5)), **given)
    assert texts.tokens.tolist() == [[0, 1, 2]]


def test_prompts_may_be_lists_and_other_integers():
    step = lambda cache, tokens, position: (9.0 * jax.nn.one_hot(tokens + 1, V), cache, None)
    write = lambda prompt: generate(step, (), prompt, length=2, eos_id=None).tokens.tolist()
    for prompt in ([[1], [2]], ((1,), (2,)), np.array([[1], [2]], np.uint8), np.array([[1], [2]])):
        assert write(prompt) == [[1, 2, 3], [2, 3, 4]]


def attempt(**change):
    call = {
        "step": toy(jnp.zeros((M, V))),
        "cache": jnp.zeros((1, B, P + LENGTH), jnp.int32),
        "length": LENGTH,
        "eos_id": END,
    }
    call |= {"prompt": jnp.zeros((B, P), jnp.int32)} | change
    return generate(**call)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Sample(temperature=0.0), "write Greedy"),
        (lambda: Sample(top_k=0), "top_k is at least 1"),
        (lambda: Sample(top_p=0.0), "top_p is above 0"),
        (lambda: Sample(top_p=1.5), "at most 1"),
        (lambda: Beam(0), "width is at least 1"),
        (lambda: Beam(length_penalty=float("nan")), "length_penalty is finite"),
        (lambda: attempt(prompt=jnp.zeros((B, 0), jnp.int32)), "prompt is empty"),
        (lambda: attempt(length=0), "length is at least 1, got 0"),
        (lambda: attempt(strategy=Sample()), "needs a key"),
        (lambda: attempt(strategy=Beam(2)), r"make it with 6 rows \(3 texts of 2 beams\)"),
        (lambda: attempt(cache={"at": jnp.zeros(())}), r"cache\['at'\] has shape \(\)"),
        (lambda: attempt(step=lambda *_: (jnp.zeros((B, 1, V)), None, None)), "N = 3"),
    ],
)
def test_impossible_calls(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: attempt(prompt=[[1.5], [2], [3]]), "prompt holds integers, got float64"),
        (lambda: attempt(prompt=jnp.ones((B, P))), "prompt holds integers, got float32"),
        (lambda: attempt(prompt=jnp.ones((B, P), bool)), "prompt holds integers"),
        (lambda: attempt(prompt=[[True], [2], [3]]), "prompt holds integers"),
        (lambda: attempt(prompt=[["a"], ["b"], ["c"]]), "prompt holds integers"),
        (lambda: attempt(prompt=[[1, 2], [1], [2]]), "rows of different lengths"),
        (lambda: attempt(prompt=[1, 2, 3]), r"a row for each text, got shape \(3,\)"),
        (lambda: attempt(prompt=[[], [], []]), "prompt is empty"),
        (lambda: attempt(prompt=[[1, 7], [1, 2], [1, 2]]), "token 7 of the prompt is outside"),
        (lambda: attempt(prompt=[[1, -1], [1, 2], [1, 2]]), "token -1 of the prompt is outside"),
        (lambda: attempt(prompt=np.full((B, P), 2**32 + 1)), "token 4294967297 of the prompt"),
        (lambda: attempt(lengths=[3, 2, 2]), "lengths are 1 to 2, .* got 3"),
        (lambda: attempt(lengths=[0, 2, 2]), "lengths are 1 to 2, .* got 0"),
        (lambda: attempt(lengths=jnp.array([2, -1, 2])), "lengths are 1 to 2, .* got -1"),
        (lambda: attempt(lengths=[1.0, 2.0, 2.0]), "lengths holds integers"),
        (lambda: attempt(lengths=[1, 2]), r"lengths are \(3,\), one for each prompt"),
        (lambda: attempt(lengths=2), r"lengths are \(3,\), one for each prompt"),
        (lambda: attempt(eos_id="x"), "eos_id holds integers, got 'x'"),
        (lambda: attempt(eos_id=1.5), "eos_id holds integers, got 1.5"),
        (lambda: attempt(eos_id=True), "eos_id holds integers, got True"),
        (lambda: attempt(eos_id=(1, True)), "eos_id holds integers"),
        (lambda: attempt(eos_id=jnp.array([1.0])), "eos_id holds integers"),
        (lambda: attempt(eos_id=()), "eos_id is a token or several of them"),
        (lambda: attempt(eos_id=jnp.array([[1]])), r"eos_id is a token or .* got shape \(1, 1\)"),
        (
            lambda: attempt(eos_id=-1),
            "eos_id -1 is outside of the vocabulary of the logits, 0 to 6",
        ),
        (lambda: attempt(eos_id=(1, 7)), "eos_id 7 is outside of the vocabulary"),
        (lambda: attempt(pad_id=0.5), "pad_id is an integer, got 0.5"),
        (lambda: attempt(pad_id="<pad>"), "pad_id is an integer"),
        (lambda: attempt(pad_id=True), "pad_id is an integer, got True"),
        (lambda: attempt(length=1.5), "length is an integer, got 1.5"),
        (lambda: attempt(length=True), "length is an integer, got True"),
        (lambda: attempt(strategy="greedy"), r"strategy is Greedy\(\), .* got 'greedy'"),
        (lambda: attempt(strategy=Greedy), r"strategy is Greedy\(\), .* got <class"),
        (lambda: attempt(logits=1.5), "logits takes a hook or several of them, got 1.5"),
        (lambda: attempt(logits=[2]), r"logits takes a hook or several of them, got \[2\]"),
        (lambda: Sample(temperature=float("nan")), "temperature is finite"),
        (lambda: Sample(temperature=1e-46), "temperature is above 0"),
        (lambda: Sample(temperature="1"), "temperature is a number"),
        (lambda: Sample(temperature=True), "temperature is a number"),
        (lambda: Sample(top_k=1.5), "top_k is an integer, got 1.5"),
        (lambda: Sample(top_k=True), "top_k is an integer, got True"),
        (lambda: Sample(top_p=float("nan")), "top_p is finite"),
        (lambda: Sample(top_p=True), "top_p is a number"),
        (lambda: Beam(1.5), "width is an integer, got 1.5"),
        (lambda: Beam(True), "width is an integer, got True"),
        (lambda: Beam(length_penalty="1"), "length_penalty is a number"),
        (lambda: Beam(length_penalty=float("inf")), "length_penalty is finite"),
    ],
)
def test_what_is_no_integer_or_out_of_range_is_refused(unchecked, call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()
