"""What every implementation is tried on; masks are data: one compilation serves all kinds."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from crossattn import Mask, attend
from crossattn.ops.kernels.block_sizes import BlockSizes

# "split_kv" runs "chunked" on its parts, in blocks that it chooses; the last is "chunked" in blocks
# so small that every case has several, ragged ones among them. "few_keys" has test_few_keys.py, and
# runs in tests/conformance.
IMPLEMENTATIONS = ("reference", "xla", "split_kv", BlockSizes(1, 1, 2, 3))
# Compared with the definition in float64.
FAST = tuple(name for name in IMPLEMENTATIONS if name != "reference")

# Against float64: out relative to max|v|, gradients to the largest gradient, lse absolute.
TOLERANCE = {
    "float64": {"out": 1e-12, "grad": 1e-11, "lse": 1e-12},
    "float32": {"out": 3e-6, "grad": 1e-5, "lse": 3e-6},
    "float16": {"out": 2e-3, "grad": 6e-3, "lse": 2e-3},
    "bfloat16": {"out": 1.6e-2, "grad": 4e-2, "lse": 1.6e-2},
}


@dataclasses.dataclass(frozen=True)
class Call:
    """The static side of one call; sizes are distinct primes where a number of heads can be."""

    H: int = 3
    K: int = 3
    bias: str | None = None  # letters of the axes that are full, e.g. "HTS"
    softcap: float | None = None
    scale: float | None = None
    B: int = 2
    T: int = 5
    S: int = 7
    D: int = 11
    V: int = 13

    @property
    def sizes(self):
        return (self.B, self.H, self.T, self.S)


CALLS = (
    Call(),
    Call(bias="BHTS", softcap=1.7),
    Call(H=6, bias="HTS"),
    Call(H=6, K=3, bias="BS", scale=0.3),
    Call(K=1, bias="BT", softcap=0.9, scale=1.0),
    Call(bias=""),
    Call(T=1, H=6, bias="BTS"),
    Call(S=1, T=3, H=5, K=5, bias="BHS"),
    Call(T=17, S=19, V=1, D=1),
)


def inputs(call, seed=0, dtype=np.float64):
    """{q, k, v, bias} and cotangents {out, lse}, numpy float64 values that `dtype` can hold."""
    rng = np.random.default_rng(seed)
    B, H, T, S = call.sizes
    shapes = {
        "q": (B, T, H, call.D),
        "k": (B, S, call.K, call.D),
        "v": (B, S, call.K, call.V),
        "out": (B, T, H, call.V),
        "lse": (B, H, T),
    }
    if call.bias is not None:
        shapes["bias"] = tuple(
            n if a in call.bias else 1 for a, n in zip("BHTS", call.sizes, strict=True)
        )
    drawn = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return {name: x.astype(dtype).astype(np.float64) for name, x in drawn.items()}


def everything(call):
    """The leaves of a mask that has a term of every kind and hides nothing."""
    B, H, T, S = call.sizes
    return {
        "query_lengths": np.full(B, T, np.int32),
        "key_lengths": np.full(B, S, np.int32),
        "query_segments": np.zeros((B, T), np.int32),
        "key_segments": np.zeros((B, S), np.int32),
        "offset": np.int32(S),
        "left": np.int32(S + T),
        "right": np.int32(S),
        "query_media": np.ones((B, T), np.int32),
        "key_media": np.ones((B, S), np.int32),
        "keys": np.ones((B, S), bool),
        "dense": np.ones((B, H, T, S), bool),
    }


def kinds(call, seed=0):
    """{kind: leaves}: each kind of mask alone, all together, and nothing visible at all."""
    rng = np.random.default_rng(seed + 1)
    B, H, T, S = call.sizes
    base = everything(call)
    parts = {
        "lengths": {
            "query_lengths": rng.integers(0, T + 1, B).astype(np.int32),
            "key_lengths": np.array([S - S // 2, 0], np.int32),
        },
        "segments": {
            "query_segments": rng.integers(0, 3, (B, T)).astype(np.int32),
            "key_segments": rng.integers(1, 4, (B, S)).astype(np.int32),
        },
        "causal": {"offset": np.int32(0)},
        "causal early": {"offset": np.int32(-2)},
        "causal late": {"offset": np.int32(S - T)},
        "window": {"left": np.int32(2), "right": np.int32(1)},
        "media": {
            "query_media": np.sort(rng.integers(0, 3, (B, T)), axis=1).astype(np.int32),
            "key_media": np.sort(rng.integers(0, 3, (B, S)), axis=1).astype(np.int32),
        },
        "keys": {"keys": rng.random((B, S)) < 0.6},
        "dense": {"dense": rng.random((B, H, T, S)) < 0.4},
        "nothing": {"key_lengths": np.zeros(B, np.int32)},
    }
    out = {"everything": base} | {kind: base | part for kind, part in parts.items()}
    together = base | parts["segments"] | parts["causal late"] | parts["dense"]
    return out | {"together": together | {"key_lengths": np.array([S, S - S // 3], np.int32)}}


def build(leaves):
    """One mask with a term of every kind."""
    return (
        Mask.lengths(leaves["query_lengths"], leaves["key_lengths"])
        & Mask.segments(leaves["query_segments"], leaves["key_segments"])
        & Mask.causal(leaves["offset"])
        & Mask.window(leaves["left"], leaves["right"], 0)
        & Mask.media(leaves["query_media"], leaves["key_media"])
        & Mask.keys(leaves["keys"])
        & Mask.dense(leaves["dense"])
    )


def drawn(leaves):
    """The same mask by loops: numpy booleans (B, H, T, S)."""
    out = leaves["dense"].copy()
    for b, h, i, j in np.ndindex(out.shape):
        out[b, h, i, j] &= (
            i < leaves["query_lengths"][b]
            and j < leaves["key_lengths"][b]
            and leaves["query_segments"][b, i] == leaves["key_segments"][b, j]
            and i + leaves["offset"] >= j
            and i - leaves["left"] <= j <= i + leaves["right"]
            and leaves["query_media"][b, i] == leaves["key_media"][b, j] > 0
            and leaves["keys"][b, j]
        )
    return out


@functools.partial(jax.jit, static_argnames=("implementation", "scale", "softcap"))
def evaluate(arrays, leaves, *, implementation, scale, softcap):
    """{out, lse, dq, dk, dv, dbias} for the cotangents in `arrays`."""
    names = [name for name in ("q", "k", "v", "bias") if name in arrays]

    def results(*values):
        given = dict(zip(names, values, strict=True))
        bias = given.pop("bias", None)
        options = {"scale": scale, "softcap": softcap, "implementation": implementation}
        mask = None if leaves is None else build(leaves)
        out, trace = attend(**given, mask=mask, bias=bias, **options)
        return out, trace.lse

    (out, lse), pull = jax.vjp(results, *(arrays[name] for name in names))
    # The lse of an empty row is -inf whatever happens: its cotangent must not matter.
    gradients = pull((arrays["out"].astype(out.dtype), arrays["lse"].astype(lse.dtype)))
    return {"out": out, "lse": lse} | {f"d{n}": g for n, g in zip(names, gradients, strict=True)}


def run(call, arrays, leaves, implementation, dtype=np.float64):
    arrays = {name: np.asarray(x, dtype) for name, x in arrays.items()}
    found = evaluate(
        arrays, leaves, implementation=implementation, scale=call.scale, softcap=call.softcap
    )
    return {name: np.asarray(x) for name, x in found.items()}


def assert_close(found, wanted, arrays, dtype, largest_score=0.0):
    """The table of tolerances, plus 4 eps max|s|."""
    tolerance = TOLERANCE[jnp.dtype(dtype).name]
    # Softmax and sums are in float32 at least, so that is whose rounding the scores meet.
    working = jnp.float64 if dtype == np.float64 else jnp.float32
    slack = 4 * float(jnp.finfo(working).eps) * largest_score
    gradient = max((np.abs(x).max(initial=0) for n, x in wanted.items() if n[0] == "d"), default=0)
    scales = {"out": np.abs(arrays["v"]).max(initial=0), "lse": 1.0}
    for name, want in wanted.items():
        got = found[name].astype(np.float64)
        assert got.shape == want.shape, name
        assert np.array_equal(np.isneginf(got), np.isneginf(want)), name
        allowed = (tolerance.get(name, tolerance["grad"]) + slack) * scales.get(name, gradient)
        seen = ~np.isneginf(want)
        error = np.abs(got[seen] - want[seen])
        assert error.max(initial=0) <= allowed, f"{name}: {error.max()} > {allowed}"
