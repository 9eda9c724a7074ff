"""Layers that read the context among layers that read the text alone."""

import dataclasses

import jax
import numpy as np
import pytest

from crossattn.models.joining import SparseBlock
from crossattn.nn import Block, presets


@pytest.mark.parametrize("at", range(3))
def test_the_layer_that_reads_stands_where_it_is_told(at):
    block = presets.config("encoder_decoder_pre")
    words, context = jax.random.normal(jax.random.key(0), (2, 3, 5, 8))
    group = SparseBlock(8, 2, block, 3, at)
    plain = {"self_mask": None, "query_positions": None}
    params = group.init(jax.random.key(1), words, context, **plain)["params"]
    assert set(params) == {"reading", *(f"text{n}" for n in range(3) if n != at)}
    text = dataclasses.replace(block, order=("self", "mlp"))

    @jax.jit
    def one_by_one(params, x):
        for number in range(3):
            if number == at:
                x, _ = Block(8, 2, block).apply({"params": params["reading"]}, x, context)
            else:
                x, _ = Block(8, 2, text).apply({"params": params[f"text{number}"]}, x, None)
        return x

    found, _ = group.apply({"params": params}, words, context, **plain)
    np.testing.assert_allclose(found, one_by_one(params, words), atol=1e-6)
