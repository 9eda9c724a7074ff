"""A suite is data: a base run, variants that change a field, one primary metric, claims."""

import dataclasses
import hashlib
import json
from collections.abc import Collection
from typing import Any

from crossattn.train.run import Run, replace

Changes = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Suite:
    """A controlled comparison.

    Attributes:
      name: as typed on the command line.
      title: one line for people.
      base: what all variants share.
      variants: changes of the base by dotted field name, by the variant's name.
      baseline: the variant that all others are compared with.
      primary: the one metric that names winners.
      claims: (better, worse) pairs of variants, declared before the runs.
      quick: changes of the base for a smoke run (`--quick`).
      learning_rates: what a sweep tries for each variant.
      sweep: whether each variant's learning rate is first chosen on validation data.
      notes: what a reader must know beside the numbers.
    """

    name: str
    title: str
    base: Run
    variants: dict[str, Changes]
    baseline: str
    primary: str
    claims: tuple[tuple[str, str], ...]
    quick: Changes
    learning_rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3, 8e-3)
    notes: tuple[str, ...] = ()
    sweep: bool = False

    def __post_init__(self):
        named = {self.baseline, *(name for claim in self.claims for name in claim)}
        if unknown := named - set(self.variants):
            raise ValueError(f"suite {self.name}: no variant {', '.join(sorted(unknown))}")
        for changes in (*self.variants.values(), self.quick):
            replace(self.base, changes)

    def run(self, variant: str) -> Run:
        """The run of a variant."""
        return replace(self.base, self.variants[variant])

    def only(self, names: Collection[str]) -> "Suite":
        """The suite with some of its variants, and always the baseline.

        Its runs are those of the whole suite; its fingerprint is not: whoever checks a folder asks
        the whole suite.
        """
        kept = {name for name in self.variants if name in names or name == self.baseline}
        return dataclasses.replace(
            self,
            variants={name: self.variants[name] for name in self.variants if name in kept},
            claims=tuple(claim for claim in self.claims if kept.issuperset(claim)),
        )

    def fingerprint(self) -> str:
        """A short name of everything that decides the results but the seeds."""
        values = {name: dataclasses.asdict(self.run(name)) for name in self.variants}
        rates = self.learning_rates if self.sweep else ()
        text = json.dumps([values, self.baseline, self.primary, rates], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
