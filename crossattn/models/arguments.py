"""What `generate` is given, checked where it is known: a wrong number would write a wrong text."""

import math
import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.nn.cache import KVCache
from crossattn.nn.tables import concrete, exceeds
from crossattn.shapes import Array, Bool

__all__ = [
    "check_cache",
    "check_words",
    "integer",
    "lengths_of",
    "prompt_of",
    "real",
    "rows_axis",
    "tokens_of",
]


def integer(what: str, value: Any) -> int:
    """A number without a fraction, known while tracing.

    >>> integer("length", True)
    Traceback (most recent call last):
    TypeError: length is an integer, got True
    """
    wrong = TypeError(f"{what} is an integer, got {value!r}")
    if isinstance(value, bool | np.bool_):
        raise wrong
    try:
        return operator.index(value)
    except TypeError:
        raise wrong from None


def real(what: str, value: Any) -> float:
    """A finite number.

    >>> real("Sample.temperature", float("nan"))
    Traceback (most recent call last):
    ValueError: Sample.temperature is finite, got nan
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{what} is a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{what} is finite, got {value}")
    return float(value)


def prompt_of(prompt: Any) -> Any:
    """The prompt (B, P), an array of numpy where it was a list.

    >>> prompt_of([[1.5]])
    Traceback (most recent call last):
    TypeError: prompt holds integers, got float64
    """
    found = _integers("prompt", prompt)
    if found.ndim != 2:
        raise ValueError(f"prompt is (B, P), a row for each text, got shape {found.shape}")
    if found.shape[0] < 1:
        raise ValueError("the prompt has no rows: give one for each text")
    if found.shape[1] < 1:
        raise ValueError(
            "the prompt is empty: give every row at least the token that starts a text"
        )
    # All can be compared with the size of any vocabulary.
    return found.astype(np.int32) if found.dtype.itemsize < 4 else found


def lengths_of(lengths: Any, B: int, P: int) -> Any:
    """How many tokens of each prompt count (B,), int32.

    >>> lengths_of([3, 2], 2, 2)
    Traceback (most recent call last):
    ValueError: lengths are 1 to 2, which is the width of the prompt, got 3
    """
    if lengths is None:
        return np.full(B, P, np.int32)
    found = _integers("lengths", lengths)
    if found.shape != (B,):
        raise ValueError(f"lengths are ({B},), one for each prompt, got shape {found.shape}")
    known = concrete(found)
    wrong: Any = () if known is None else known[(known < 1) | (known > P)]
    if len(wrong):
        raise ValueError(f"lengths are 1 to {P}, which is the width of the prompt, got {wrong[0]}")
    return found.astype(np.int32)


def tokens_of(what: str, tokens: Any) -> tuple[Any, ...]:
    """One token or several, each once: integers where they are known.

    >>> tokens_of("eos_id", [5, 3, 5])
    (5, 3)
    >>> tokens_of("eos_id", "x")
    Traceback (most recent call last):
    TypeError: eos_id holds integers, got 'x'
    """
    found = _integers(what, sorted(tokens) if isinstance(tokens, set | frozenset) else tokens)
    if found.ndim > 1 or not found.size:
        raise ValueError(f"{what} is a token or several of them, got shape {found.shape}")
    known = concrete(found)
    if known is None:
        return tuple(found.reshape(-1).astype(jnp.int32))
    return tuple(dict.fromkeys(known.reshape(-1).tolist()))


def check_words(V: int, ends: Sequence[Any], prompt: Any, lengths: Any) -> Bool[Array, " B"] | None:
    """Whether the tokens are those that the step can write, and the lengths those of the prompt.

    Returns:
      Which rows are wrong, where that is known only when the program runs; None where nothing is.

    Raises:
      ValueError: it is known that one is.
    """
    for end in ends:
        if isinstance(end, int) and not 0 <= end < V:
            raise ValueError(
                f"eos_id {end} is outside of the vocabulary of the logits, 0 to {V - 1}"
            )
    P = prompt.shape[1]
    counts = np.arange(P, dtype=np.int32)[None] < lengths[:, None]
    wrong = counts & ((prompt < 0) | (prompt >= V))
    if concrete(wrong) is None:
        return wrong.any(axis=1) | (lengths < 1) | (lengths > P)
    if wrong.any():
        raise ValueError(
            f"token {np.asarray(prompt)[np.asarray(wrong)][0]} of the prompt is outside of the "
            f"vocabulary of the logits, 0 to {V - 1}: a step that reads more words than it writes "
            "pads its logits with -inf"
        )
    return None


def check_cache(cache: Any, B: int, W: int, T: int) -> None:
    """A row for each beam, and room for the T tokens that are read where that can be told.

    Raises:
      ValueError: there are other rows, or there is less room.
    """
    stop = lambda node: isinstance(node, KVCache)
    for path, node in jax.tree_util.tree_leaves_with_path(cache, is_leaf=stop):
        name = f"cache{jax.tree_util.keystr(path)}"
        for leaf in jax.tree.leaves(node):
            shape, axis = jnp.shape(leaf), rows_axis(node, jnp.ndim(leaf))
            if not 0 <= axis < len(shape) or shape[axis] != B * W:
                raise ValueError(
                    f"{name} has shape {shape}: make it with {B * W} rows "
                    f"({B} texts of {W} beams) at axis {axis}"
                )
        if stop(node) and exceeds(T, node.room):
            raise ValueError(
                f"{name} is a cache for {node.room} tokens, but {T} are read, all of the prompt "
                f"and all that is written but the last: make it with init_cache(rows, {T + 1})"
            )


def rows_axis(node: Any, rank: int) -> int:
    """The axis of the rows in a leaf of a part of the cache: of a `KVCache` it is known."""
    return rank - 4 if isinstance(node, KVCache) else 1


def _integers(what: str, value: Any) -> Any:
    """An array of integers, of lists as well."""
    parts = jax.tree.leaves(value)
    if any(isinstance(part, bool | np.bool_) for part in parts):
        raise TypeError(f"{what} holds integers, got {value!r}")
    try:
        traced = any(isinstance(part, jax.Array) for part in parts)
        found = jnp.asarray(value) if traced else np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{what} has rows of different lengths: fill them up, and give lengths="
        ) from None
    if found.size and not jnp.issubdtype(found.dtype, jnp.integer):
        got = repr(value) if found.ndim == 0 else found.dtype
        raise TypeError(f"{what} holds integers, got {got}")
    return found
