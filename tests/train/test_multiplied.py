"""A learning rate of its own for a part of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.train.freezing import FrozenError
from crossattn.train.optimizer import optimizer_of
from crossattn.train.run import Optimizer


@jax.numpy_dtype_promotion("standard")  # of optax
@pytest.mark.parametrize("more", [{}, {"frozen": "words"}])
@pytest.mark.parametrize("text_steps", [0, 2])
def test_a_part_learns_at_a_rate_of_its_own(more, text_steps):
    params = {"words": jnp.ones(3), "layer": {"gate": jnp.ones(2), "gate_scale": jnp.ones(2)}}
    gradient = jax.tree.map(jnp.sin, params)
    plain = optimizer_of(Optimizer(**more), 20, text_steps)
    faster = optimizer_of(
        Optimizer(multiplied="layer/gate", rate_multiplier=7.0, **more), 20, text_steps
    )
    states = [plain.init(params), faster.init(params)]
    for _ in range(4):
        (wanted, states[0]), (found, states[1]) = (
            one.update(gradient, state, params)
            for one, state in zip((plain, faster), states, strict=True)
        )
        wanted["layer"]["gate"] = 7 * wanted["layer"]["gate"]
        jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert found["layer"]["gate"].any()
    with pytest.raises(FrozenError, match=r"optimizer\.multiplied: no .*'gat': near are gate"):
        optimizer_of(Optimizer(multiplied="gat"), 20).init(params)
