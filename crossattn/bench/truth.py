"""Attention in float64 and plain numpy, by blocks of queries, and the errors against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# A case with more query-key pairs than this is checked on its first and last queries only.
WHOLE = 2**25
EDGE = 4
BLOCK = 2**22  # scores at once

# (rows, B) -> booleans that broadcast to (rows, S), for example b.
Visible = Callable[[np.ndarray, int], np.ndarray]


def checked_rows(B: int, T: int, S: int, H: int) -> np.ndarray:
    """Indices of the queries whose results are compared with float64.

    >>> checked_rows(1, 3, 5, 2), checked_rows(1, 100, 10**7, 2)
    (array([0, 1, 2]), array([ 0,  1,  2,  3, 96, 97, 98, 99]))
    """
    if B * T * S * H <= WHOLE or T <= 2 * EDGE:
        return np.arange(T)
    return np.r_[:EDGE, T - EDGE : T]


def attention64(
    q: Any, k: Any, v: Any, do: Any = None, *, rows: np.ndarray, visible: Visible | None = None
) -> dict[str, np.ndarray]:
    """{out} (B, R, H, V) at the rows, and {dq, dk, dv} for a cotangent of the output.

    dk and dv are sums over all queries, and are there only where all are among the rows.
    """
    (B, T, H, D), V = q.shape, v.shape[3]
    names = {"out": (B, len(rows), H, V)}
    if do is not None:
        names["dq"] = (B, len(rows), H, D)
        if len(rows) == T:
            names |= {"dk": k.shape, "dv": v.shape}
    found = {name: np.zeros(shape) for name, shape in names.items()}
    step = max(1, BLOCK // max(1, k.shape[1]))
    for b, h in np.ndindex(B, H):
        kv = h // (H // k.shape[2])
        head = [np.asarray(x[b, :, at], np.float64) for x, at in ((q, h), (k, kv), (v, kv))]
        cotangent = None if do is None else np.asarray(do[b, :, h], np.float64)
        for at in range(0, len(rows), step):
            part = rows[at : at + step]
            seen = None if visible is None else visible(part, b)
            block = _rows(head, None if cotangent is None else cotangent[part], part, seen)
            for name in found:
                if name in ("out", "dq"):
                    found[name][b, at : at + step, h] = block[name]
                else:
                    found[name][b, :, kv] += block[name]
    return found


def _rows(head, do, part, seen) -> dict[str, np.ndarray]:
    q, k, v = head
    q, scale = q[part], q.shape[1] ** -0.5
    s = q @ k.T * scale
    if seen is not None:
        s = np.where(seen, s, -np.inf)
    p = np.exp(s - s.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    out = p @ v
    if do is None:
        return {"out": out}
    ds = p * (do @ v.T - (do * out).sum(1, keepdims=True)) * scale
    return {"out": out, "dq": ds @ k, "dk": ds.T @ q, "dv": p.T @ do}


@dataclasses.dataclass(frozen=True)
class Truth:
    """What results are compared with.

    Attributes:
      rows: of the queries that are compared.
      expected: name -> array; "out" and "dq" hold the rows only.
      scale: what an error of the output is relative to.
    """

    rows: np.ndarray
    expected: dict[str, np.ndarray]
    scale: float

    @classmethod
    def of(cls, q: Any, k: Any, v: Any, do: Any = None, *, visible: Visible | None = None) -> Truth:
        """The truth of one call of attention."""
        q, k, v = (np.asarray(x) for x in (q, k, v))
        (B, T, H, _), S = q.shape, k.shape[1]
        rows = checked_rows(B, T, S, H)
        do = None if do is None else np.asarray(do)
        expected = attention64(q, k, v, do, rows=rows, visible=visible)
        return cls(rows, expected, float(np.abs(v).max()))

    def error(self, found: Sequence[Any]) -> float:
        """Of (out,): relative to max|v|. Of (out, dq, dk, dv): of the gradients, to the largest."""
        names = ("out", "dq", "dk", "dv")[: len(found)]
        named = {n: x for n, x in zip(names, found, strict=True) if n in self.expected}
        worst, largest = {}, {}
        for name, x in named.items():
            x = np.asarray(x)
            if name in ("out", "dq"):
                x = x[:, self.rows]
            worst[name] = np.abs(x.astype(np.float64) - self.expected[name]).max()
            largest[name] = np.abs(self.expected[name]).max()
        if len(found) == 1:
            return float(worst["out"] / self.scale)
        gradients = [name for name in named if name != "out"]
        # np.max, since Python's max may lose a NaN.
        return float(np.max([worst[n] for n in gradients]) / max(largest[n] for n in gradients))
