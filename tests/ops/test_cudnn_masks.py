"""Every mask on cuDNN's fused path, with the kernels' formulas in float64 in their place: values,
lse and all gradients are those of the definition, and what nobody sees influences nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.ops import reference
from crossattn.ops.kernels.cudnn import layouts, packing
from crossattn.ops.kernels.cudnn import options as kernels
from crossattn.ops.kernels.cudnn.kernel import CudnnKernel
from crossattn.ops.kernels.cudnn.prefixes import prefix_packings
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs
from tests.support import cudnn_formulas

B, T, S, K, G, D, V = 3, 6, 7, 2, 2, 5, 3
SCALE, NONE = 0.3, Mask()
QUICK = {"xla_llvm_disable_expensive_passes": True, "xla_backend_optimization_level": 0}
NAMES = "o", "lse", "dq", "dk", "dv", "dbias"


@pytest.fixture
def stand_in(monkeypatch, x64):
    cudnn_formulas.stand_in(monkeypatch)
    monkeypatch.setattr(packing, "MOST", 3)


def draw(seed, heads=K * G, tokens=(T, S), bias=None):
    rng, (T, S) = np.random.default_rng(seed), tokens
    shapes = {"q": (B, T, heads, D), "k": (B, S, K, D), "v": (B, S, K, V)}
    shapes |= {"out": (B, T, heads, V), "lse": (B, heads, T)}
    shapes |= {} if bias is None else {"bias": bias}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def call_of(arrays, mask):
    q, k, v = (arrays[n] for n in "qkv")
    return AttentionCall(q, k, v, mask, arrays.get("bias"), None, SCALE, None)


def results(kernel, arrays, mask):
    call = call_of(arrays, mask)
    o, lse = kernel.forward(call)
    found = kernel.backward(call, BackwardInputs(o, lse, arrays["out"], arrays["lse"]))
    return dict(zip(NAMES, (o, lse, *found), strict=True))


# A mask that is data: one program for all.
@functools.partial(jax.jit, static_argnames=("kernel", "band"), compiler_options=QUICK)
def ours(kernel, arrays, mask, band=NONE):
    return results(kernel, arrays, mask & band)


def definition(arrays, mask):
    names = [n for n in ("q", "k", "v", "bias") if n in arrays]
    values = lambda *x: reference.KERNEL.forward(call_of(dict(zip(names, x, strict=True)), mask))
    (o, lse), pull = jax.vjp(values, *(arrays[n] for n in names))
    cotangent = jnp.where(lse == -jnp.inf, 0, arrays["lse"])
    found = dict(zip((f"d{n}" for n in names), pull((arrays["out"], cotangent)), strict=True))
    return {"o": o, "lse": lse} | found


def check(arrays, mask, form, band=NONE, whole=None):
    """Against the definition; `whole` is the mask where `band` is not one that is added."""
    mask = jax.tree.map(jnp.asarray, mask)
    whole = whole or mask & band
    visible = np.asarray(whole.dense_array(*arrays["q"].shape[:2], arrays["k"].shape[1]))
    if "bias" in arrays:
        visible = visible & ~np.isneginf(arrays["bias"])
    found = ours(CudnnKernel(form), cudnn_formulas.poisoned(arrays, visible), mask, band=band)
    wanted = definition(arrays, whole)
    for name, want in wanted.items():
        got, want = np.asarray(found[name]), np.asarray(want)
        assert got.dtype == want.dtype == np.float64
        assert np.array_equal(np.isneginf(got), np.isneginf(want)), name
        seen = ~np.isneginf(want)
        error = np.abs(got[seen] - want[seen]).max(initial=0)
        assert error <= 1e-11 * max(1, np.abs(want[seen]).max(initial=0)), f"{name}: {error}"
    assert ("dbias" in wanted) == (found.get("dbias") is not None)


KEYS = {
    "some": np.arange(B * S).reshape(B, S) % 3 > 0,
    "none in one": np.array([[1] * S, [0] * S, [0] * (S - 1) + [1]], bool),
}


@pytest.mark.parametrize("name", KEYS)
def test_visible_keys_go_to_the_front(stand_in, name):
    lengths = Mask.lengths(np.array([T, T, T - 2]), np.array([S, S, S - 1]))
    check(draw(0), Mask.keys(KEYS[name]) & lengths, "keys in front")


def ids(query, key):
    """Integers (B, T) and (B, S), an example a line."""
    return tuple(np.array([list(map(int, x)) for x in y.split()], np.int32) for y in (query, key))


SEGMENTS = {
    "runs": ids("111222 777755 333333", "1112222 5557777 3333333"),
    "runs that match nothing": ids("119922 444455 333333", "1188822 5555666 9999999"),
    "scattered": ids("121212 775577 321321", "2121212 5757575 1112223"),
    "more than there is room for": ids("123456 123456 123456", "1234567 7654321 1122334"),
    "nothing at all": ids("111111 111111 111111", "2222222 2222222 2222222"),
}
EVERY = np.ones((B, S), bool), np.full(B, T), np.full(B, S)
SOME = KEYS["none in one"] | KEYS["some"], np.array([T, T - 1, T - 2]), np.array([S, S - 1, S])


def branch(mask):
    """What the program decides of a mask of ids."""
    ids = layouts.Ids.of(call_of({n: jnp.asarray(x) for n, x in draw(1).items()}, mask))
    packing = ids.packing()
    if packing.fits.all():
        return "whole" if packing.whole else "standing"
    return "sorted" if ids.ordered()[0].packing().fits.all() else "chunked"


BRANCHES = {  # of every token, and of some
    "runs": ("whole", "sorted"),  # a hidden key cuts a run in two
    "runs that match nothing": ("standing", "sorted"),
    "scattered": ("sorted", "sorted"),
    "more than there is room for": ("chunked", "chunked"),
    "nothing at all": ("standing", "standing"),
}


@pytest.mark.parametrize("every", [True, False], ids=["every token", "some tokens"])
@pytest.mark.parametrize("name", SEGMENTS)
def test_equal_ids_are_packed_sequences(stand_in, name, every):
    """With grouped heads; one program, which finds out what it is given."""
    keys, *lengths = EVERY if every else SOME
    mask = Mask.segments(*SEGMENTS[name]) & Mask.keys(keys) & Mask.lengths(*lengths)
    assert branch(mask) == BRANCHES[name][not every]
    check(draw(1), mask, "packed")


@jax.jit
def packings(ids):
    """Of tokens as they stand, and side by side; the latter with the orders."""
    there, query, key = ids.ordered()
    return ids.packing(), there.packing(), query.places, key.places


def told(packing, causal=False):
    """(B, T, S): who sees whom in packed sequences."""
    x = jnp.zeros((B, T, K, D)), jnp.zeros((B, S, K, D))
    options = kernels.Options(SCALE, causal, packed=packing.sequences)
    return np.asarray(cudnn_formulas.sequences(*x, options)[3].any(1))


@pytest.mark.parametrize("seed", range(20))
def test_sequences_mean_the_mask(seed):
    """Of random masks of up to 4 ids: as they stand where that fits, side by side always."""
    rng = np.random.default_rng(seed)
    query, key = (rng.integers(0, 4, (B, n)).astype(np.int32) for n in (T, S))
    query, key = (np.sort(x) if seed % 2 else x for x in (query, key))
    mask = Mask.media(query, key) if seed % 4 < 2 else Mask.segments(query, key)
    mask &= Mask.keys(rng.random((B, S)) < 0.9)
    arrays = {n: jnp.asarray(x) for n, x in draw(1).items()}
    standing, packed, rows, columns = packings(layouts.Ids.of(call_of(arrays, mask)))
    visible = np.asarray(mask.dense_array(B, T, S))[:, 0]
    assert packed.fits.all()
    moved = np.take_along_axis(told(packed), np.asarray(rows)[..., None], 1)
    assert np.array_equal(np.take_along_axis(moved, np.asarray(columns)[:, None], 2), visible)
    fits = np.array(standing.fits)
    runs = lambda x: len([i for n, i in enumerate(x) if n == 0 or i != x[n - 1]]) == len(set(x))
    for b in range(B):  # a hidden key may cut a run in two
        whole = runs(query[b].tolist()) and runs(key[b].tolist()) and np.all(mask.terms[1].seen[b])
        assert fits[b] or not whole
    assert np.array_equal(told(standing)[fits], visible[fits])
    assert np.array_equal(standing.queries[fits], visible.any(2)[fits])
    assert np.array_equal(standing.keys[fits], visible.any(1)[fits])
    causal = visible & np.asarray(Mask.causal(0).dense_array(1, T, S))[:, 0]
    fits &= np.asarray(standing.aligned)
    assert np.array_equal(told(standing, causal=True)[fits], causal[fits])


CAUSAL = {
    "aligned": ids("111223 777755 333333", "111223 777755 333333"),
    "not aligned": ids("111222 775555 333333", "112222 777755 333333"),
    "scattered": ids("121212 775577 321321", "121212 775577 321321"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSAL)
def test_causal_segments(stand_in, name):
    mask, same = Mask.segments(*CAUSAL[name]), np.array([T, T - 1, T - 2])
    check(draw(2, K, (T, T)), mask & Mask.lengths(same, same), "packed", Mask.causal(0))


@pytest.mark.parametrize("seed", range(8))
def test_powers_mean_the_mask(seed):
    """Of random images in order: no pair at two powers, and all of them together."""
    rng = np.random.default_rng(seed)
    query, key = (np.sort(rng.integers(0, 6, (B, n))).astype(np.int32) for n in (T, S))
    mask = Mask.media(query, key, latest_only=False)
    arrays = {n: jnp.asarray(x) for n, x in draw(1).items()}
    packings, fits = jax.jit(prefix_packings)(layouts.Ids.of(call_of(arrays, mask)))
    assert fits
    pairs = sum(told(x).astype(int) for x in packings)
    assert np.array_equal(pairs, np.asarray(mask.dense_array(B, T, S))[:, 0])


MEDIA = {
    "in order": ids("001123 012333 555555", "0112225 1123333 1222333"),
    "not in order": ids("001123 012333 555555", "0112225 1123333 1322333"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEDIA)
def test_all_previous_media_are_powers_of_two(stand_in, name):
    hidden = Mask.lengths(np.array([T, T, T - 1]), np.array([S, S - 1, S]))
    mask = Mask.media(*MEDIA[name], latest_only=False) & hidden
    ids = layouts.Ids.of(call_of({n: jnp.asarray(x) for n, x in draw(5).items()}, mask))
    assert bool(prefix_packings(ids)[1]) == (name == "in order")
    check(draw(5), mask, "prefixes")


def some_pairs(*shape):
    """Booleans with queries that see nothing and keys that nobody sees."""
    seen = np.random.default_rng(3).random(shape) < 0.6
    seen[..., 2, :], seen[..., 4] = False, False
    return seen


H = K * G
BIASED = {
    "heads share the bias": (some_pairs(1, H, T, S), (B, 1, T, S)),
    "examples and queries share the bias": (some_pairs(B, 1, T, S), (1, H, 1, S)),
}


def with_bias(name):
    visible, shape = BIASED[name]
    arrays = draw(4, bias=shape)
    arrays["bias"][..., 1] = -np.inf
    return arrays, Mask.dense(visible)


@pytest.mark.parametrize("name", BIASED)
def test_bias_and_mask_are_written_out(stand_in, name):
    check(*with_bias(name), "written")


@pytest.mark.slow
def test_vmap_over_masks_with_one_bias(stand_in):
    """Each of the mapped calls has a gradient of the bias that they share."""
    arrays, mask = with_bias("examples and queries share the bias")
    masks = [jax.tree.map(jnp.asarray, mask & Mask.causal(offset)) for offset in (0, 3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *masks)
    arrays = {n: jnp.asarray(x) for n, x in arrays.items()}
    found = jax.jit(jax.vmap(lambda mask: results(CudnnKernel("written"), arrays, mask)))(stacked)
    for n, one in enumerate(masks):
        for name, want in definition(arrays, one).items():
            np.testing.assert_allclose(found[name][n], want, rtol=0, atol=1e-11)
