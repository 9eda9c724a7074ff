"""What nobody sees influences nothing: not as a value, a gradient, NaN or Inf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask, attend
from tests.support.cases import IMPLEMENTATIONS, Call, drawn, everything, inputs, kinds, run

CALLS = (Call(bias="BHTS", softcap=1.3), Call(H=6, bias="BHTS"))


def visible_of(call, arrays, leaves):
    visible = drawn(leaves) & (arrays["bias"] != -np.inf)
    group = visible.reshape(call.B, call.K, -1, call.T, call.S)
    # keys (B, S, K), queries (B, T, H)
    return visible, group.any((2, 3)).swapaxes(1, 2), visible.any(3).swapaxes(1, 2)


def poisoned(call, arrays, leaves, poison):
    """Everything that no query sees, and everything of queries that see nothing, replaced."""
    visible, keys, queries = visible_of(call, arrays, leaves)
    out = dict(arrays)
    for name in "kv":
        out[name] = np.where(keys[..., None], arrays[name], poison)
    for name in ("q", "out"):
        out[name] = np.where(queries[..., None], arrays[name], poison)
    out["lse"] = np.where(queries.swapaxes(1, 2), arrays["lse"], poison)
    hidden = drawn(leaves) | np.isneginf(arrays["bias"])
    out["bias"] = np.where(hidden, arrays["bias"], poison)
    return out, visible


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e4])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_nothing_leaks(call, poison, implementation):
    arrays = inputs(call)
    arrays["bias"][:, :, :, 3] = -np.inf  # hides as a mask does
    for kind, leaves in kinds(call).items():
        bad, visible = poisoned(call, arrays, leaves, poison)
        wanted = run(call, arrays, leaves, implementation, np.float32)
        found = run(call, bad, leaves, implementation, np.float32)
        for name, want in wanted.items():
            assert np.array_equal(found[name], want), (kind, name)
            assert name == "lse" or np.isfinite(want).all(), (kind, name)
        _, keys, queries = visible_of(call, arrays, leaves)
        assert not found["dk"][~keys].any(), kind
        assert not found["dv"][~keys].any(), kind
        assert not found["dq"][~queries].any(), kind
        assert not found["out"][~queries].any(), kind
        assert not found["dbias"][~visible].any(), kind


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_poison_is_planted(implementation):
    """The test above poisons something of every array, and unmasked it would be seen."""
    call = CALLS[0]
    arrays, leaves = inputs(call), kinds(call)["lengths"]
    bad, _ = poisoned(call, arrays, leaves, np.nan)
    assert all(np.isnan(bad[name]).any() for name in arrays)
    found = run(call, bad, everything(call), implementation, np.float32)
    assert all(np.isnan(x).any() for x in found.values())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_key_changes_only_the_queries_that_see_it(implementation):
    call = CALLS[1]
    arrays = inputs(call)
    for leaves in kinds(call).values():
        visible = drawn(leaves)
        wanted = run(call, arrays, leaves, implementation, np.float32)
        for j in (0, call.S - 1):
            moved = {n: x.copy() for n, x in arrays.items()}
            moved["k"][:, j] += 3
            moved["v"][:, j] -= 5
            found = run(call, moved, leaves, implementation, np.float32)
            sees = visible[..., j].swapaxes(1, 2)
            changed = (found["out"] != wanted["out"]).any(3)
            assert np.array_equal(changed & ~sees, np.zeros_like(sees))
            assert changed[sees].all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_gradient_across_examples_or_hidden_pairs(implementation):
    """d out[b, i] / d v[c, j] is nothing unless b == c and i sees j; T != S."""
    q, k, v = (jnp.asarray(inputs(Call())[n], jnp.float32) for n in "qkv")

    def per_query(v):
        out, _ = attend(q, k, v, mask=Mask.causal(2), implementation=implementation)
        return out.sum((2, 3))

    jacobian = np.asarray(jax.jacrev(per_query)(v)).any((4, 5))  # (B, T, B, S)
    sees = np.arange(5)[:, None] + 2 >= np.arange(7)
    for b, c in np.ndindex(2, 2):
        assert np.array_equal(jacobian[b, :, c], sees & (b == c))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_second_derivatives_do_not_leak(implementation):
    call = Call()
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(call).items()}
    mask = Mask.lengths(query=jnp.array([5, 2]), key=jnp.array([0, 3]))

    def penalty(q, k, v):
        def loss(q, k, v):
            out, _ = attend(q, k, v, mask=mask, implementation=implementation)
            return jnp.sum(jnp.sin(out))

        return sum(jnp.sum(g**2) for g in jax.grad(loss, (0, 1, 2))(q, k, v))

    second = jax.jit(jax.grad(penalty, (0, 1, 2)))
    wanted = second(*(arrays[n] for n in "qkv"))
    bad = {n: arrays[n].at[0].set(jnp.nan) for n in "qkv"}
    bad["q"] = bad["q"].at[1, 2:].set(jnp.nan)
    bad |= {n: bad[n].at[1, 3:].set(jnp.nan) for n in "kv"}
    for found, want in zip(second(*(bad[n] for n in "qkv")), wanted, strict=True):
        assert np.array_equal(found, want)
        assert np.isfinite(want).all()


def test_padding_equals_cutting():
    """A ragged batch computes what each example would alone."""
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(Call()).items()}
    queries, keys = (5, 2), (3, 7)
    mask = Mask.lengths(jnp.array(queries), jnp.array(keys))
    together, _ = attend(arrays["q"], arrays["k"], arrays["v"], mask=mask)
    for b, (t, s) in enumerate(zip(queries, keys, strict=True)):
        alone, _ = attend(arrays["q"][b : b + 1, :t], *(arrays[n][b : b + 1, :s] for n in "kv"))
        np.testing.assert_allclose(together[b, :t], alone[0], atol=1e-6)
        assert not np.asarray(together[b, t:]).any()
