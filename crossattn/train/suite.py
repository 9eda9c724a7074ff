"""A suite is data: a base run, variants that change a field, one primary metric, claims."""

import dataclasses
import itertools
import json
import re
import reprlib
import typing
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from crossattn.fields import flat, settle
from crossattn.train.run import Run, materials, present, replace

Changes = dict[str, Any]

# Names become folders: with seeds and job names beside them they stay within what disks take.
LONGEST_NAME = 100
METRIC = re.compile(r"[^\s/]+(/[^\s/]+)+")
# Costs of a run that claims may be about, as cost/step_seconds.
COSTS = ("step_seconds", "parameters")
# How often a run is saved decides no number.
WITHOUT_EFFECT = ("checkpoint_every",)
# What the data were that a source read; known once it has read them.
FINGERPRINT = "data.fingerprint"


# It checks itself, in words for people: a checker of annotations would come first.
@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Suite:
    """A controlled comparison.

    Attributes:
      name: as typed on the command line; a name of a folder.
      title: one line for people.
      base: what all variants share.
      variants: changes of the base by dotted field name, by the variant's name.
      baseline: the variant that all others are compared with.
      primary: the one metric that names winners, like pairs/accuracy.
      without_questions: what names winners instead where the data ask nothing, captions alone.
      claims: (better, worse) pairs of variants, declared before the runs; on the primary metric, or
        (better, worse, metric) on another, like pointing/answer or cost/step_seconds.
      quick: changes of the base for a smoke run (`--quick`).
      learning_rates: what a sweep tries for each variant.
      notes: what a reader must know beside the numbers.
      equivalence: a difference of the primary metric that does not matter, chosen before the runs:
        the report says of which comparisons it is shown that theirs is smaller; 0 for none.
      sweep: whether each variant's learning rate is first chosen on validation data.

    Raises:
      ValueError: a field or a variant cannot be what it is; names it and what it takes.

    Example:
      >>> heads = {f"heads-{n}": {"model.heads": n} for n in (1, 4)}
      >>> suite = Suite("heads", "one or four", Run(), heads, "heads-1", "pairs/accuracy")
      >>> suite.run("heads-4").model.heads
      4
      >>> Suite("heads", "-", Run(), {"many": {"model.heads": "8"}}, "many", "pairs/accuracy")
      Traceback (most recent call last):
        ...
      ValueError: suite heads, variant many: model.heads takes a whole number, got '8'
    """

    name: str
    title: str
    base: Run
    variants: dict[str, Changes]
    baseline: str
    primary: str
    claims: tuple[tuple[str, str] | tuple[str, str, str], ...] = ()
    quick: Changes = dataclasses.field(default_factory=dict)
    learning_rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3, 8e-3)
    notes: tuple[str, ...] = ()
    sweep: bool = False
    without_questions: str = ""
    equivalence: float = 0.0

    def __post_init__(self):
        what = "suite"
        try:
            settle(self)
            check_name("name", self.name)
            what = f"suite {self.name}"
            self._check_names()
            self._check_measures()
            object.__setattr__(self, "quick", _presented(self.quick))
            variants = {name: _presented(changes) for name, changes in self.variants.items()}
            object.__setattr__(self, "variants", variants)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
        for name in self.variants:
            self._checked(f"{what}, variant {name}", self.base, self.variants[name])
        quick = self._checked(f"{what}, quick", self.base, self.quick, shared=False)
        for name in self.variants:
            self._checked(f"{what}, variant {name} of --quick", quick, self.variants[name])

    def _check_names(self) -> None:
        """The names of variants, and those that name one."""
        if not self.variants:
            raise ValueError("variants is empty: name at least the baseline")
        folders: dict[str, str] = {}
        for name in self.variants:
            check_name("a variant", name)
            # Some disks keep one folder for both.
            folder = unicodedata.normalize("NFKC", name).casefold()
            if folder in folders:
                both = f"{folders[folder]!r} and {name!r}"
                raise ValueError(f"variants {both} differ in upper and lower case alone")
            folders[folder] = name
        named = {self.baseline, *(name for claim in self.claims for name in claim[:2])}
        if unknown := named - set(self.variants):
            listed = ", ".join(sorted(unknown))
            raise ValueError(f"no variant {listed}; there are {', '.join(self.variants)}")
        if same := [claim[0] for claim in self.claims if claim[0] == claim[1]]:
            raise ValueError(f"a claim compares {same[0]} with itself")

    def _check_measures(self) -> None:
        if not self.title.isprintable():
            raise ValueError(f"title takes one line, got {reprlib.repr(self.title)}")
        metrics = [("primary", self.primary), ("without_questions", self.without_questions)]
        metrics += [("a claim", metric) for claim in self.claims for metric in claim[2:]]
        for field, metric in metrics:
            if field == "without_questions" and not metric:
                continue
            if not METRIC.fullmatch(metric) or not metric.isprintable():
                raise ValueError(
                    f"{field} takes a metric of a split, like pairs/accuracy, got {metric!r}"
                )
        if self.equivalence < 0:
            raise ValueError(f"equivalence is a margin of 0 or more, got {self.equivalence:g}")
        rates = self.learning_rates
        if not rates or min(rates) <= 0 or len(set(rates)) < len(rates):
            raise ValueError(f"learning_rates takes different numbers over 0, got {rates}")

    def _checked(self, what: str, base: Run, changes: Changes, *, shared: bool = True) -> Run:
        """The base with changes; with `shared` it learns from the same data."""
        try:
            if not isinstance(changes, Mapping):
                said = reprlib.repr(changes)
                raise ValueError(f"takes a dict of changes by field, got {said}")
            run = replace(base, changes)
            if shared:
                _check_data(materials(base), materials(run))
            if shared and self.sweep and "optimizer.learning_rate" in changes:
                raise ValueError("changes optimizer.learning_rate, which the sweep chooses")
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
        return run

    def steps(self, variant: str, runs: int) -> int:
        """Steps of so many runs of a variant, and of its sweep if the suite has one."""
        rates = len(self.learning_rates) if self.sweep else 0
        return (runs + rates) * self.run(variant).steps

    def run(self, variant: str) -> Run:
        """The run of a variant."""
        return replace(self.base, self.variants[variant])

    def only(self, names: Collection[str]) -> "Suite":
        """The suite with some of its variants, and always the baseline.

        Whoever checks a folder asks the whole suite.
        """
        kept = {name for name in self.variants if name in names or name == self.baseline}
        return dataclasses.replace(
            self,
            variants={name: self.variants[name] for name in self.variants if name in kept},
            claims=tuple(claim for claim in self.claims if kept.issuperset(claim[:2])),
        )

    def settings(self, variant: str | None = None) -> dict[str, Any]:
        """Everything that decides the results of a variant but its seed, as JSON would have it.

        Without a variant: what all of them share where they do not change it.
        """
        run = self.base if variant is None else self.run(variant)
        found = flat(json.loads(json.dumps(dataclasses.asdict(run))))
        for field in WITHOUT_EFFECT:
            del found[field]
        if not found.get(FINGERPRINT, True):
            del found[FINGERPRINT]
        found["sweep"] = self.sweep
        if self.sweep:
            # It tries these instead.
            del found["optimizer.learning_rate"]
            found["learning_rates"] = list(self.learning_rates)
        return found


def grid(fields: Mapping[str, Sequence[Any]]) -> dict[str, Changes]:
    """The variants of a grid: every combination of the values of some fields, under its name.

    A word stands for itself in a name, any other value beside the last word of its field.

    Raises:
      ValueError: a field has no values or two that are named alike.

    Example:
      >>> grid({"model.heads": (1, 4), "optimizer.name": ("adamw", "lion")})["heads 4, lion"]
      {'model.heads': 4, 'optimizer.name': 'lion'}
    """
    named = [{_called(field, value): {field: value} for value in fields[field]} for field in fields]
    for field, values in zip(fields, named, strict=True):
        if not values or len(values) < len(fields[field]):
            raise ValueError(f"grid: {field} takes different values, got {fields[field]!r}")
    every = itertools.product(*(values.items() for values in named))
    return {
        ", ".join(name for name, _ in row): {k: v for _, change in row for k, v in change.items()}
        for row in every
    }


def _called(field: str, value: Any) -> str:
    """A value in the name of a variant."""
    if isinstance(value, str) and value:
        return value
    last = field.rpartition(".")[2].replace("_", " ")
    if isinstance(value, bool) or (not value and not isinstance(value, int | float)):
        return last if value else f"no {last}"
    several = "+".join(map(str, value)) if isinstance(value, tuple | list) else value
    return f"{last} {several}"


def _presented(changes: Any) -> Any:
    """Changes by the present names of their fields; what is no dict is refused elsewhere."""
    return present(changes) if isinstance(changes, Mapping) else changes


def check_name(what: str, name: Any) -> None:
    """Make sure that a name can be that of a folder, and of a row in a table.

    Raises:
      ValueError: says why it cannot.
    """
    said = reprlib.repr(name)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{what} takes a name of some letters, got {said}")
    if len(name) > LONGEST_NAME or len(name.encode(errors="replace")) > 2 * LONGEST_NAME:
        raise ValueError(f"{what} takes a name of at most {LONGEST_NAME} letters, got {said}")
    if not name.isprintable() or name != name.strip() or set("/\\") & set(name):
        raise ValueError(
            f"{what} takes a name without slashes, line breaks and outer blanks, got {said}"
        )
    if name.startswith((".", "-")):
        raise ValueError(f"{what} takes a name that begins with no dot or dash, got {said}")


def _check_data(shared: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Make sure that a variant asks for nothing that the data of the base do not have."""
    differing: Iterable[str] = [name for name in shared if own[name] != shared[name]]
    # A variant may leave the boxes out that the base has.
    if own["model.contexts"] < shared["model.contexts"]:
        differing = [name for name in differing if name != "model.contexts"]
    if differing:
        raise ValueError(
            f"changes {', '.join(differing)}, but all variants learn from the data of the base: "
            "change the base, or make it a suite of its own"
        )
