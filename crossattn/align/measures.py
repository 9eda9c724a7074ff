"""Measures: what is computed of a model, its chance level, and how a report shows it.

A measure is an object that registers itself. What it reads is a dataclass of arrays
(`crossattn.align.inputs`) of one trained model; who makes such arrays hands them to
`crossattn.align.evidence.Evidence`, which computes every registered measure that reads them. The
report asks the registry for columns, ranges, chance levels and captions: a measure is in
results.json, tables, CSV, LaTeX and HTML because it is registered, and a name that is not is an
error.

    SHARPNESS = Measure("sharpness", "attention", AttentionMaps, lambda maps: maps.weights.max(-1),
                        "Sharpness: the weight of the most attended patch.")
    register_measure(SHARPNESS)
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

__all__ = [
    "MEASURES",
    "Family",
    "Measure",
    "Metric",
    "UnknownMeasureError",
    "find_metric",
    "metric_name",
    "parse_metric",
    "register_measure",
]

# The kinds of evidence, in the order of the columns of a summary: where a model looks, what it
# uses, how it represents, what it can do.
Family = Literal["attention", "causal", "representation", "task"]
FAMILIES: tuple[Family, ...] = get_args(Family)
SHARE = (0.0, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """One thing that is measured of a model.

    The names of its metrics are SPLIT/NAME and SPLIT/NAME/KIND in the family "task", elsewhere
    NAME/PLACE, NAME/PLACE/layerL and NAME/PLACE/layerL/headH.

    Attributes:
      name: as in the names of metrics, without a slash.
      family: the kind of evidence, which decides the section of a report.
      reads: the class of `crossattn.align.inputs` that `compute` takes.
      compute: values of single items (N,), a single number for all, or None where these arrays
        have nothing to measure.
      meaning: what a caption says of it: one sentence.
      chance: the level of chance of the same arrays: a number, or what gives one or one per item.
      chance_meaning: what reaches that level: one sentence.
      column: the head of its column; by default its name.
      words: what sentences call it; by default its name.
      unit: of its values, where they have one.
      format: of its values, as `format` takes it.
      limits: least and largest value; intervals end there.
      lower_is_better: whether a smaller value is the better one.
      headline: column of the main table by place or split; "*" stands for the place of the chosen
        layer.
      places: what columns call a place, where that is not its name.
      by_kind: whether single kinds of questions have values of their own ("task").
      by_layer: whether every layer has a value of its own ("attention").
      by_head: values of items and heads (N, H) of a layer, where heads have their own.
      levels: what simple strategies reach, by name: PLACE is that name, and there are no items.

    Raises:
      ValueError: a name with a slash or blank, an unknown family, limits in the wrong order.
    """

    name: str
    family: Family
    reads: type
    compute: Callable[[Any], Any]
    meaning: str
    _: dataclasses.KW_ONLY
    chance: Callable[[Any], Any] | float | None = None
    chance_meaning: str = ""
    column: str = ""
    words: str = ""
    unit: str = ""
    format: str = ".3f"
    limits: tuple[float, float] = SHARE
    lower_is_better: bool = False
    headline: Mapping[str, str] = dataclasses.field(default_factory=dict)
    places: Mapping[str, str] = dataclasses.field(default_factory=dict)
    by_kind: bool = False
    by_layer: bool = True
    by_head: Callable[[Any], Any] | None = None
    levels: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not re.fullmatch(r"[^\s/]+", self.name):
            raise ValueError(f"a measure's name has no slash and no blank, got {self.name!r}")
        if self.family not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise ValueError(f"{self.name}: family is one of {known}, got {self.family!r}")
        if not self.limits[0] < self.limits[1]:
            raise ValueError(f"{self.name}: limits are (least, largest), got {self.limits}")
        words = self.words or self.name.replace("_", " ")
        object.__setattr__(self, "words", words)

    @property
    def head(self) -> str:
        """The head of its column, with its unit."""
        column = self.column or self.words
        return f"{column} [{self.unit}]" if self.unit else column


class Metric(NamedTuple):
    """The parts of a metric's name: where its measure was taken, and of what."""

    name: str
    measure: Measure
    where: str
    kind: str = ""
    layer: int | None = None
    head: int | None = None


class UnknownMeasureError(ValueError):
    """A metric's measure is not registered, as where its module is not imported."""


MEASURES: dict[str, Measure] = {}


def register_measure(measure: Measure) -> Measure:
    """Make a measure known: from now on it is computed and shown.

    A cell of a notebook that runs again replaces its own.

    Raises:
      ValueError: there is another one of its name.

    Example:
      >>> register_measure(find_metric("iid/accuracy").measure)
      Traceback (most recent call last):
      ValueError: there is a measure 'accuracy' already: give this one a name of its own
    """
    own = lambda known: known.compute.__module__ == "__main__"
    if (known := MEASURES.get(measure.name)) and not (own(known) and own(measure)):
        raise ValueError(
            f"there is a measure {measure.name!r} already: give this one a name of its own"
        )
    MEASURES[measure.name] = measure
    return measure


def metric_name(measure: Measure, where: str, *parts: str) -> str:
    """The name of a metric: the split before the measure, or the measure before the place."""
    first = (where, measure.name) if measure.family == "task" else (measure.name, where)
    return "/".join([*first, *parts])


def find_metric(metric: str) -> Metric | None:
    """The parts of a metric's name, or None where no measure of that name is registered.

    Example:
      >>> found = find_metric("pointing/answer/layer1/head3")
      >>> found.measure.name, found.where, found.layer, found.head
      ('pointing', 'answer', 1, 3)
      >>> find_metric("iid/accuracy/colour").kind, find_metric("iid/beauty")
      ('colour', None)
    """
    first, *rest = metric.split("/")
    if not rest:
        return None
    if (measure := MEASURES.get(rest[0])) and measure.family == "task":
        return Metric(metric, measure, first, "/".join(rest[1:]))
    measure = MEASURES.get(first)
    if measure is None or measure.family == "task":
        return None
    place = re.fullmatch(r"([^/]+)(?:/layer(\d+))?(?:/head(\d+))?", "/".join(rest))
    if place is None:
        return None
    layer, head = (None if number is None else int(number) for number in place.groups()[1:])
    return Metric(metric, measure, place[1], "", layer, head)


def parse_metric(metric: str) -> Metric:
    """The parts of a metric's name.

    Raises:
      UnknownMeasureError: no measure of that name is registered; says which are near.

    Example:
      >>> parse_metric("iid/acuracy")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      crossattn.align.measures.UnknownMeasureError: iid/acuracy is no metric ...
    """
    if (found := find_metric(metric)) is not None:
        return found
    parts = metric.split("/")
    near = [
        "/".join([*parts[:place], close, *parts[place + 1 :]])
        for place, part in enumerate(parts[:2])
        for close in difflib.get_close_matches(part, MEASURES)
    ]
    meant = [name for name in near if find_metric(name)]
    hint = f"did you mean {' or '.join(meant)}? If not, " if meant else ""
    raise UnknownMeasureError(
        f"{metric} is no metric of a registered measure: {hint}import the module that registers it"
    )
