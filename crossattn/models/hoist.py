"""What a loop would compute again in every turn is computed once, before it."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

__all__ = ["hoisted"]


def hoisted(step: Callable[..., Any], *example: Any) -> tuple[Callable[..., Any], Any]:
    """A function for a loop to call, without what does not depend on its arguments.

    Layers cut out of stacked weights, casts of weights, a context that `step` itself projects: the
    compiler leaves most of it inside of a loop and copies it in every turn. Here it is computed
    where `hoisted` is called, for the price of the memory that it takes. What `step` does within a
    `jax.jit` or a loop of its own stays there.

    Args:
      step: any function of pytrees.
      *example: arguments, or others of the same shapes and dtypes.

    Returns:
      The function, for arguments of these shapes and dtypes, and the shapes of its results.

    Example:
      >>> import jax.numpy as jnp
      >>> def write(weights, x):
      ...     step, _ = hoisted(lambda x: x @ jnp.exp(weights), x)
      ...     return jax.lax.scan(lambda x, _: (step(x), None), x, length=3)[0]
      >>> traced = jax.make_jaxpr(write)(jnp.ones((2, 2)), jnp.ones(2))
      >>> [eqn.primitive.name for eqn in traced.eqns]  # and `scan` has the product only
      ['exp', 'scan']
    """
    traced, shapes = jax.make_jaxpr(step, return_shape=True)(*example)
    early, late = _divided(traced.jaxpr)
    known = jaxpr_as_fun(ClosedJaxpr(early, ()))(*traced.consts)
    rest = jaxpr_as_fun(ClosedJaxpr(late, ()))
    structure = jax.tree.structure(shapes)

    def turn(*arguments: Any) -> Any:
        leaves = jax.tree.leaves(arguments)
        return jax.tree.unflatten(structure, rest(*known, *leaves))

    return turn, shapes


def _divided(jaxpr):
    """What is computed of the constants, and what is computed of that and of the arguments."""
    varying, early, late = set(jaxpr.invars), [], []
    variables = lambda atoms: [atom for atom in atoms if not isinstance(atom, Literal)]
    for eqn in jaxpr.eqns:
        if eqn.effects or not varying.isdisjoint(variables(eqn.invars)):
            late.append(eqn)
            varying.update(eqn.outvars)
        else:
            early.append(eqn)
            late += [eqn] if _free(eqn) else []
    made = {variable for eqn in late for variable in eqn.outvars} | set(jaxpr.invars)
    read = [atom for eqn in late for atom in variables(eqn.invars)] + variables(jaxpr.outvars)
    known = [variable for variable in dict.fromkeys(read) if variable not in made]
    before = {"constvars": [], "invars": jaxpr.constvars, "outvars": known}
    after = {"constvars": [], "invars": [*known, *jaxpr.invars], "eqns": late}
    return jaxpr.replace(**before, eqns=early, effects=set()), jaxpr.replace(**after)


def _free(eqn):
    """What costs nothing in a loop: who reads a transposed array, or one number, needs no copy."""
    if eqn.primitive.name == "broadcast_in_dim":
        return math.prod(eqn.invars[0].aval.shape) == 1
    return eqn.primitive.name in ("iota", "transpose")
