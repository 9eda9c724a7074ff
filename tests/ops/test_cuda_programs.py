"""What a GPU would take, on a machine without one: the choice, and the program lowered for CUDA."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask, attend, explain
from crossattn.ops import dispatch
from crossattn.ops.kernels import split_kv
from tests.support.cases import Call, assert_close, inputs
from tests.support.definition import judge

# (B, T, S, H, K, D) that were measured on a GPU or are in public tables, and what they take.
SPLIT, WHOLE = "split_kv around cudnn", "cudnn"
SHAPES = {
    (1, 64, 16384, 16, 16, 128): SPLIT,
    (1, 32, 62208, 9, 9, 128): SPLIT,
    (1, 64, 16384, 32, 8, 128): SPLIT,
    (16, 448, 1500, 16, 16, 64): WHOLE,
    (1, 8192, 8192, 16, 16, 128): WHOLE,
    (1, 32760, 512, 40, 40, 128): WHOLE,
    (32, 64, 2304, 16, 16, 64): WHOLE,
    (16, 4096, 77, 8, 8, 64): WHOLE,
    (32, 100, 1000, 8, 8, 64): WHOLE,
    (64, 32, 576, 12, 12, 64): WHOLE,
    (1, 13376, 13376, 32, 32, 128): WHOLE,
    (1, 985, 62208, 9, 9, 128): SPLIT,
    (1, 2, 62208, 9, 9, 128): SPLIT,
    (1, 256, 131072, 8, 1, 128): SPLIT,
}
CALLS = ["fmhaSoftmax", "fmhaSoftmaxBackward"]


def arrays(B, T, S, H, K, D, dtype="bfloat16"):
    q, k = (jax.ShapeDtypeStruct(x, dtype) for x in ((B, T, H, D), (B, S, K, D)))
    return q, k, k


def explained(*given, platform="cuda", **options):
    """The choice for a platform, and the lines below it."""
    lines = explain(*given, **options).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"{platform}: "))
    rest = [line.strip() for line in lines[start + 1 :]]
    names = tuple(f"{name}: " for name in dispatch.TABLE)
    more = next((n for n, line in enumerate(rest) if line.startswith(names)), len(rest))
    return lines[start].removeprefix(f"{platform}: "), rest[:more]


def lowered(given, **options):
    """A program for CUDA with output, lse and gradients: its text."""

    def loss(q, k, v):
        out, trace = attend(q, k, v, **options)
        return out.astype(jnp.float32).sum(), trace.lse

    function = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
    return function.trace(*given).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_fused_path_and_no_array_of_pairs(shape):
    given, (_, T, _, _, _, D) = arrays(*shape), shape
    choice, below = explained(*given)
    assert choice.startswith(f"{SHAPES[shape]} (")
    assert sum("assumed: an NVIDIA GPU of compute capability 9.0" in line for line in below) == 1
    text = lowered(given)
    assert re.findall(r"@__cudnn\$(\w+)", text) == CALLS
    found = {tuple(map(int, x.split("x"))) for x in re.findall(r"tensor<([\dx]+\d)x\w+>", text)}
    # Padded to even sizes nothing is larger than the inputs, and no row of a query is longer.
    assert max(map(np.prod, found)) <= max(np.prod(x.shape) * (1 + 1 / T) for x in given) * 1.02
    assert not [x for x in found if x[-2:-1] in ((T,), (T + T % 2,)) and x[-1] > D]


def test_a_decoding_step_obeys_the_table():
    """Keys that lie heads first are read as they lie."""
    for T, shape in ((1, (16, 1, 1500, 16, 16, 64)), (8, (1, 8, 16384, 4, 2, 64))):
        given = arrays(*shape)
        choice, _ = explained(*given, heads_first=True)
        assert choice.startswith((WHOLE if T == 1 else SPLIT) + " (")
        (B, _, S, _, K, D), text = shape, lowered(given, heads_first=True)
        assert re.findall(r"@__cudnn\$(\w+)", text) == CALLS
        calls = [line for line in text.splitlines() if "@__cudnn$" in line]
        parts = split_kv._parts_for(*shape[:4])
        lies = (B, K, S, D) if T == 1 else (B * K * parts, S // parts, 1, D)
        assert all(f"tensor<{'x'.join(map(str, lies))}xbf16>" in line for line in calls)
    choice, below = explained(*arrays(16, 1, 1500, 16, 16, 64, "float32"), heads_first=True)
    assert choice.startswith("xla (T <= 8 and keys that lie heads first")
    assert any("not cudnn: float32" in line for line in below)


def test_parts_that_cudnn_cannot_take_are_not_made():
    """Split, this mask is another; whole, cuDNN knows it."""
    given = arrays(1, 128, 8192, 4, 4, 64)
    choice, below = explained(*given, mask=Mask.causal(0))
    assert choice.startswith(f"{WHOLE} (")
    assert any(line.startswith("not split_kv: ") for line in below)
    given = arrays(1, 128, 8192, 4, 4, 64, "float16")
    choice, below = explained(*given, mask=Mask.window(3, 3, 0))
    assert choice.startswith("split_kv around chunked (")
    assert not any("assumed" in line for line in below)


def test_parts_keep_processors_busy():
    """A divisor of S, and no round in which most of 132 have nothing to do."""
    wanted = {(1, 64, 16384, 16): 16, (1, 32, 62208, 9): 27, (1, 985, 62208, 9): 3}
    assert {sizes: split_kv._parts_for(*sizes) for sizes in wanted} == wanted


@pytest.mark.parametrize(
    "mask", [Mask(), Mask.lengths(key=np.array([1025, 0])) & Mask.causal(1000)]
)
def test_parts_of_keys_that_lie_heads_first(mask):
    """The definition's results and gradients, whichever way keys lie."""
    call = Call(B=2, T=3, S=1031, H=6, K=2, D=8, V=8)
    given = inputs(call, dtype=np.float32)
    names = ("q", "k", "v")

    @jax.jit
    def found(arrays):
        def results(q, k, v):
            out, trace = attend(q, k, v, mask=mask, implementation="split_kv", heads_first=True)
            return out, trace.lse

        (out, lse), pull = jax.vjp(results, *(arrays[n] for n in names))
        gradients = pull((arrays["out"], arrays["lse"]))
        return {"out": out, "lse": lse} | {
            f"d{n}": g for n, g in zip(names, gradients, strict=True)
        }

    got = jax.tree.map(np.asarray, found(jax.tree.map(lambda x: x.astype(np.float32), given)))
    visible = np.asarray(mask.dense_array(call.B, call.T, call.S))
    wanted = judge(given, visible)
    assert_close(got, {name: wanted[name] for name in got}, given, np.float32, 10.0)
