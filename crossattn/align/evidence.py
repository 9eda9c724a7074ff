"""The evidence of one trained model: every registered measure that reads what there is."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossattn.align.inputs import AttentionMaps
from crossattn.align.measures import MEASURES, Measure, metric_name

__all__ = ["Evidence"]


@dataclasses.dataclass
class Evidence:
    """Numbers of one run, their chance levels, and the single items behind each mean.

    `layer` is the one whose attention points best on validation data, `texts` counts the texts
    behind each metric that has one value for all of them.

    Example:
      >>> from crossattn.align.inputs import SwapPairs
      >>> evidence = Evidence()
      >>> evidence.read("swap", SwapPairs(np.array([[[2.0, 0.0], [1.0, 3.0]]])))
      >>> evidence.metrics["swap/text"], evidence.chance["swap/text"]
      (1.0, 0.25)
    """

    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    chance: dict[str, float] = dataclasses.field(default_factory=dict)
    items: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    layer: int = 0
    texts: dict[str, int] = dataclasses.field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many items are behind each metric, or texts behind one that has one item."""
        return {name: len(values) for name, values in self.items.items()} | self.texts

    def read(self, where: str, arrays: Any) -> None:
        """Compute every measure of these arrays: of a split, or at a place.

        Args:
          where: the name of the split ("task") or place.
          arrays: of one of the classes of `crossattn.align.inputs`.
        """
        reading = [measure for measure in MEASURES.values() if measure.reads is type(arrays)]
        for measure in reading:
            for name, level in measure.levels.items():
                self.metrics[metric_name(measure, name)] = float(level(arrays))
            self._add(metric_name(measure, where), measure, arrays)
        kinds = sorted(set(arrays.kinds)) if any(m.by_kind for m in reading) else ()
        for kind in kinds if len(kinds) > 1 else ():
            for measure in reading:
                if measure.by_kind:
                    self._add(metric_name(measure, where, kind), measure, arrays.of_kind(kind))

    def read_layers(self, place: str, layers: Sequence[AttentionMaps]) -> None:
        """Compute every measure of attention in single layers, and of their heads."""
        measures = [m for m in MEASURES.values() if m.reads is AttentionMaps and m.by_layer]
        for layer, maps in enumerate(layers):
            names = {m: metric_name(m, place, f"layer{layer}") for m in measures}
            for measure, name in names.items():
                self._add(name, measure, maps)
            for measure, name in names.items():
                if measure.by_head is not None:
                    for head, values in enumerate(np.asarray(measure.by_head(maps)).T):
                        self._record(f"{name}/head{head}", values, _level(measure, maps))

    def _add(self, name: str, measure: Measure, arrays: Any) -> None:
        values = measure.compute(arrays)
        if values is None:
            return
        if np.ndim(values) == 0:
            # One number of all items, which every array has first.
            self.texts[name] = len(next(iter(vars(arrays).values())))
        self._record(name, np.atleast_1d(values), _level(measure, arrays))

    def _record(self, name: str, values: np.ndarray, chance: float | None) -> None:
        """The mean of single items under a name."""
        self.items[name] = np.asarray(values, np.float64 if name in self.texts else np.float32)
        self.metrics[name] = float(np.mean(values))
        if chance is not None:
            self.chance[name] = chance


def _level(measure: Measure, arrays: Any) -> float | None:
    level = measure.chance(arrays) if callable(measure.chance) else measure.chance
    if level is None:
        return None
    levels = np.ravel(level)
    # The mean of equal numbers is that number, whatever rounding makes of their sum.
    return float(levels[0] if (levels == levels[0]).all() else np.mean(levels))
