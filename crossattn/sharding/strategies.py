"""Which way queries and keys on different devices meet, by the bytes that each way moves.

Queries lie over n devices along T, keys and values along S. Per device and example, d = H * D and
dkv = K * D, e bytes an element, for forward and again for backward:

| strategy | what moves | bytes |
|---|---|---|
| gather-q | queries there, partial results back; keys stay | (n-1)/n * (2 T d e + 4 T H) |
| ulysses | all, against heads and back | (n-1)/n^2 * (2 (T d + S dkv) e + 4 T H) |
| gather-kv | keys and values to all | (n-1)/n * 2 S dkv e |

Batch and heads over other axes of the mesh move nothing. (gather-q: Chang et al. 2025, "LV-XAttn",
by rounds there; ulysses: Jacobs et al. 2023, "DeepSpeed Ulysses".)
"""

from __future__ import annotations

import dataclasses

__all__ = [
    "STRATEGIES",
    "Exchange",
    "ExchangeSizes",
    "choose_strategy",
    "exchanges",
    "strategy_table",
]

STRATEGIES = {
    "gather-q": "queries to all devices, partial results joined by lse; keys never move",
    "ulysses": "tokens against heads and back; needs K and H to be multiples of n",
    "gather-kv": "keys and values to all devices",
}


@dataclasses.dataclass(frozen=True)
class ExchangeSizes:
    """One call as the devices of the axis see it: batch and heads over other axes are cut already.

    Attributes:
      B, T, S, H, K, D, V: the letters of the house; V is the size of a value.
      n: how many devices share the tokens; T and S are padded to multiples of it.
      element: bytes of an element of q, k and v.
    """

    B: int
    T: int
    S: int
    H: int
    K: int
    D: int
    V: int
    n: int
    element: int

    @property
    def queries(self) -> int:
        """Bytes of one device's queries and of its results."""
        return self.B * -(-self.T // self.n) * self.H * (self.D + self.V) * self.element

    @property
    def context(self) -> int:
        """Bytes of one device's keys and values."""
        return self.B * -(-self.S // self.n) * self.K * (self.D + self.V) * self.element

    @property
    def lse(self) -> int:
        """Bytes of the lse of one device's queries, float32 or float64."""
        return self.B * -(-self.T // self.n) * self.H * max(self.element, 4)


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What one strategy moves, in bytes on the wire per device.

    `refused` says why the strategy cannot take the call, None where it can.
    """

    strategy: str
    forward: int
    backward: int
    refused: str | None = None


def exchanges(sizes: ExchangeSizes) -> tuple[Exchange, ...]:
    """What every strategy would move.

    >>> long = ExchangeSizes(B=1, T=256, S=131_072, H=16, K=16, D=128, V=128, n=8, element=2)
    >>> [round(x.forward / 2**20, 2) for x in exchanges(long)]
    [1.76, 112.22, 896.0]
    """
    others = sizes.n - 1
    there_and_back = others * (sizes.queries + sizes.lse)
    heads = others * (sizes.queries + sizes.context) // sizes.n
    context = others * sizes.context
    refused = None
    if sizes.K % sizes.n:
        refused = f"K={sizes.K} key heads do not divide over {sizes.n} devices"
    return (
        Exchange("gather-q", there_and_back, there_and_back),
        Exchange("ulysses", heads + others * sizes.lse // sizes.n, heads, refused),
        Exchange("gather-kv", context, context),
    )


def choose_strategy(sizes: ExchangeSizes) -> Exchange:
    """The possible strategy that moves least, forward and backward together.

    >>> many = ExchangeSizes(B=1, T=8192, S=1024, H=16, K=16, D=128, V=128, n=8, element=2)
    >>> choose_strategy(many).strategy
    'gather-kv'
    """
    # Of equals the last: on one device nothing moves, and nothing needs to be joined.
    possible = [x for x in reversed(exchanges(sizes)) if x.refused is None]
    return min(possible, key=lambda x: x.forward + x.backward)


def strategy_table(sizes: ExchangeSizes) -> str:
    """Every strategy's bytes, and which is chosen or why it is not: a text to read.

    >>> sizes = ExchangeSizes(B=1, T=64, S=4096, H=6, K=3, D=64, V=64, n=4, element=4)
    >>> print(strategy_table(sizes))
    strategy      forward   backward  MiB on the wire per device
    gather-q        0.142      0.142  chosen
    ulysses         1.160      1.160  refused: K=3 key heads do not divide over 4 devices
    gather-kv       4.500      4.500  31.8 times as much
    """
    best = choose_strategy(sizes)
    lines = [f"{'strategy':10}{'forward':>11}{'backward':>11}  MiB on the wire per device"]
    for x in exchanges(sizes):
        if x.refused is not None:
            why = f"refused: {x.refused}"
        elif x == best:
            why = "chosen"
        else:
            least = max(best.forward + best.backward, 1)
            why = f"{(x.forward + x.backward) / least:.1f} times as much"
        lines.append(f"{x.strategy:10}{x.forward / 2**20:11.3f}{x.backward / 2**20:11.3f}  {why}")
    return "\n".join(lines)
