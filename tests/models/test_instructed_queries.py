"""InstructBLIP's Q-Former against transformers: queries that read picture and instruction."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.models.instructed_queries import InstructedQueries
from crossattn.nn import presets
from tests.support.drawing import same
from tests.support.text_fixtures import peer, stored

NAME = "instruct_qformer"
PEER = peer(NAME)


def model():
    design = presets.config("qformer")
    design = replace(design, mlp=replace(design.mlp, expansion=12 / 8))
    qformer = presets.build("qformer", width=8, heads=2, layers=3, queries=3, config=design)
    return InstructedQueries(qformer, vocab_size=24, length=9)


def test_queries_are_those_of_the_class():
    params = jax.tree.map(jnp.asarray, huggingface.load(PEER.state, NAME))
    given = {name: jnp.asarray(array) for name, array in PEER.arrays.items()}

    @jax.jit
    def read(tokens):
        return model().apply(params, given["picture"], tokens, there=given["there"])

    queries, traces = read(given["tokens"])
    np.testing.assert_allclose(queries, given["read"][:, :3], atol=1e-5)
    assert len(traces) == 2
    hidden = jnp.where(given["there"], given["tokens"], 5)
    np.testing.assert_array_equal(read(hidden)[0], queries)
    other = given["tokens"].at[:, 0].add(-1)
    assert np.abs(read(other)[0] - queries).max() > 1e-3  # the instruction is read
    bad = read(given["tokens"].at[0, 0].set(99))[0]
    assert np.isnan(bad[0]).all()
    np.testing.assert_array_equal(bad[1], queries[1])


def test_names_go_both_ways_and_half_of_them_are_refused(tmp_path):
    params = huggingface.load(PEER.state, NAME)
    same(PEER.state, huggingface.tensors(params, NAME))
    alone = {name.removeprefix("qformer."): one for name, one in PEER.state.items()}
    del alone["query_tokens"]
    assert "queries" not in huggingface.load(alone, NAME)["params"]["qformer"]
    for name in ("query_tokens", "qformer.embeddings.word_embeddings.weight"):
        rest = {key: one for key, one in PEER.state.items() if key != name}
        with pytest.raises(ImportMismatchError, match=f"missing +{name}"):
            huggingface.load(rest, NAME)
    config = {"qformer_config": PEER.config["qformer_config"] | {"num_attention_heads": 3}}
    with pytest.raises(ImportMismatchError, match=r"num_attention_heads +3 +a divisor of 8"):
        huggingface.load(stored(tmp_path, PEER.state, config), NAME)


def test_more_words_than_positions_are_refused():
    with pytest.raises(ValueError, match="10 words, but there are positions for 9"):
        jax.eval_shape(
            lambda: model().init(jax.random.key(0), jnp.ones((1, 2, 10)), jnp.ones((1, 10), int))
        )
