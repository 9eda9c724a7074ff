"""What a user may have meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest, or all of them.

    Example:
      >>> nearest("fusoin", ["easy_vqa", "fusion"]), nearest("zzz", ["a", "b"])
      ('did you mean fusion?', 'choose one of a, b')
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
