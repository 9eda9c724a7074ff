"""What a GPU is tried on: every kind of mask, sizes, dtypes and options, by each way there is."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from crossattn import Mask
from tests.support.cases import Call, inputs
from tests.support.situations import TERMS, contents, neutral, visible_by_definition

WAYS = ("cudnn", "split_kv", None)  # None: what the table chooses

# Odd sizes and grouped heads; whole tiles; few queries that read a context in parts; odd heads.
RAGGED = Call(T=37, S=83, H=4, K=2, D=64, V=64)
WHOLE = Call(B=3, T=64, S=512, H=4, K=4, D=128, V=128)
LONG = Call(T=3, S=8200, H=2, K=1, D=64, V=64)
ODD = Call(T=7, S=5, H=3, K=3, D=11, V=13)

# The terms as users write them, `n` with numbers that are known when it is compiled.
WRITTEN = {
    **{kind: lambda x, n, term=term: term(x) for kind, term in TERMS.items()},
    "full": lambda x, n: Mask(),
    "causal": lambda x, n: Mask.causal(n["causal"]),
    "causal late": lambda x, n: Mask.causal(n["causal"]),
    "causal and lengths": lambda x, n: Mask.causal(n["causal"]) & TERMS["lengths"](x),
    "window": lambda x, n: Mask.window(n["left"], n["right"], n["offset"]),
    "segments in runs": lambda x, n: TERMS["segments"](x),
    "dense for keys": lambda x, n: Mask.dense(x["dense"][:, :1, :1]),
}
IN_TILES = ("full", "lengths", "causal", "causal and lengths", "window")


@dataclasses.dataclass(frozen=True)
class Tried:
    """One call, its mask, and by which way: a program, and what it should compute."""

    way: str | None
    kind: str
    call: Call
    dtype: str = "bfloat16"

    def __str__(self):
        n = self.call
        more = "".join(f", {x}" for x in (n.bias is not None and "bias", n.softcap) if x)
        sizes = f"({n.B}, {n.T}, {n.S}, {n.H} over {n.K}, {n.D}{more})"
        return f"{self.way or 'default'}, {self.kind}, {self.dtype} {sizes}"

    @property
    def arrays(self):
        """Inputs and cotangents as the dtype holds them, in float64."""
        return inputs(self.call, dtype=jnp.dtype(self.dtype))

    @property
    def leaves(self):
        """The numbers of the mask."""
        call = self.call
        B, _, T, S = call.sizes
        lengths = {
            "query_lengths": np.array([T - T // 3, T, T], np.int32)[:B],
            "key_lengths": np.array([S - S // 4, S // 3, 0], np.int32)[:B],
        }
        fixed = {
            "full": {},
            "lengths": lengths,
            "causal": {"causal": 0},
            "causal late": {"causal": S - T},
            "causal and lengths": lengths | {"causal": 0},
            "window": {"left": 3, "right": 0, "offset": 0},
        }
        rng, drawn = np.random.default_rng(3), fixed.get(self.kind)
        if self.kind == "segments in runs":
            drawn = {n: np.sort(x) for n, x in contents(rng, "segments", call).items()}
        elif self.kind == "dense for keys":
            dense = rng.random((B, 1, 1, S)) < 0.6
            drawn = {"dense": np.broadcast_to(dense, call.sizes)}
        elif drawn is None:
            drawn = contents(rng, self.kind, call)
        whole = {n: x if np.ndim(x) else np.full(B, x, np.int32) for n, x in drawn.items()}
        return neutral(call) | whole

    @property
    def visible(self):
        """Booleans (B, H, T, S)."""
        return visible_by_definition(self.leaves)

    def mask(self, leaves):
        """The mask; numbers that must be known are not taken from `leaves`, which may be traced."""
        known = {n: int(x[0]) for n, x in self.leaves.items() if np.ndim(x) == 1}
        return WRITTEN[self.kind](leaves, known)

    @property
    def may_refuse(self):
        """Whether the way need not take this call; elsewhere a refusal is a failure."""
        return self.way == "cudnn" and self.call.softcap is not None


def every():
    """All calls: 76 programs."""
    tried = [(kind, RAGGED, "bfloat16") for kind in WRITTEN]
    tried += [(kind, WHOLE, "float16") for kind in IN_TILES]
    tried += [(kind, LONG, "bfloat16") for kind in ("full", "lengths", "keys")]
    tried += [("lengths", ODD, "bfloat16")]
    capped = dataclasses.replace(RAGGED, softcap=1.7)
    tried += [("lengths", n, "bfloat16") for n in (capped, dataclasses.replace(RAGGED, bias="HTS"))]
    calls = [Tried(way, *one) for one in tried for way in WAYS]
    single = [(kind, RAGGED, "float32") for kind in ("lengths", "dense")]
    return calls + [Tried(way, *one) for one in single for way in WAYS[1:]]
