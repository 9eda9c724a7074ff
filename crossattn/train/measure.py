"""The evidence of one trained model: task, attention against truth, causal use, foils."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np

from crossattn.align import (
    exact_match,
    mass_in_region,
    pointing,
    pointing_chance,
    slot_accuracy,
    swap_scores,
)
from crossattn.data.examples import ROLES, Examples
from crossattn.train.evaluate import Evaluator, Look, Predictions, knockouts

# Words whose region is exact; relation words point weakly, function words nowhere.
STRONG = tuple(ROLES.index(role) for role in ("colour", "shape"))
CAPTIONS_WRITTEN = 256
# What random scores reach of a pair: two comparisons of two, both; the two right of four on top.
SWAP_CHANCE = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}


@dataclasses.dataclass
class Evidence:
    """Numbers of one run, their chance levels, and the single items behind each accuracy.

    `layer` is the one whose attention points best on validation data.
    """

    metrics: dict[str, float]
    chance: dict[str, float]
    items: dict[str, np.ndarray]
    layer: int = 0

    def counts(self) -> dict[str, int]:
        """How many items are behind each metric."""
        return {name: len(values) for name, values in self.items.items()}

    def add(self, name: str, values: np.ndarray, chance: float | None = None) -> None:
        """Record the mean of single items under a name."""
        self.items[name] = np.asarray(values, np.float32)
        self.metrics[name] = float(np.mean(values))
        if chance is not None:
            self.chance[name] = float(chance)


def measure(
    evaluator: Evaluator,
    params: Any,
    splits: dict[str, Examples],
    *,
    main: str,
    by_layer: bool = False,
) -> Evidence:
    """All evidence about one model.

    Args:
      evaluator: of the variant.
      params: of the seed.
      splits: evaluation splits; "validation" chooses the layer that pointing is read from, "swap"
        holds pairs, all others hold questions and captions.
      main: the split on which attention and causal use are measured.
      by_layer: whether regions are knocked out in single layers, too.
    """
    evidence = Evidence({}, {}, {})
    predictions = {}
    for name, examples in splits.items():
        mapped = name in ("validation", main)
        predictions[name] = evaluator.predict(params, examples, attention=mapped)
        if name == "swap":
            _swap(evidence, predictions[name])
        elif name != "validation":
            _answers(evidence, name, examples, predictions[name])
    _attention(evidence, splits, predictions, main)
    _knockout(evidence, evaluator, params, splits[main], by_layer=by_layer)
    _captions(evidence, evaluator, params, splits[main])
    return evidence


def questions(examples: Examples) -> np.ndarray:
    """Rows that have an answer."""
    return np.flatnonzero(examples.answer > 0)


def right_answers(examples: Examples, said: Predictions, rows: np.ndarray) -> np.ndarray:
    """1 where the answer of a row is right."""
    place = examples.answer[rows]
    return (said.words[rows, place] == examples.tokens[rows, place]).astype(float)


def _answers(evidence: Evidence, split: str, examples: Examples, said: Predictions) -> None:
    rows = questions(examples)
    right = right_answers(examples, said, rows)
    kinds = [examples.kinds[kind] for kind in examples.kind[rows]]
    chances = [examples.chance[kind] for kind in kinds]
    evidence.add(f"{split}/accuracy", right, float(np.mean(chances)))
    is_open = np.isin(examples.role[rows, examples.answer[rows]], STRONG)
    if is_open.any() and not is_open.all():
        chance = float(np.mean(np.array(chances)[is_open]))
        evidence.add(f"{split}/open", right[is_open], chance)
    for kind in sorted(set(kinds)) if len(set(kinds)) > 1 else ():
        chosen = np.array([k == kind for k in kinds])
        evidence.add(f"{split}/accuracy/{kind}", right[chosen], examples.chance[kind])


def _swap(evidence: Evidence, said: Predictions) -> None:
    # Rows of a pair: caption 0 with image 0 and 1, caption 1 with image 0 and 1.
    for name, values in swap_scores(said.log_likelihood.reshape(-1, 2, 2)).items():
        evidence.add(f"swap/{name}", values, SWAP_CHANCE[name])


def positions(examples: Examples) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Where words meet attention: (rows, positions that attend, words they are about).

    "answer": the position that predicts an answer naming a colour or shape; "consumed": a position
    whose input is a colour or shape word; "predicted": one that predicts such a word of a caption.
    """
    strong = np.isin(examples.role, STRONG) & examples.objects.any(axis=-1)
    rows, words = np.nonzero(strong)
    last = examples.tokens.shape[1] - 1
    is_answer = (examples.answer[rows] == words) & (words > 0)
    is_caption = examples.target[rows, words] & ~is_answer
    consumed = (words < last) & ~is_answer
    return {
        "answer": (rows[is_answer], words[is_answer] - 1, words[is_answer]),
        "consumed": (rows[consumed], words[consumed], words[consumed]),
        "predicted": (rows[is_caption], words[is_caption] - 1, words[is_caption]),
    }


@dataclasses.dataclass(frozen=True)
class _Words:
    """Words of known region in one split, and what the model looked at for them.

    Attributes:
      coverage: (N, P) share of each patch that the region covers.
      region: (N, P) patches that belong to it.
      look: of the positions that attend, (L, N, ...).
    """

    coverage: np.ndarray
    region: np.ndarray
    look: Look

    def hits(self) -> np.ndarray:
        """(L, N): whether the mean over heads peaks on the region."""
        weights = self.look.attention
        return pointing(weights, np.broadcast_to(self.region, weights.shape))

    def hits_by_head(self) -> np.ndarray:
        """(L, N, H): whether each head peaks on the region."""
        peak = self.look.peak.astype(int)
        return (peak >= 0) & np.take_along_axis(self.region[None], peak, axis=-1)

    def mass(self) -> np.ndarray:
        """(L, N): share of the attention inside the region."""
        weights = self.look.attention
        return mass_in_region(weights, np.broadcast_to(self.coverage, weights.shape))


def _words(examples: Examples, look: Look) -> dict[str, _Words]:
    """By how they meet attention (`positions`); without those of which no region is known."""
    found = {}
    regions = examples.regions()
    for name, (rows, queries, words) in positions(examples).items():
        coverage = regions[rows, words]
        region = coverage >= examples.covered
        known = region.any(axis=-1)
        if known.any():
            mine = jax.tree.map(lambda x, r=rows, q=queries, k=known: x[:, r, q][:, k], look)
            found[name] = _Words(coverage[known], region[known], mine)
    return found


def _attention(
    evidence: Evidence,
    splits: dict[str, Examples],
    predictions: dict[str, Predictions],
    main: str,
) -> None:
    """Pointing and mass per layer and head; at the answer in the layer chosen on validation."""
    known = {}
    for split in ("validation", main):
        look = predictions[split].look
        if look is None:
            return
        known[split] = _words(splits[split], look)
    for name, words in known[main].items():
        chance = float(np.mean(pointing_chance(words.region)))
        hits, by_head, mass = words.hits(), words.hits_by_head(), words.mass()
        for layer in range(len(hits)):
            evidence.add(f"pointing/{name}/layer{layer}", hits[layer], chance)
            evidence.add(f"mass/{name}/layer{layer}", mass[layer])
            for head in range(by_head.shape[-1]):
                label = f"pointing/{name}/layer{layer}/head{head}"
                evidence.add(label, by_head[layer, :, head], chance)
    if not all("answer" in words for words in known.values()):
        return
    evidence.layer = best = int(known["validation"]["answer"].hits().mean(axis=1).argmax())
    answers = known[main]["answer"]
    chance = float(np.mean(pointing_chance(answers.region)))
    # What always pointing at the best single patch would reach.
    evidence.metrics["pointing/fixed_patch"] = float(answers.region.mean(axis=0).max())
    evidence.add("pointing/answer", answers.hits()[best], chance)
    evidence.add("mass/answer", answers.mass()[best])
    # Where the softmax covers more than the image; elsewhere it is 1 and says nothing.
    if (share := answers.look.mass[best]).min() < 1 - 1e-4:
        evidence.add("image_mass/answer", share)


def _knockout(
    evidence: Evidence, evaluator: Evaluator, params: Any, examples: Examples, *, by_layer: bool
) -> None:
    """Accuracy of colour and shape answers without the true region, without as much elsewhere."""
    rows = positions(examples)["answer"][0]
    truth = examples.regions(rows)[np.arange(len(rows)), examples.answer[rows]] > 0
    # Outside of a region over half the picture there is no random region of equal size.
    fair = truth.any(axis=1) & (2 * truth.sum(axis=1) <= truth.shape[1])
    if not fair.any():
        return
    asked, truth = examples.rows(rows[fair]), truth[fair]
    every = np.arange(len(asked))
    chance = float(np.mean([examples.chance[examples.kinds[kind]] for kind in asked.kind]))
    visible = {"intact": np.ones_like(truth), **knockouts(truth, np.random.default_rng(0))}
    if by_layer:
        for layer, name in itertools.product(range(evaluator.layers), ("truth", "random")):
            own = np.ones((evaluator.layers, *truth.shape), bool)
            own[layer] = visible[name]
            visible[f"{name}/layer{layer}"] = own
    for name, seen in visible.items():
        said = evaluator.predict(params, asked, seen, attention=False)
        evidence.add(f"knockout/{name}", right_answers(asked, said, every), chance)


def _captions(evidence: Evidence, evaluator: Evaluator, params: Any, examples: Examples) -> None:
    """Slots and exact match of captions that the model writes greedily."""
    rows = np.flatnonzero((examples.answer == 0) & examples.target.any(axis=1))[:CAPTIONS_WRITTEN]
    if len(rows) == 0:
        return
    captions = examples.rows(rows)
    written = evaluator.write(params, captions)
    slots = captions.target & np.isin(captions.role, STRONG)
    evidence.add("caption/slot_accuracy", slot_accuracy(written, captions.tokens, slots))
    evidence.add("caption/exact", exact_match(written, captions.tokens, captions.target))
