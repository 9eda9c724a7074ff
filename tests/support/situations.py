"""Random masks of every kind, for tests of what must not matter.

Shapes are few and every mask may be written with one term of every kind, neutral where a kind was
not drawn, so that a compilation serves every example of a shape.
"""

import dataclasses
import functools

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from crossattn import Mask
from tests.support.cases import Call

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
SEEDS = st.integers(0, 9999)

CALLS = (
    Call(),
    Call(H=6, K=3, T=7, S=5, bias="BHTS", softcap=1.3),
    # "chunked" and "split_kv" see several blocks of keys.
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

    @functools.cached_property
    def mask(self):
        return build(self.leaves, self.written)

    @functools.cached_property
    def visible(self):
        return visible_by_definition(self.leaves)


def contents(rng, kind, call):
    """The leaves of one kind. Everything may be hidden, in every kind, but seldom is."""
    B, _, T, S = call.sizes
    if kind == "lengths":
        drawn = {"query_lengths": up_to(rng, B, 0, T), "key_lengths": up_to(rng, B, 0, S)}
    elif kind == "segments":
        drawn = {"query_segments": ids(rng, B, T), "key_segments": ids(rng, B, S)}
    elif kind == "causal":
        drawn = {"causal": up_to(rng, B, -T, S)}
    elif kind == "window":
        ends = {name: up_to(rng, B, -2, S) for name in ("left", "right")}
        drawn = ends | {"offset": up_to(rng, B, -T, S)}
    elif kind in ("latest media", "all media"):
        name = kind.split()[0] if kind == "latest media" else "media"
        # The number of images begun so far never falls.
        drawn = {f"query_{name}": np.sort(ids(rng, B, T)), f"key_{name}": ids(rng, B, S)}
    elif kind == "keys":
        drawn = {"keys": booleans(rng, (B, S))}
    else:
        drawn = {"dense": booleans(rng, call.sizes)}
    return drawn


def up_to(rng, B, low, high):
    """One number for each example; the ends come up more often than the rest."""
    drawn = rng.integers(low, high, B, np.int32, endpoint=True)
    return np.where(rng.random(B) < 0.2, rng.choice(np.int32([low, high, high]), B), drawn)


def ids(rng, B, n):
    return rng.integers(0, rng.integers(1, 4), (B, n), np.int32, endpoint=True)


def booleans(rng, shape):
    """The first example is wholly hidden half of the times."""
    drawn = rng.random(shape) < rng.choice([0.1, 0.5, 0.7, 0.9], p=[0.1, 0.3, 0.3, 0.3])
    drawn[0] &= rng.random() < 0.5
    return drawn


@st.composite
def situations(draw, alone=None, calls=CALLS):
    """The kind `alone`, written as users write it, in one shape; or one to four kinds at random.

    Numbers come from a seed: hypothesis prefers zeros and ends, which hide all there is to see.
    """
    if alone:
        kinds, calls = (alone,), (CALLS[list(TERMS).index(alone) % 2],)
    else:
        number = draw(st.sampled_from((1, 2, 3, 4)))
        kinds = draw(st.permutations(tuple(TERMS)))[:number]
    call, seed = draw(st.sampled_from(calls)), draw(SEEDS)
    leaves, rng = neutral(call), np.random.default_rng(seed)
    for kind in kinds:
        leaves |= contents(rng, kind, call)
    return Situation(call, tuple(kinds), (alone,) if alone else tuple(TERMS), leaves, seed)
