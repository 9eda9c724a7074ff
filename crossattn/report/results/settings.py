"""The settings of every variant, as it ran: what all share, and what each changes.

`results["settings"]` holds the nested settings of each variant, the base that they were made from
stands in the environment. Fields are named by dotted paths, as on the command line.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from crossattn.fields import flat
from crossattn.report.render.blocks import Table
from crossattn.report.results.runs import Results

# variant -> dotted field -> value
Settings = Mapping[str, Mapping[str, Any]]
# Lists that choose from what there is, and choose all of it when they are empty.
ALL_WHEN_EMPTY = ("loss.attention_layers", "loss.attention_heads", "data.only_words")


def settings_of(results: Results) -> dict[str, dict[str, Any]]:
    """The settings of each variant that ran; empty where the results do not say.

    Example:
        >>> settings_of({"runs": [{"variant": "a"}], "settings": {"a": {"model": {"heads": 2}}}})
        {'a': {'model.heads': 2}}
    """
    ran = dict.fromkeys(run["variant"] for run in results["runs"])
    known = results.get("settings", {})
    return {name: flat(known[name]) for name in ran} if known.keys() >= ran.keys() else {}


def differing_settings(settings: Settings) -> list[str]:
    """Fields that do not have one value in all variants.

    Example:
        >>> differing_settings({"a": {"steps": 10, "heads": 2}, "b": {"steps": 10, "heads": 4}})
        ['heads']
    """
    fields = dict.fromkeys(field for own in settings.values() for field in own)
    return [
        field for field in fields if len({_key(own.get(field)) for own in settings.values()}) > 1
    ]


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def in_words(settings: Settings, fields: Sequence[str], words: Callable[..., str]) -> str:
    """What `words` makes of some fields' values; with the variants' names where they differ.

    Empty where a variant lacks a field.

    Example:
        >>> settings = {"a": {"heads": 2}, "b": {"heads": 4}, "c": {"heads": 4}, "d": {"heads": 4}}
        >>> in_words(settings, ["heads"], lambda heads: f"{heads} heads")
        '2 heads (a) and 4 heads (all other variants)'
    """
    if not settings or not all(field in own for own in settings.values() for field in fields):
        return ""
    groups: dict[str, list[str]] = {}
    for variant, own in settings.items():
        groups.setdefault(words(*(own[field] for field in fields)), []).append(variant)
    if len(groups) == 1:
        return next(iter(groups))
    *few, most = sorted(groups.items(), key=lambda group: len(group[1]))
    parts = [f"{text} ({listed(names)})" for text, names in few]
    rest = "all other variants" if len(most[1]) > 2 else listed(most[1])
    return listed([*parts, f"{most[0]} ({rest})"])


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    *most, last = names or [""]
    return f"{', '.join(most)} and {last}" if most else last


def changed_settings(results: Results) -> dict[str, dict[str, tuple[Any, Any]]]:
    """For each variant the fields in which it is not the base: (its value, the base's).

    Where the results hold the `changes` of the suite, these and the rates of a sweep: fields that
    follow from others, as all of a block from its preset, are not said.

    Example:
        >>> runs = [{"variant": "a"}, {"variant": "b"}]
        >>> base, more = {"model": {"heads": 2}}, {"model": {"heads": 4}}
        >>> changed_settings({"runs": runs, "settings": {"a": base, "b": more},
        ...          "environment": {"settings": base}})
        {'a': {}, 'b': {'model.heads': (4, 2)}}
    """
    base, settings = flat(results["environment"].get("settings", {})), settings_of(results)
    found = {
        variant: {
            field: (value, base.get(field))
            for field, value in own.items()
            if _key(value) != _key(base.get(field))
        }
        for variant, own in settings.items()
    }
    if (declared := results.get("changes")) is None:
        return found
    rate = "optimizer.learning_rate"
    swept = {name: {rate: None} for name in results["learning_rate_sweep"] if rate in found[name]}
    return {
        variant: {
            field: own.get(field, (value, base.get(field)))
            for field, value in _leaves(declared.get(variant, {}) | swept.get(variant, {}), known)
            if field in own or field not in base
        }
        for (variant, own), known in zip(found.items(), settings.values(), strict=True)
    }


def _leaves(changes: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Changed fields with their values; of a field that has parts, these."""
    for field, value in changes.items():
        parts = [name for name in known if name.startswith(f"{field}.")]
        yield from [(name, known[name]) for name in parts] or [(field, value)]


def varied(results: Results) -> list[str]:
    """The fields that a suite varies.

    Example:
        >>> runs = [{"variant": "a"}, {"variant": "b"}]
        >>> base, more = {"heads": 2, "width": 4}, {"heads": 4, "width": 8}
        >>> varied({"runs": runs, "settings": {"a": base, "b": more}, "learning_rate_sweep": {},
        ...         "environment": {"settings": base}, "changes": {"a": {}, "b": {"heads": 4}}})
        ['heads']
    """
    settings = settings_of(results)
    apart = differing_settings(settings)
    if "changes" not in results:
        return apart
    said = dict.fromkeys(field for own in changed_settings(results).values() for field in own)
    known = {field for own in settings.values() for field in own}
    return [field for field in said if field in apart or field not in known]


def changes_table(results: Results) -> Table | None:
    """What each variant changes of the base; None where the results do not say."""
    found = changed_settings(results)
    if not found or not results["environment"].get("settings"):
        return None
    base = flat(results["environment"]["settings"])
    rows = [
        [
            variant,
            "; ".join(
                f"{field} = {in_figures(value, field)}"
                + (f" (base: {in_figures(base[field], field)})" if field in base else "")
                for field, (value, _) in own.items()
            )
            or "nothing: it is the base",
        ]
        for variant, own in found.items()
    ]
    return ["variant", "what it changes"], rows


def meanings_table(results: Results) -> Table | None:
    """What each setting is that a variant changes; None where the results do not say.

    Example:
        >>> runs, base = [{"variant": "a"}], {"loss": {"entropy": 0.0}}
        >>> meanings_table({"runs": runs, "settings": {"a": {"loss": {"entropy": 0.1}}},
        ...     "meanings": {"loss.entropy": "Normalised entropy of attention."},
        ...     "environment": {"settings": base}})
        (['setting', 'what it is'], [['loss.entropy', 'Normalised entropy of attention.']])
    """
    known = results.get("meanings", {})
    changed = dict.fromkeys(field for own in changed_settings(results).values() for field in own)
    rows = [[field, known[field]] for field in changed if field in known]
    return (["setting", "what it is"], rows) if rows else None


def shared_table(results: Results) -> Table | None:
    """The value of every setting that all variants have in common."""
    settings = settings_of(results)
    if not settings:
        return None
    apart = differing_settings(settings)
    first = next(iter(settings.values()))
    rows = [
        [field, in_figures(value, field)] for field, value in first.items() if field not in apart
    ]
    return ["setting", "value"], rows


def in_figures(value: Any, field: str = "") -> str:
    """A value of a setting, of this dotted field, as a reader has it.

    Example:
        >>> in_figures((), "loss.attention_layers"), in_figures(())
        ('all', 'none')
        >>> in_figures(("image", "boxes")), in_figures(0.004), in_figures("")
        ('image boxes', '0.004', 'none')
    """
    empty = "all" if field in ALL_WHEN_EMPTY else "none"
    if isinstance(value, list | tuple):
        return " ".join(map(in_figures, value)) or empty
    if isinstance(value, float):
        return f"{value:g}"
    return empty if value in ("", None) else str(value)
