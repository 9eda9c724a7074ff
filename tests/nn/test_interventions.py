"""Interventions in one attention: what it computes is captured, replaced, cut and perturbed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import CrossAttention
from crossattn.nn.config import ExtraKeys, Logits
from crossattn.nn.stack import Stack
from tests.support.families import some_quick

B, T, S, M, H = 2, 3, 5, 8, 4
DESIGNS = {
    "plain": {},
    "grouped": {"key_value_heads": 2},
    "sinks and registers": {"extra_keys": ExtraKeys(sink=True, registers=2, bias_kv=True)},
    "zero key": {"extra_keys": ExtraKeys(zero_attn=True)},
    "talking": {"logits": Logits(talking=True)},
    "soft-cap, norm, head gate": {"logits": Logits(softcap=2.0, norm="rms"), "head_gate": True},
    "slots": {"logits": Logits(competition="queries")},
}


@pytest.fixture(scope="module")
def given():
    one, two = jax.random.normal(jax.random.key(0), (2, B, S, M))
    return one[:, :T], two


def filled(module, given):
    variables = jax.eval_shape(module.init, jax.random.key(1), *given)
    assert list(variables) == ["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.5, p.shape), p.dtype), variables)


QUICK = ("plain", "sinks and registers", "talking")


@pytest.mark.parametrize("design", some_quick(DESIGNS, QUICK))
def test_what_is_captured_is_what_the_kernel_computes(design, given):
    module = CrossAttention(width=M, heads=H, **DESIGNS[design])
    params, mask = filled(module, given), Mask.lengths(key=jnp.array([S, 2]))
    captured = jax.jit(functools.partial(module.apply, mask=mask, mutable=["activations"]))
    y, _ = module.apply(params, *given, mask=mask)
    (z, _), found = captured(params, *given)
    np.testing.assert_allclose(y, z, atol=2e-6)
    activations = found["activations"]
    shapes = {name: x.shape for name, x in activations.items()}
    assert shapes == {
        "map": (B, H, T, S),
        "values": (B, H, S, M // H),
        "output": (B, H, T, M // H),
    }
    (w, _), again = captured({**params, "interventions": activations}, *given)
    assert jax.tree.all(jax.tree.map(np.array_equal, (z, found), (w, again)))


def test_a_replaced_map_reads_the_values(given):
    module = CrossAttention(width=M, heads=H)
    params = filled(module, given)
    look = lambda entries: module.apply(
        {**params, "interventions": entries}, *given, mutable=["activations"]
    )
    only = jnp.zeros((1, 1, 1, S)).at[..., 2].set(1.0)  # every query looks at token 2
    one_head = jnp.arange(H).reshape(1, H, 1, 1) == 1
    _, found = look({"map": only, "map_where": one_head})
    read, values = found["activations"]["output"], found["activations"]["values"]
    np.testing.assert_allclose(read[:, 1], jnp.broadcast_to(values[:, 1, 2:3], (B, T, M // H)))
    _, before = module.apply(params, *given, mutable=["activations"])
    np.testing.assert_array_equal(read[:, 0], before["activations"]["output"][:, 0])


def test_a_cut_edge_leaks_nothing(given):
    """Neither its key nor its value count, as numbers, as NaN or in a gradient."""
    module = CrossAttention(width=M, heads=H)
    params, (x, context) = filled(module, given), given
    edges = jnp.zeros((1, 1, 1, S), bool).at[..., 3].set(True)
    cut = {**params, "interventions": {"edges": edges}}
    here = [*range(3), 4]
    want, _ = module.apply(params, x, context[:, here])
    broken = context.at[:, 3].set(jnp.nan)
    for named in ({}, {"mutable": ["activations"]}):

        def total(x, context, named=named):
            found = module.apply(cut, x, context, **named)
            y = jax.tree.leaves(found)[0]
            return y.sum(), (y, found)

        slopes = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
        (dx, dcontext), (y, found) = slopes(x, broken)
        np.testing.assert_allclose(y, want, atol=1e-6)
        assert jnp.isfinite(dx).all()
        assert (dcontext[:, 3] == 0).all()
        assert jnp.isfinite(dcontext).all()
    maps = found[1]["activations"]["map"]
    assert (maps[..., 3] == 0).all()
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-6)


def test_a_query_without_edges_reads_nothing(given):
    module = CrossAttention(width=M, heads=H)
    params = filled(module, given)
    edges = jnp.zeros((1, 1, T, 1), bool).at[:, :, 1].set(True)
    cut = {**params, "interventions": {"edges": edges}}
    (y, trace), found = module.apply(cut, *given, mutable=["activations"])
    assert (found["activations"]["output"][:, :, 1] == 0).all()
    np.testing.assert_allclose(y[:, 1], jnp.broadcast_to(params["params"]["out"]["bias"], (B, M)))
    assert not trace.valid[:, :, 1].any()
    # Nor does it read what is patched in.
    patched = {"edges": edges, "map": jnp.ones((1, 1, 1, S)) / S}
    (z, _), _ = module.apply({**params, "interventions": patched}, *given, mutable=["activations"])
    np.testing.assert_array_equal(z[:, 1], y[:, 1])


def test_the_gradient_of_the_map_is_that_of_the_values(given):
    """d output / d map is the value that the entry weighs, and 0 where the key is hidden."""
    module = CrossAttention(width=M, heads=H)
    params, mask = filled(module, given), Mask.lengths(key=jnp.array([S, 2]))

    def read(perturbation):
        entries = {"perturbation": perturbation}
        variables = {**params, "interventions": entries}
        _, found = module.apply(variables, *given, mask=mask, mutable=["activations"])
        return found["activations"]["output"].sum(), found["activations"]["values"]

    gradient, values = jax.grad(read, has_aux=True)(jnp.zeros((B, H, T, S)))
    want = np.broadcast_to(values.sum(-1)[:, :, None], (B, H, T, S)).copy()
    want[1, :, :, 2:] = 0
    np.testing.assert_allclose(gradient, want, atol=1e-6)


@pytest.mark.slow
def test_a_scan_recomputed_or_not_gives_the_same(given):
    runs = []
    for remat in (None, "everything"):
        stack = Stack(layers=2, width=M, heads=H, remat=remat)
        params = filled(stack, given)

        def slopes(zeros, stack=stack, params=params):
            tree = {"blocks": {"cross_attention": {"perturbation": zeros}}}
            variables = {**params, "interventions": tree}
            (y, _), found = stack.apply(variables, *given, mutable=["activations"])
            return (y**2).sum(), found["activations"]["blocks"]["cross_attention"]["map"]

        gradients, maps = jax.jit(jax.grad(slopes, has_aux=True))(jnp.zeros((2, B, H, T, S)))
        assert maps.shape == gradients.shape
        runs.append(gradients)
    assert (runs[0] != 0).all()
    np.testing.assert_allclose(*runs, rtol=1e-5, atol=1e-5)


MISTAKES = {
    "edges": ({"edges": jnp.zeros((B, H, T, S))}, "booleans"),
    "axes": ({"map": jnp.zeros((H, T, S))}, r"map: \(2, 4, 3, 5\) are meant"),
    "size": ({"output": jnp.zeros((B, H, T, 3))}, r"output: \(2, 4, 3, 2\) are meant"),
    "where": ({"map": jnp.zeros((B, H, T, S)), "map_where": jnp.ones((1, 1, 1, 1))}, "booleans"),
    "name": ({"maps": jnp.zeros((B, H, T, S))}, "maps is no entry: did you mean map?"),
    "below": ({"query": {"edges": jnp.ones((1, 1, 1, 1), bool)}}, "query is no entry: choose one"),
    "nothing to put there": ({"values_where": jnp.ones((1, 1, 1, 1), bool)}, "give values as well"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_fit_is_refused(mistake, given):
    module = CrossAttention(width=M, heads=H)
    entries, said = MISTAKES[mistake]
    variables = {**filled(module, given), "interventions": entries}
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(lambda: module.apply(variables, *given))


def test_dropout_and_a_second_run_are_refused(given):
    module = CrossAttention(width=M, heads=H, dropout=0.5)
    params, stack = filled(module, given), Stack(layers=2, width=M, heads=H)
    of_stack = filled(stack, given)

    def twice():
        _, found = module.apply(params, *given, mutable=["activations"])
        return module.apply({**params, **found}, *given, mutable=["activations"])

    def dropped():
        rngs = {"dropout": jax.random.key(0)}
        return module.apply(params, *given, rngs=rngs, mutable=["activations"])

    def decoded():
        context = stack.apply(of_stack, given[1], method="project")
        cache = stack.apply(of_stack, B, T, method="init_cache")
        step = given[0][:, :1], context, cache, jnp.int32(0)
        return stack.apply(of_stack, *step, method="decode_step", mutable=["activations"])

    for run, said in ((twice, "are there already"), (dropped, "dropout"), (decoded, "decode_step")):
        with pytest.raises(ValueError, match=said):
            jax.eval_shape(run)
