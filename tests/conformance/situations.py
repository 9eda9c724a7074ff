"""Random masks of every kind, for tests of what must not matter.

Shapes are few and every mask may be written with one term of every kind, neutral where a kind was
not drawn, so that a compilation serves every example of a shape.
"""

import dataclasses

import numpy as np
from cases import Call
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from crossattn import Mask

# The same examples on every machine; the failing one is printed, as small as it gets.
MANY = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
FEW = settings(MANY, max_examples=10)
SEEDS = st.integers(0, 99)

CALLS = (
    Call(),
    Call(H=6, K=3, T=7, S=5, bias="BHTS", softcap=1.3),
    # "chunked" and "merge" see several blocks of keys.
    Call(H=2, K=1, T=3, S=1031, bias="HS", scale=0.7, D=3, V=2),
)

TERMS = {
    "lengths": lambda x: Mask.lengths(x["query_lengths"], x["key_lengths"]),
    "segments": lambda x: Mask.segments(x["query_segments"], x["key_segments"]),
    "causal": lambda x: Mask.causal(x["causal"]),
    "window": lambda x: Mask.window(x["left"], x["right"], x["offset"]),
    "latest media": lambda x: Mask.media(x["query_latest"], x["key_latest"]),
    "all media": lambda x: Mask.media(x["query_media"], x["key_media"], latest_only=False),
    "keys": lambda x: Mask.keys(x["keys"]),
    "dense": lambda x: Mask.dense(x["dense"]),
}


def build(leaves, kinds):
    mask = Mask()
    for kind in kinds:
        mask = mask & TERMS[kind](leaves)
    return mask


def neutral(call):
    """The leaves of a mask that has a term of every kind and hides nothing."""
    B, H, T, S = call.sizes
    every = np.full(B, T + S, np.int32)
    ones = {f"{n}_{kind}": np.ones((B, size), np.int32) for n, size in (("query", T), ("key", S))
            for kind in ("segments", "latest", "media")}  # fmt: skip
    return ones | {
        "query_lengths": np.full(B, T, np.int32),
        "key_lengths": np.full(B, S, np.int32),
        "causal": every,
        "left": every,
        "right": every,
        "offset": np.zeros(B, np.int32),
        "keys": np.ones((B, S), bool),
        "dense": np.ones((B, H, T, S), bool),
    }


def visible_by_definition(leaves):
    """The same by comparisons in numpy: booleans (B, H, T, S)."""
    x = {name: np.asarray(a) for name, a in leaves.items()}
    T, S = x["dense"].shape[2:]
    i, j = np.arange(T)[:, None], np.arange(S)
    x |= {n: x[n].reshape(-1, 1, 1, 1) for n, a in leaves.items() if np.ndim(a) == 1}
    x |= {n: x[n][:, None, :, None] for n in leaves if n.startswith("query") and "len" not in n}
    x |= {n: x[n][:, None, None, :] for n in leaves if n.startswith("key") and "len" not in n}
    at = i + x["offset"]
    return (
        x["dense"]
        & x["keys"]
        & ((i < x["query_lengths"]) & (j < x["key_lengths"]))
        & (x["query_segments"] == x["key_segments"])
        & (j <= i + x["causal"])
        & ((at - x["left"] <= j) & (j <= at + x["right"]))
        & ((x["query_latest"] == x["key_latest"]) & (x["key_latest"] > 0))
        & ((x["query_media"] >= x["key_media"]) & (x["key_media"] > 0))
    )


@dataclasses.dataclass(frozen=True)
class Situation:
    """A call, the kinds of masks in it, the terms that are written, their contents, a seed."""

    call: Call
    kinds: tuple[str, ...]
    written: tuple[str, ...]
    leaves: dict[str, np.ndarray]
    seed: int

    @property
    def mask(self):
        return build(self.leaves, self.written)

    @property
    def visible(self):
        return visible_by_definition(self.leaves)


@st.composite
def contents(draw, kind, call):
    """The leaves of one kind. Everything may be hidden, in every kind."""
    B, H, T, S = call.sizes
    if kind == "lengths":
        drawn = {
            "query_lengths": per_example(draw, B, 0, T),
            "key_lengths": per_example(draw, B, 0, S),
        }
    elif kind == "segments":
        drawn = {"query_segments": ids(draw, B, T, 3), "key_segments": ids(draw, B, S, 3)}
    elif kind == "causal":
        drawn = {"causal": per_example(draw, B, -T, S)}
    elif kind == "window":
        drawn = {
            "left": per_example(draw, B, -2, S),
            "right": per_example(draw, B, -2, S),
            "offset": per_example(draw, B, -T, S),
        }
    elif kind in ("latest media", "all media"):
        name = kind.split()[0] if kind == "latest media" else "media"
        # The number of images begun so far never falls.
        drawn = {f"query_{name}": np.sort(ids(draw, B, T, 3)), f"key_{name}": ids(draw, B, S, 3)}
    elif kind == "keys":
        drawn = {"keys": booleans(draw, (B, S))}
    else:
        drawn = {"dense": booleans(draw, (B, H, T, S))}
    return drawn


def per_example(draw, B, low, high):
    return np.array([draw(st.integers(low, high)) for _ in range(B)], np.int32)


def ids(draw, B, n, most):
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return rng.integers(0, draw(st.integers(0, most)) + 1, (B, n)).astype(np.int32)


def booleans(draw, shape):
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return rng.random(shape) < draw(st.sampled_from([0.5, 0.9, 0.1, 0.0]))


@st.composite
def situations(draw, alone=None, calls=CALLS):
    """The kind `alone`, written as users write it, in one shape; or one to four kinds at random."""
    if alone:
        kinds, calls = (alone,), (CALLS[list(TERMS).index(alone) % 2],)
    else:
        kinds = draw(st.lists(st.sampled_from(tuple(TERMS)), min_size=1, max_size=4, unique=True))
    call = draw(st.sampled_from(calls))
    leaves = neutral(call)
    for kind in kinds:
        leaves |= draw(contents(kind, call))
    return Situation(call, tuple(kinds), (alone,) if alone else tuple(TERMS), leaves, draw(SEEDS))
