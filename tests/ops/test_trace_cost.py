import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask, attend, attention
from crossattn.ops.kernels import dense
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs
from tests.support.cases import IMPLEMENTATIONS, Call, inputs


def cost(f, *arrays):
    compiled = jax.jit(f).lower(*arrays).compile()
    analysis = compiled.cost_analysis()
    return analysis["flops"], compiled.memory_analysis().temp_size_in_bytes


@jax.custom_vjp
def bare(q, k, v, mask):
    """The kernels themselves, which have never heard of a trace."""
    return dense.KERNEL.forward(called(q, k, v, mask))


def called(q, k, v, mask):
    return AttentionCall(q, k, v, mask, None, None, q.shape[3] ** -0.5, None)


def bare_forward(q, k, v, mask):
    out = bare(q, k, v, mask)
    return out, (q, k, v, mask, out)


def bare_backward(residuals, cotangents):
    q, k, v, mask, out = residuals
    given = BackwardInputs(*out, cotangents[0])
    return *dense.KERNEL.backward(called(q, k, v, mask), given)[:3], None


bare.defvjp(bare_forward, bare_backward)


def without_trace(*call):
    return bare(*call)[0], ()


def with_trace(q, k, v, mask):
    return attend(q, k, v, mask=mask, implementation="xla")


def plain(body):
    return body


def remat(body):
    return jax.checkpoint(body)


def scanned(body):
    """Three layers; whatever the body returns beside x is stacked and dropped."""

    def layers(x, k, v, mask):
        return jax.lax.scan(lambda x, _: body(x, k, v, mask), x, length=3)

    return layers


def scanned_remat(body):
    return scanned(jax.checkpoint(body))


@pytest.mark.parametrize(
    ("through", "gradient"),
    [(plain, False), (plain, True), (remat, True), (scanned, False), (scanned_remat, True)],
)
def test_unused_costs_nothing(through, gradient):
    """Flops and temporary bytes are those of the bare implementation, across scan and remat too."""
    q, k, mask = (
        jnp.ones((2, 5, 3, 11)),
        jnp.ones((2, 7, 3, 11)),
        Mask.lengths(key=jnp.array([3, 7])),
    )

    def program(body):
        inner = through(body)

        def loss(q, k, v, mask):
            return jnp.sum(inner(q, k, v, mask)[0] ** 2)

        return jax.grad(loss, (0, 1, 2)) if gradient else loss

    wanted = cost(program(without_trace), q, k, k, mask)
    assert wanted[0] > 0
    assert cost(program(with_trace), q, k, k, mask) == wanted
    alone = lambda *call: (attention(*call[:3], mask=call[3], implementation="xla"), ())
    assert cost(program(alone), q, k, k, mask) == wanted

    if through is plain:  # the comparison can tell: a trace that is used costs something

        def used(*call):
            out, trace = with_trace(*call)
            return out + trace.entropy().swapaxes(1, 2)[..., None], ()

        assert cost(program(used), q, k, k, mask)[0] > wanted[0]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_use_leaves_the_output_alone(implementation):
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(Call()).items()}
    q, k, v = (arrays[n] for n in "qkv")

    @jax.jit
    def unused(q, k, v):
        return attend(q, k, v, mask=Mask.causal(1), implementation=implementation)[0]

    @jax.jit
    def used(q, k, v):
        out, trace = attend(q, k, v, mask=Mask.causal(1), implementation=implementation)
        return out, trace.weights(), trace.entropy(), trace.peak(), trace.expect(v[:, :, 0])

    eps = float(jnp.finfo(jnp.float32).eps)
    error = np.abs(unused(q, k, v) - used(q, k, v)[0]).max()
    assert error <= 4 * eps * np.abs(v).max()


def test_a_pytree_that_refers():
    call = Call(bias="HTS", softcap=1.3)
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(call).items()}
    q, k, v, bias = (arrays[n] for n in ("q", "k", "v", "bias"))
    _, trace = attend(q, k, v, mask=Mask.causal(2), bias=bias, softcap=1.3)
    assert trace.bias is bias
    assert np.array_equal(trace.q, q)
    assert np.array_equal(trace.k, k)
    assert len(jax.tree.leaves(trace)) == 5
    assert trace.lse.shape == (2, 3, 5)
    returned = jax.jit(lambda *x: attend(*x, mask=Mask.causal(2), bias=bias, softcap=1.3)[1])(
        q, k, v
    )
    assert (returned.scale, returned.softcap) == (trace.scale, 1.3)
    np.testing.assert_allclose(returned.entropy(), trace.entropy(), atol=1e-6)

    # Stacked by a scan, a statistic of each layer is a vmap over the stack.
    layers = jnp.stack([q, 2 * q])
    _, stacked = jax.lax.scan(lambda c, q: (c, attend(q, k, v)[1]), None, layers)
    wanted = np.stack([attend(x, k, v)[1].entropy() for x in layers])
    np.testing.assert_allclose(jax.vmap(lambda t: t.entropy())(stacked), wanted, atol=1e-6)
