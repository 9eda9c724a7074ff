"""The evidence of one trained model: task, attention against truth, causal use, foils."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np

from crossattn.align import (
    commonest_word_accuracy,
    mass_in_region,
    perplexity,
    pointing,
    pointing_chance,
    swap_scores,
    word_frequency_perplexity,
)
from crossattn.data.examples import Examples
from crossattn.train.evaluate import Evaluator, Look, Predictions, knockouts
from crossattn.train.texts import (
    STRONG,
    captions,
    positions,
    questions,
    right_answers,
    written,
)

# Words of captions of which the region is hidden, where there are no answers.
CAPTION_WORDS_HIDDEN = 512
# What random scores reach of a pair: two comparisons of two, both; the two right of four on top.
SWAP_CHANCE = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}


@dataclasses.dataclass
class Evidence:
    """Numbers of one run, their chance levels, and the single items behind each accuracy.

    `layer` is the one whose attention points best on validation data, `texts` counts the texts
    behind each metric that has one value for all of them.
    """

    metrics: dict[str, float]
    chance: dict[str, float]
    items: dict[str, np.ndarray]
    layer: int = 0
    texts: dict[str, int] = dataclasses.field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many items are behind each metric, or texts behind one that has one item."""
        return {name: len(values) for name, values in self.items.items()} | self.texts

    def add(self, name: str, values: np.ndarray, chance: float | None = None) -> None:
        """Record the mean of single items under a name."""
        self.items[name] = np.asarray(values, np.float32)
        self.metrics[name] = float(np.mean(values))
        if chance is not None:
            self.chance[name] = float(chance)


def measure_model(
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
        holds pairs, all others hold questions, captions or both.
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
            _likelihood(evidence, name, examples, predictions[name])
            _written(evidence, "caption" if name == main else name, evaluator, params, examples)
    _attention(evidence, splits, predictions, main)
    _knockout(evidence, evaluator, params, splits[main], by_layer=by_layer)
    return evidence


def _answers(evidence: Evidence, split: str, examples: Examples, said: Predictions) -> None:
    rows = questions(examples)
    if not len(rows):
        return
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
    # Where nothing is asked, the words of captions stand for what answers are elsewhere.
    for name, at in (("answer", "answer"), ("predicted", "caption")):
        if all(name in words for words in known.values()):
            _chosen_layer(evidence, known["validation"][name], known[main][name], at)
            return


def _chosen_layer(evidence: Evidence, validation: _Words, words: _Words, at: str) -> None:
    """Pointing and mass in the layer that points best on validation data."""
    evidence.layer = best = int(validation.hits().mean(axis=1).argmax())
    chance = float(np.mean(pointing_chance(words.region)))
    # What always pointing at the best single patch would reach.
    evidence.metrics["pointing/fixed_patch"] = float(words.region.mean(axis=0).max())
    evidence.add(f"pointing/{at}", words.hits()[best], chance)
    evidence.add(f"mass/{at}", words.mass()[best])
    # Where the softmax covers more than the image; elsewhere it is 1 and says nothing.
    if (share := words.look.mass[best]).min() < 1 - 1e-4:
        evidence.add(f"image_mass/{at}", share)


def _knockout(
    evidence: Evidence, evaluator: Evaluator, params: Any, examples: Examples, *, by_layer: bool
) -> None:
    """Accuracy of colour and shape words without the true region, without as much elsewhere."""
    rows, words, levels = _hidden(examples)
    truth = examples.regions(rows)[np.arange(len(rows)), words] > 0
    # Outside of a region over half the picture there is no random region of equal size.
    fair = truth.any(axis=1) & (2 * truth.sum(axis=1) <= truth.shape[1])
    if not fair.any():
        return
    asked, words, truth = examples.rows(rows[fair]), words[fair], truth[fair]
    every, chance = np.arange(len(asked)), float(np.mean(levels[fair]))
    visible = {"intact": np.ones_like(truth), **knockouts(truth, np.random.default_rng(0))}
    if by_layer:
        for layer, name in itertools.product(range(evaluator.layers), ("truth", "random")):
            own = np.ones((evaluator.layers, *truth.shape), bool)
            own[layer] = visible[name]
            visible[f"{name}/layer{layer}"] = own
    for name, seen in visible.items():
        said = evaluator.predict(params, asked, seen, attention=False)
        right = said.words[every, words] == asked.tokens[every, words]
        evidence.add(f"knockout/{name}", right.astype(float), chance)


def _hidden(examples: Examples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, places and chance levels of the words whose region is hidden: answers if there are any.

    Else words of captions, each predicted after the true words before it; chance is what the
    commonest colour, or shape, gets right.
    """
    found = positions(examples)
    rows, _, words = found["answer"]
    if len(rows):
        kinds = [examples.kinds[kind] for kind in examples.kind[rows]]
        return rows, words, np.array([examples.chance[kind] for kind in kinds])
    rows, _, words = found["predicted"]
    said, role = examples.tokens[rows, words], examples.role[rows, words]
    levels = commonest_word_accuracy(said.astype(int), role.astype(int))
    count = min(len(rows), CAPTION_WORDS_HIDDEN)
    some = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
    return rows[some], words[some], levels[some]


def _likelihood(evidence: Evidence, split: str, examples: Examples, said: Predictions) -> None:
    """Perplexity per word of the captions; all of them together are one item."""
    rows = captions(examples)
    if not len(rows):
        return
    target = examples.target[rows]
    name, value = f"{split}/perplexity", perplexity(said.log_likelihood[rows], target.sum(axis=1))
    evidence.metrics[name], evidence.items[name] = value, np.array([value])
    evidence.texts[name] = len(rows)
    evidence.chance[name] = word_frequency_perplexity(examples.tokens[rows], target)


def _written(
    evidence: Evidence, name: str, evaluator: Evaluator, params: Any, examples: Examples
) -> None:
    """Slots and exact match of captions that the model writes greedily."""
    for measure, (values, chance) in written(evaluator, params, examples).items():
        evidence.add(f"{name}/{measure}", values, chance)
