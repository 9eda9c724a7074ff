"""Names of the release before keep working, and say what they are now."""

import jax.numpy as jnp
import pytest

import crossattn
from crossattn import ops
from crossattn.ops import positions

X = jnp.ones((1, 3, 2, 4))


@pytest.mark.parametrize("package", [crossattn, ops])
@pytest.mark.parametrize(
    ("former", "present"),
    [("Trace", "AttentionTrace"), ("Blocks", "BlockSizes"), ("merge", "merge_partials")],
)
def test_names(package, former, present):
    with pytest.warns(DeprecationWarning, match=rf"{former} is now {package.__name__}.{present}"):
        assert getattr(package, former) is getattr(package, present)


def test_coordinates_of_a_grid():
    with pytest.warns(DeprecationWarning, match="positions.grid is now .*grid_coordinates"):
        assert positions.grid is positions.grid_coordinates


@pytest.mark.parametrize(("former", "present"), [("rows", "few_keys"), ("merge", "split_kv")])
def test_implementations(former, present):
    with pytest.warns(DeprecationWarning, match=f"'{former}' is now '{present}'"):
        found = crossattn.attention(X, X, X, implementation=former)
    assert (found == crossattn.attention(X, X, X, implementation=present)).all()


def test_weights_of_a_trace():
    trace = crossattn.attend(X, X, X)[1]
    with pytest.warns(DeprecationWarning, match="rows is now weights"):
        found = trace.rows(jnp.array([1]))
    assert (found == trace.weights(jnp.array([1]))).all()
