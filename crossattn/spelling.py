"""What a user may have meant."""

import difflib
from collections.abc import Iterable, Mapping


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest, or all of them.

    Example:
      >>> nearest("fusoin", ["easy_vqa", "fusion"]), nearest("zzz", ["a", "b"])
      ('did you mean fusion?', 'choose one of a, b')
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"


def where_field_is(
    path: str,
    fields: Iterable[str],
    inner: Iterable[str],
    prefix: str,
    above: Mapping[str, str],
) -> str:
    """What is said of a field that there is not: where it is, or where what is called alike is.

    Example:
      >>> above = {"heads": "model.heads"}
      >>> where_field_is("heads", ["head_size"], ["head_size"], "model.attention.", above)
      ': did you mean model.heads?'
      >>> where_field_is("qk_norm", ["logits"], ["logits.norm"], "model.attention.", above)
      '; it has logits; within these model.attention.logits.norm'
    """
    name = path.partition(".")[0]
    fields, inner = list(fields), [known for known in inner if "." in known]
    deeper = [known for known in inner if known.endswith(f".{path}")]
    if path in above and not deeper:
        return f": did you mean {above[path]}?"
    if near := deeper[:1] or difflib.get_close_matches(name, fields, n=1, cutoff=0.7):
        return f": did you mean {prefix}{near[0]}?"
    words = lambda known: {*known.rpartition(".")[2].split("_")}
    alike = [prefix + known for known in inner if words(known) & words(path)]
    more = f"; within these {', '.join(alike)}" if alike else ""
    return f"; it has {', '.join(fields)}{more}"
