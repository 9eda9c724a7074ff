"""Every preset: what is hidden never matters, nothing is read of nothing, steps equal the whole."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crossattn import Mask
from crossattn.nn import presets
from crossattn.nn.block import Block, Past
from crossattn.nn.presets import DESIGNS
from crossattn.nn.stack import Stack

B, T, S, M, H = 8, 3, 5, 12, 2
LENGTHS = np.array([5, 2, 0, 4, 3, 1, 5, 2])
ORDER = np.array([[3, 1, 4, 0, 2]])
TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}


def filled(module, *arguments, **named):
    """Random parameters: no bias is zero, no gate is closed."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(1), *arguments, **named))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), p.dtype), shapes)


def streams():
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(B, T, M), (B, S, M), (B, T, M), (B, S, M)]
    return [jax.random.normal(*each) for each in zip(keys, shapes, strict=True)]


def hidden():
    return np.arange(S)[None, :] >= LENGTHS[:, None]


@dataclasses.dataclass
class Case:
    """What one compiled program, spread over 8 devices, says of a preset."""

    name: str
    block: Block
    params: dict
    out: dict


@pytest.fixture(scope="module", params=presets.names())
def case(request):
    block = presets.build(request.param, width=M, heads=H)
    x, context, weight, other = streams()
    params = filled(block, x, context)
    causal = Mask.causal(0)

    def call(params, x, context, mask, block=block):
        return block.apply(params, x, context, mask=mask, self_mask=causal)[0]

    def loss(params, x, context, mask):
        y = call(params, x, context, mask)
        return (y * weight).sum(), y

    def program(params, x, context, other):
        mask = Mask.lengths(key=jnp.asarray(LENGTHS))
        poisoned = jnp.where(jnp.asarray(hidden())[..., None], jnp.nan, context)
        shuffled = jnp.take_along_axis(context, jnp.asarray(ORDER)[..., None], axis=1)
        moved = Mask.keys(jnp.asarray(~np.take_along_axis(hidden(), ORDER, axis=1)))
        differentiate = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
        gradients, y = differentiate(params, x, context, mask)
        again, same = differentiate(params, x, poisoned, mask)
        none = Mask.lengths(key=jnp.zeros(B, int))
        return {
            "y": y,
            "poisoned": same,
            "gradients": gradients,
            "poisoned gradients": again,
            "shuffled": call(params, x, shuffled, moved),
            "empty": call(params, x, context, none),
            "empty of others": call(params, x, other, none),
            "alone": alone(block, params, x, causal),
            "half": call(params, half(x), half(context), mask).astype(jnp.float32),
        }

    mesh = Mesh(np.array(jax.devices()), ("data",))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    arrays = [jax.device_put(array, spread) for array in (x, context, other)]
    out = jax.jit(program)(jax.device_put(params, whole), *arrays)
    return Case(request.param, block, params, jax.tree.map(np.asarray, out))


def half(x):
    return x.astype(jnp.bfloat16)


def alone(block, params, x, causal):
    """The block without its attention to the context, written with the same parameters."""
    design = block.design
    join = design.cross_join or design.join
    if not join.residual:
        x = jnp.zeros_like(x)
    if "merged" in design.order:
        return None
    order = tuple(sublayer for sublayer in design.order if sublayer != "cross")
    if design.only_seeing:
        order = ()
    if join.site == "after":
        # The norm behind the sublayer stays.
        first, last = design.order.index("cross"), len(design.order)
        x = part(block, design.order[:first], params, x, causal)
        norm = params["params"]["cross_join"]["norm"]
        mean = x.mean(-1, keepdims=True)
        x = (x - mean) * jax.lax.rsqrt(x.var(-1, keepdims=True) + join.epsilon)
        x = x * norm["scale"][None, None] + norm["bias"][None, None]
        return part(block, design.order[first + 1 : last], params, x, causal)
    return part(block, order, params, x, causal)


def part(block, order, params, x, causal):
    if not order:
        return x
    design = dataclasses.replace(block.design, order=order)
    own = {name: leaf for name, leaf in params["params"].items() if name.split("_")[0] in order}
    return Block(M, H, design).apply({"params": own}, x, x, self_mask=causal)[0]


def always_there(design):
    """Whether something besides the context is read under the same softmax."""
    spare = design.cross.get("spare")
    return "merged" in design.order or design.latents or (spare is not None and spare.null)


def test_what_is_hidden_never_matters(case):
    np.testing.assert_array_equal(case.out["y"], case.out["poisoned"])
    clean, poisoned = case.out["gradients"], case.out["poisoned gradients"]
    for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(poisoned), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not clean[2][hidden()].any()
    assert clean[2][~hidden()].any()


def test_order_of_the_context_never_matters(case):
    np.testing.assert_allclose(case.out["shuffled"], case.out["y"], **TOLERANCE)


def test_an_empty_context_leaves_exactly_the_residual_path(case):
    np.testing.assert_array_equal(case.out["empty"], case.out["empty of others"])
    if always_there(case.block.design):
        return  # There is something to read besides the context.
    np.testing.assert_allclose(case.out["empty"], case.out["alone"], atol=1e-6, rtol=1e-6)
    empty = LENGTHS == 0
    np.testing.assert_array_equal(case.out["y"][empty], case.out["empty"][empty])


def test_bfloat16_stays_near_float32(case):
    scale = np.abs(case.out["y"]).max()
    np.testing.assert_allclose(case.out["half"], case.out["y"], atol=0.04 * scale)


def test_eight_devices_equal_one(case):
    if case.name not in ("t5gemma", "mllama", "resampler_masked", "null_key"):
        pytest.skip("the same layout of arrays as in those that are compared")
    x, context, *_ = streams()
    mask = Mask.lengths(key=jnp.asarray(LENGTHS))
    apply = jax.jit(
        lambda p, x, c: case.block.apply(p, x, c, mask=mask, self_mask=Mask.causal(0))[0]
    )
    np.testing.assert_allclose(case.out["y"], apply(case.params, x, context), **TOLERANCE)


@pytest.mark.parametrize("name", ["flamingo", "idefics", "mllama"])
def test_a_closed_gate_is_the_identity(name):
    x, context, *_ = streams()
    block = presets.build(name, width=M, heads=H)
    params = block.init(jax.random.key(0), x, context)
    y, _ = block.apply(params, x, context)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("name", ["whisper", "encoder_decoder_post", "t5gemma", "merged"])
def test_tokens_one_by_one_equal_all_at_once(name):
    x, context, *_ = streams()
    place = jnp.arange(T, dtype=jnp.float32)[None, :, None]
    stack = Stack(layers=3, width=M, heads=H, design=DESIGNS[name])
    mask = Mask.lengths(key=jnp.asarray(LENGTHS))
    where = {"mask": mask, "query_positions": place}
    params = filled(stack, x, context, self_mask=Mask.causal(0), **where)
    whole, _ = jax.jit(lambda p: stack.apply(p, x, context, self_mask=Mask.causal(0), **where))(
        params
    )

    @jax.jit
    def steps(params):
        projected = stack.apply(params, context, method="project")

        def one(past, given):
            token, at = given
            y, past, _ = stack.apply(
                params,
                token[:, None],
                projected,
                past,
                at,
                mask=mask,
                query_positions=at.astype(jnp.float32).reshape(1, 1, 1),
                method="step",
            )
            return past, y[:, 0]

        past = stack.apply(params, B, T + 1, method="start")
        assert isinstance(past, Past)
        return jax.lax.scan(one, past, (x.swapaxes(0, 1), jnp.arange(T)))[1].swapaxes(0, 1)

    np.testing.assert_allclose(steps(params), whole, **TOLERANCE)


def test_scan_equals_loop_and_remat_equals_none():
    x, context, weight, _ = streams()
    stack = Stack(layers=3, width=M, heads=H, design=DESIGNS["mllama"])
    params = filled(stack, x, context)

    def gradients(stack):
        loss = lambda p: (stack.apply(p, x, context)[0] * weight).sum()
        return jax.jit(jax.value_and_grad(loss))(params)

    def looped(params):
        y = x
        for layer in range(3):
            own = jax.tree.map(lambda p, layer=layer: p[layer], params["params"]["blocks"])
            y, _ = presets.build("mllama", width=M, heads=H).apply({"params": own}, y, context)
        return (y * weight).sum()

    scanned = gradients(stack)
    loop = jax.jit(jax.value_and_grad(looped))(params)
    for other in (
        loop,
        gradients(stack.clone(remat="everything")),
        gradients(stack.clone(remat="all but products")),
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4), scanned, other
        )


@pytest.mark.parametrize("name", presets.names())
def test_seven_billion_parameters_have_shapes(name):
    stack = Stack(layers=32, width=4096, heads=32, design=DESIGNS[name], dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((1, 2048, 4096), jnp.bfloat16)
    (y, _), params = jax.eval_shape(
        lambda x: stack.init_with_output(jax.random.key(0), x, x, self_mask=Mask.causal(0)), x
    )
    assert y.shape == x.shape
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) > 1e9


def test_an_unknown_preset_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"unknown preset 'flamenco': one of encoder_decoder_pre"):
        presets.build("flamenco", width=M, heads=H)
