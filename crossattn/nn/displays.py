"""What modules, configurations and presets say of themselves: what is not as by default."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from crossattn.ops.numbers import short_repr

__all__ = ["Differences", "Displayed", "changed_fields", "slots_html", "value_repr"]

# Fields of every Linen module that say where it stands, not what it is.
PLACE = ("parent", "name")


class Displayed:
    """A dataclass whose text names the fields that are not as by default, its HTML all of them."""

    def __repr__(self) -> str:
        fields = _fields(self)
        given = {f.name: getattr(self, f.name, None) for f in fields}
        own = {f.name: _default(f) for f in fields}
        said = (f"{n}={value_repr(x)}" for n, x in given.items() if not _same(x, own[n]))
        return f"{type(self).__name__}({', '.join(said)})"


class Differences(list[str]):
    """Lines such as "residual.norm: 'pre' -> 'post'"; a notebook shows them as a table."""

    def __init__(self, lines: Iterable[str], one: str, other: str):
        super().__init__(lines)
        self.names = one, other

    def _repr_html_(self) -> str:
        from crossattn.viewer.markup import figure, html_table

        title = f"{self.names[0]} -> {self.names[1]}"
        if not self:
            return figure(title, note="no field differs")
        cells = (line.partition(": ") for line in self)
        rows = [(field, *value.partition(" -> ")[::2]) for field, _, value in cells]
        return figure(title, html_table(["field", *self.names], rows))


class Slot(NamedTuple):
    """A field that holds no other ones."""

    path: str
    value: Any
    default: Any

    @property
    def changed(self) -> bool:
        """Whether the field is not as by default."""
        return not _same(self.value, self.default)


def slots(thing: Any, default: Any = None, prefix: str = "") -> Iterator[Slot]:
    """The fields of a configuration or module, and of those within it."""
    for field in _fields(thing):
        value, path = getattr(thing, field.name, None), f"{prefix}{field.name}"
        own = getattr(default, field.name) if type(default) is type(thing) else _default(field)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from slots(value, own, f"{path}.")
        else:
            yield Slot(path, value, own)


def changed_fields(config: Any) -> list[str]:
    """What is not as by default, as one would type it.

    >>> from crossattn.nn import presets
    >>> changed_fields(presets.config("flamingo"))[:2]
    ["order=('cross', 'mlp')", "residual.gate='tanh'"]
    """
    return [f"{slot.path}={value_repr(slot.value)}" for slot in slots(config) if slot.changed]


def slots_html(thing: Any, title: str = "", note: str = "") -> str:
    """Slots of a module or configuration: sublayers in their order, changed fields, the others."""
    from crossattn.viewer.markup import figure, html_table, html_text

    every = list(slots(thing))
    changed = [(x.path, value_repr(x.value), _default_repr(x)) for x in every if x.changed]
    same = [(x.path, value_repr(x.value)) for x in every if not x.changed]
    parts = [f"<div>{html_text(line)}</div>" for line in _orders(every)]
    if changed:
        parts.append(html_table(["field", "value", "by default"], changed))
    if same:
        summary = f"<summary>{len(same)} fields as by default</summary>"
        parts.append(f"<details>{summary}{html_table(['field', 'value'], same)}</details>")
    return figure(title or type(thing).__name__, *parts, note=note)


def value_repr(value: Any) -> str:
    """A field's value on one line: classes and functions by name, such as a dtype."""
    named = isinstance(value, type) or (callable(value) and not dataclasses.is_dataclass(value))
    name = getattr(value, "__name__", "") if named else ""
    if isinstance(value, Displayed):
        return repr(value)
    return name or short_repr(value)


def _orders(fields: Sequence[Slot]) -> Iterator[str]:
    for path, value, _ in fields:
        if path.split(".")[-1] == "order" and value:
            of = path.removesuffix("order").removesuffix(".") or "sublayers"
            yield f"{of}: {' → '.join(value)}"


def _default_repr(slot: Slot) -> str:
    return "" if slot.default is dataclasses.MISSING else value_repr(slot.default)


def _fields(thing: Any) -> list[dataclasses.Field]:
    """What a thing is made of first, then how it computes."""
    fields = [field for field in dataclasses.fields(thing) if field.name not in PLACE]
    return sorted(fields, key=lambda field: bool(field.kw_only))


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))
