"""Parameters of a tree: chosen by the parts of their paths, and counted."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

import jax

__all__ = ["chosen", "count_parameters"]


def chosen(pattern: str, paths: Iterable[str]) -> list[str]:
    """Paths that have the pattern as whole parts, one or several in a row.

    A pattern is a regular expression, in which "|" separates patterns: "text" is a part of
    "text/norm/scale" and no part of "context_norm/scale". A name stands for those with a number as
    well: "text" for "text0" and "text_1", but "layer_1" not for "layer_12". "" stands for all.

    Raises:
      ValueError: nothing matches, or the pattern is no regular expression.

    >>> chosen("text|query/bias", ["text0/kernel", "context/text", "context_norm", "query/bias/x"])
    ['text0/kernel', 'context/text', 'query/bias/x']
    """
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern of paths is a text, got {pattern!r}")
    paths = list(paths)
    try:
        whole = re.compile(rf"(?:^|/)(?:{pattern})(?:(?<!\d)_?\d+)?(?=/|$)" if pattern else "")
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    found = [path for path in paths if whole.search(path)]
    if not found:
        raise ValueError(f"no parameter's path matches {pattern!r}: {_near(pattern, paths)}")
    return found


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _near(pattern: str, paths: list[str]) -> str:
    """Parts of paths that may be meant, else some of the paths."""
    parts = sorted({part for path in paths for part in path.split("/")})
    words = re.findall(r"\w+", pattern)
    near = {one for word in words for one in difflib.get_close_matches(word, parts)}
    near |= {part for part in parts if any(word in part for word in words)}
    if near:
        return f"near are {', '.join(sorted(near))}, and whole parts of a path are matched"
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return f"there are {', '.join(sorted(paths)[:5])}{more}"
