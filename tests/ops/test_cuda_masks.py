"""Every mask takes cuDNN on a GPU, seen on a machine without one: the choice, and the program."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from crossattn import Mask, attend
from crossattn.bench.cases import parse_shape
from crossattn.bench.sweep import masks
from crossattn.ops import dispatch
from crossattn.ops.kernels import cudnn
from crossattn.ops.kernels.protocol import AttentionCall

B, T, S, H, D = 8, 1024, 4096, 16, 64
BENCHED = (B, T, S, H, D)
SMALL = (2, 128, 77, 4, 64)


def ids(n):
    return jnp.broadcast_to(jnp.arange(n) * 8 // n + 1, (B, n)).astype(jnp.int32)


FRONT, PACKED = "cudnn, keys in front", "cudnn, packed"
WRITTEN, PREFIXES = "cudnn, written", "cudnn, prefixes"
# What is measured on a GPU (`bench attention --minutes 8 --masks ...`) takes these.
MEASURED = {
    "lengths": "cudnn",
    "keys": FRONT,
    "one-row": FRONT,
    "segments": PACKED,
    "segments-unsorted": PACKED,
    "media-latest": PACKED,
    "media-all": PREFIXES,
    "bias": WRITTEN,
    "dense": WRITTEN,
}
KEYS, LENGTHS = np.arange(B * S).reshape(B, S) % 2 == 0, np.full(B, S // 2)
TOGETHER = {
    "keys and lengths": (Mask.keys(KEYS) & Mask.lengths(key=LENGTHS), FRONT),
    "segments, keys, lengths": (Mask.segments(ids(T), ids(S)) & Mask.keys(KEYS), PACKED),
    "causal with an offset": (Mask.causal(S - T), WRITTEN),
}


def shapes(B, T, S, H, D, K=None):
    q, k = (jax.ShapeDtypeStruct(x, jnp.bfloat16) for x in ((B, T, H, D), (B, S, K or H, D)))
    return q, k, k


def chosen(given, mask, bias=None):
    call = AttentionCall(*given, mask or Mask(), bias, None, 1.0, None)
    return dispatch.choose_kernel("cuda", call)[0]


def program(given, function):
    """For CUDA: its text, and what each call of cuDNN is told."""
    text = jax.jit(function).trace(*given).lower(lowering_platforms=("cuda",)).as_text()
    calls = []
    for line in text.splitlines():
        if "@__cudnn$" in line:
            (told,) = re.findall(r'backend_config = "(.*?)"[,}]', line)
            told = json.loads(told.replace("\\22", '"').replace('\\"', '"'))
            name = re.search(r"@__cudnn\$(\w+)", line).group(1)
            calls.append((name, told["cudnn_fmha_backend_config"], operands(line)))
    return text, calls


def operands(line):
    return re.findall(r"tensor<([\dx]*\w+)>", line.split(" : (")[1].split(") -> ")[0])


def differentiated(*, axis=None, **options):
    """Output, lse and all gradients; the last argument is a mask, or a bias."""

    def loss(q, k, v, bias=None):
        out, trace = attend(q, k, v, bias=bias, **options)
        return out.astype(jnp.float32).sum() + jnp.where(trace.valid, trace.lse, 0).sum()

    return lambda *given: jax.value_and_grad(loss, tuple(range(len(given))))(*given)


@pytest.mark.parametrize("name", masks.HIDINGS)
def test_what_is_measured_takes_the_fused_path(name):
    arrays = map(
        jnp.asarray, masks.hidden_arrays(name, parse_shape(",".join(map(str, BENCHED))), 0)
    )
    options = masks.HIDINGS[name].options(*arrays)
    bias = options["bias"].astype(jnp.bfloat16) if "bias" in options else None
    wanted = MEASURED[name]
    if bias is not None and jax.__version_info__ < (0, 8):
        wanted = "chunked"  # it has no gradient of a bias that heads share
    assert chosen(shapes(*BENCHED), options.get("mask"), bias).label == wanted


@pytest.mark.parametrize("name", TOGETHER)
def test_masks_together(name):
    mask, label = TOGETHER[name]
    assert chosen(shapes(*BENCHED), mask).label == label


def test_what_was_given_may_be_written_out():
    """Its own array is as large; a mask that has none of that size is left to others."""
    given = shapes(*BENCHED)
    assert chosen(given, Mask.dense(np.ones((B, 1, T, S), bool))).label == WRITTEN
    each = Mask.keys(KEYS) & Mask.causal(S - T)
    assert chosen(given, each).name == "chunked"
    assert "order matters" in cudnn.KERNEL.unsupported(
        AttentionCall(*given, each, *[None] * 2, 1.0, None)
    )


def sizes(text):
    found = re.findall(r"tensor<([\dx]+\d)x\w+>", text)
    return {tuple(map(int, x.split("x"))) for x in found}


def test_packed_sequences_in_the_program():
    """In place twice and sorted, each with both kernels; a cotangent of lse takes one more."""
    given, M = shapes(*BENCHED), 32
    text, calls = program(given, differentiated(mask=Mask.segments(ids(T), ids(S))))
    names = [name for name, *_ in calls]
    assert names.count("fmhaSoftmax") == 3
    assert names.count("fmhaSoftmaxBackward") == 6
    for _, told, given in calls:
        assert told["max_seg_per_batch"] == M
        assert given[-4:] == [f"{B}x{M}xi32"] * 2 + [f"{B}x{M + 1}xi32"] * 2
    assert not [x for x in sizes(text) if T in x and S in x and np.prod(x) >= T * S]


def test_lengths_of_keys_in_front():
    text, calls = program(shapes(*BENCHED), differentiated(mask=Mask.keys(KEYS)))
    assert [name for name, *_ in calls] == ["fmhaSoftmax"] + ["fmhaSoftmaxBackward"] * 2
    for _, told, given in calls:
        assert told["mask_type"] == "PADDING"
        assert given[-2:] == [f"{B}xi32"] * 2
    assert not [x for x in sizes(text) if T in x and S in x and np.prod(x) >= T * S]


def test_a_bias_in_the_program():
    """With its gradient, and without one where it is only a mask; whole tiles of keys."""
    _, T, S, H, _ = SMALL
    given = *shapes(*SMALL), jax.ShapeDtypeStruct((1, H, T, S), jnp.bfloat16)
    _, calls = program(given, differentiated())
    wide = f"1x{H}x{T}x128xbf16"
    assert [name for name, *_ in calls] == [
        "fmhaScaleBiasSoftmax",
        *["fmhaScaleBiasSoftmaxBackward"] * 2,
    ]
    assert all(wide in given for *_, given in calls)
    _, calls = program(given[:3], differentiated(mask=Mask.causal(-1)))
    assert all(f"1x1x{T}x128xbf16" in given for *_, given in calls)
    assert all(told["mask_type"] == "NO_MASK" for _, told, _ in calls)


WITHIN = {
    "keys": lambda n: Mask.keys(jnp.ones((B, n), bool)),
    "segments": lambda n: Mask.segments(ids(n), ids(n)),
    "dense": lambda n: Mask.dense(jnp.ones((1, 1, n, n), bool)),
}


@pytest.mark.parametrize("name", WITHIN)
def test_inside_shard_map(name):
    """Results vary over the axes that queries do, whichever branch they come from."""
    given, mask = shapes(B, 64, 64, 2, D), WITHIN[name](64)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    spec = PartitionSpec("data")
    specs = jax.tree.map(lambda x: spec if x.shape[0] == B else PartitionSpec(), mask)
    each = lambda q, k, v, mask: differentiated(mask=mask)(q, k, v)[1]
    options = {"mesh": mesh, "out_specs": spec, "check_vma": True}
    mapped = jax.shard_map(each, in_specs=(spec, spec, spec, specs), **options)
    _, calls = program((*given, mask), mapped)
    assert calls
    assert all(given[0] == f"2x64x2x{D}xbf16" for *_, given in calls)


def test_vmap_makes_the_batch_larger():
    """Packed sequences too, for which jax has no rule; each has as many branches as before."""
    q, k, _ = shapes(2, 64, 64, 2, D)
    mapped = lambda x: jax.ShapeDtypeStruct((3, *x.shape), x.dtype)
    ids = jax.ShapeDtypeStruct((3, 2, 64), jnp.int32)

    def loss(q, k, ids):
        mask = Mask.segments(ids, ids)
        return attend(q, k, k, mask=mask)[0].astype(jnp.float32).sum()

    function = jax.vmap(jax.grad(loss, (0, 1)), (0, None, 0))
    _, calls = program((mapped(q), k, ids), function)
    assert len(calls) == 6
    assert all(given[0] == f"6x64x2x{D}xbf16" for *_, given in calls)
