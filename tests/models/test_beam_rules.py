"""Beam search as Whisper's runtimes have it, against a search over lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.generate import Beam, generate

V, END, LENGTH, WIDTH, TEXTS = 7, 1, 6, 3, 60
RNG = np.random.default_rng(0)
# Logits after each pair of words, for each text.
TABLES = RNG.normal(size=(TEXTS, V, V, V)).astype(np.float32) * 1.5
TABLES[..., END] += 1


def searched(table, penalty, early, count_end):
    """Tokens behind the prompt (2,), the end included, and the score."""
    said = np.log(np.exp(table) / np.exp(table).sum(-1, keepdims=True))
    beams, done = [((2,), 0.0)], []
    for step in range(LENGTH):
        every = [
            ((*words, new), score + said[words[-2] if len(words) > 1 else 0, words[-1], new])
            for words, score in beams
            for new in range(V)
        ]
        every.sort(key=lambda one: -one[1])
        last, beams = step == LENGTH - 1, []
        for place, (words, score) in enumerate(every[: 2 * WIDTH]):
            if words[-1] == END or last:
                if place < WIDTH:
                    ended = words[-1] == END and not count_end
                    done.append((words[1:], score / max(step + 1 - ended, 1) ** penalty))
            elif len(beams) < WIDTH:
                beams.append((words, score))
        done.sort(key=lambda one: -one[1])
        enough = len(done) >= WIDTH
        if not early and not last:
            enough = enough and beams[0][1] / (step + 1) ** penalty <= done[WIDTH - 1][1]
        if last or enough:
            return done[0]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize(("early", "count_end"), [(True, False), (True, True), (False, True)])
def test_rules(penalty, early, count_end):
    wanted = [searched(table, penalty, early, count_end) for table in TABLES]
    tables = jnp.repeat(jnp.asarray(TABLES), WIDTH, axis=0)
    rows = jnp.arange(len(tables))

    def step(cache, tokens, position):
        (before,) = cache
        return tables[rows, before[0], tokens], (tokens[None],), None

    def write(prompt):
        cache = (jnp.zeros((1, len(tables)), jnp.int32),)
        how = Beam(WIDTH, penalty, early_stopping=early, count_end=count_end)
        return generate(step, cache, prompt, length=LENGTH, eos_id=END, strategy=how)

    texts = jax.jit(write)(jnp.full((TEXTS, 1), 2))
    for row, (words, score) in enumerate(wanted):
        assert texts.tokens[row, 1 : int(texts.lengths[row])].tolist() == list(words), row
        np.testing.assert_allclose(texts.score[row], score, rtol=1e-5)


def test_the_rules_differ():
    """On these texts, so that the test above can tell them apart."""
    rules = [(True, False), (True, True), (False, True)]
    texts = [[searched(table, 1.0, *rule)[0] for table in TABLES] for rule in rules]
    assert texts[0] != texts[1] != texts[2] != texts[0]
