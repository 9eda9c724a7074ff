"""What a trace says of itself: a line of text, small heat maps, and the page of the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from crossattn.ops.numbers import array_repr, unreadable

__all__ = ["DrawnTrace"]

# Queries, columns and heads that are drawn, and the scores that are computed for it at most.
MOST_QUERIES, MOST_COLUMNS, MOST_HEADS = 32, 64, 32
MOST_WORK = 2**22
# Scores of which a page is made.
MOST_SHOWN = 2**27


class DrawnTrace:
    """What an `AttentionTrace` shows of itself."""

    def __repr__(self: Any) -> str:
        return f"{type(self).__name__}({_described(self)})"

    def _repr_html_(self: Any) -> str:
        """Weights of the first example, a heat map for each head."""
        from crossattn.viewer.markup import figure

        reason = unreadable(self) or _unlike_one(self)
        if reason:
            return figure(repr(self), note=f"not drawn: {reason}")
        (B, T, H, _), S = self.q.shape, self.k.shape[1]
        rows, heads = min(T, MOST_QUERIES), min(H, MOST_HEADS)
        if B * H * rows * S > MOST_WORK:
            size = f"weights (B={B}, H={H}, {rows} of T={T}, S={S}) are too many"
            return figure(repr(self), note=f"not drawn: {size}: call weights(queries) for a few")
        weights = np.asarray(self.weights(jnp.arange(rows)), np.float32)[0, :heads]
        return figure(repr(self), *_maps(weights), note=_note(self, rows, heads))

    def show(
        self: Any,
        words: Sequence[str],
        image: Any = None,
        *,
        example: int = 0,
        **fields: Any,
    ) -> Any:
        """The viewer's page on which one clicks a word and sees where each head looks.

        Args:
          words: the T words that ask, of one example.
          image: the picture (h, w, 3) whose patches are the keys, row by row; None: they are none.
          example: which row of the batch.
          **fields: further ones of the viewer, such as `grid=(rows, columns)` where the patches are
            no square, or `tokens=` with the names of S keys; see `crossattn.viewer.explore`.

        Returns:
          page: shows itself in a notebook; `page.save("words.html")` writes it. A stacked trace
          makes a page of all its layers.

        Raises:
          ValueError: words, keys or picture do not fit the trace, or its arrays cannot be read.
        """
        from crossattn.viewer import explore

        if reason := unreadable(self):
            raise ValueError(f"the trace cannot be shown: {reason}")
        if getattr(self.q, "ndim", 0) not in (4, 5):
            raise ValueError(f"show takes one trace or a stack of layers, got {self!r}")
        (B, T, H), S = self.q.shape[-4:-1], self.k.shape[-3]
        if B * H * T * S > MOST_SHOWN:
            sizes = f"weights (B={B}, H={H}, T={T}, S={S})"
            raise ValueError(f"{sizes} are too many: take the trace of fewer examples or words")
        if not 0 <= example < B:
            raise ValueError(f"example {example} is not one of the B={B} of the trace")
        return explore(image, words, np.asarray(self.weights()[..., example, :, :, :]), **fields)


def _described(trace: Any) -> str:
    q, k = (tuple(getattr(x, "shape", ())) for x in (trace.q, trace.k))
    if len(q) < 4 or len(k) < 4:  # while JAX looks at a tree, anything may stand for an array
        return f"q={array_repr(trace.q)}, k={array_repr(trace.k)}"
    *stack, B, T, H, D = q
    S, K = k[-3:-1]
    said = [f"stack of {' x '.join(map(str, stack))}"] if stack else []
    said.append(f"B={B}, T={T}, S={S}, H={H}{'' if K == H else f', K={K}'}, D={D}")
    said.append(str(trace.q.dtype))
    said.append(f"scale={trace.scale:.4g}" if isinstance(trace.scale, float) else "")
    said.append("" if trace.softcap is None else f"softcap={trace.softcap:.4g}")
    said.append("" if not getattr(trace.mask, "terms", True) else f"mask={trace.mask!r}")
    said.append("" if trace.bias is None else f"bias={array_repr(trace.bias)}")
    said.append("" if trace.key_lse is None else "with sinks")
    layout = getattr(trace, "layout", None)
    said.append("" if layout is None else f"keys over {layout.axis!r}")
    return ", ".join(filter(None, said))


def _unlike_one(trace: Any) -> str:
    """Why a trace has no maps of one example; empty where it has."""
    shape = getattr(trace.q, "shape", ())
    if len(shape) > 4:
        stack = ", ".join(["0"] * (len(shape) - 4))
        return f"it is a stack; jax.tree.map(lambda x: x[{stack}], trace) is the first"
    sizes = *shape, *getattr(trace.k, "shape", ())
    return "" if len(sizes) == 8 and 0 not in sizes else "it is empty"


def _maps(weights: np.ndarray) -> list[str]:
    """Heat maps (T, S) of each head; neighbouring keys are added up where there are many."""
    from crossattn.viewer.markup import heat_map

    each = -(-weights.shape[2] // MOST_COLUMNS)
    added = np.add.reduceat(weights, np.arange(0, weights.shape[2], each), axis=2)
    widest = 260 if len(weights) <= 4 else 170
    return [heat_map(one, caption=f"head {head}", widest=widest) for head, one in enumerate(added)]


def _note(trace: Any, rows: int, heads: int) -> str:
    (B, T, H, _), S = trace.q.shape, trace.k.shape[1]
    each = -(-S // MOST_COLUMNS)
    parts = ["weights" if B == 1 else f"weights of the first of {B} examples"]
    parts.append(f"{'' if rows == T else f'the first {rows} of '}{T} queries down")
    parts.append(f"{S} keys across" + (f", {each} in a column" if each > 1 else ""))
    parts.append(f"the first {heads} of {H} heads" if heads < H else "")
    return "; ".join(filter(None, parts))
