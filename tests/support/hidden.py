"""What nobody sees of a call, and how to put something else there."""

import numpy as np


class Seen:
    """Who sees whom, which keys anybody sees, which queries see anything, which biases count."""

    def __init__(self, call, visible, arrays):
        bias = arrays.get("bias", np.zeros((1, 1, 1, 1)))
        axes = tuple(a for a, n in enumerate(bias.shape) if n == 1)
        self.biases = visible.any(axes, keepdims=True)  # (B|1, H|1, T|1, S|1)
        self.pairs = visible & (bias != -np.inf)  # (B, H, T, S)
        self.rows = self.pairs.any(3)  # (B, H, T)
        self.queries = self.rows.swapaxes(1, 2)  # (B, T, H)
        self.keys = (
            self.pairs.reshape(call.B, call.K, -1, call.S).any(2).swapaxes(1, 2)
        )  # (B, S, K)


def poisoned(arrays, seen, poison):
    """Everything that no query sees, and everything of queries that see nothing, replaced."""
    shown = {"q": seen.queries[..., None], "k": seen.keys[..., None], "v": seen.keys[..., None]}
    shown |= {"out": seen.queries[..., None], "lse": seen.rows}
    if "bias" in arrays:
        shown["bias"] = seen.biases | np.isneginf(arrays["bias"])
    return {name: np.where(shown[name], x, poison) for name, x in arrays.items()}
