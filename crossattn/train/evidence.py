"""The evidence of one trained model: what `crossattn.align` measures of what it says and sees."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossattn.align import commonest_word_accuracy, knockouts, pointing
from crossattn.align.evidence import Evidence
from crossattn.align.inputs import (
    Answers,
    AttentionMaps,
    CaptionLikelihoods,
    Knockouts,
    SwapPairs,
    WrittenCaptions,
)
from crossattn.data.examples import Examples
from crossattn.train.evaluate import Evaluator
from crossattn.train.predictions import Asked, Look, Predictions
from crossattn.train.texts import (
    captions,
    positions,
    questions,
    right_answers,
    slots_of,
)

# Words of captions of which the region is hidden, where there are no answers.
CAPTION_WORDS_HIDDEN = 512
CAPTIONS_WRITTEN = 256


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
    evidence = Evidence()
    looks: dict[str, Look] = {}
    asked = [Asked(part, attention=name in ("validation", main)) for name, part in splits.items()]
    hidden = hidden_words(splits[main], evaluator.layers if by_layer else 0)
    every = evaluator.predict_all(params, [*asked, *_without_regions(hidden)])
    for (name, examples), said in zip(splits.items(), every, strict=False):
        if said.look is not None:
            looks[name] = said.look
        write = lambda texts: evaluator.write(params, texts)
        for where, arrays in task_inputs(name, examples, said, write, main=main):
            evidence.read(where, arrays)
    _read_attention(evidence, splits, looks, main)
    _read_hidden(evidence, hidden, every[len(splits) :])
    return evidence


def measure_use(
    evaluator: Evaluator, params: Any, splits: dict[str, Examples], *, main: str
) -> tuple[Evidence, dict[str, Look]]:
    """Attention and causal use alone, as in `measure_model`, and what was looked at."""
    evidence = Evidence()
    parts = [name for name in ("validation", main) if name in splits]
    hidden = hidden_words(splits[main])
    asked = [Asked(splits[name], attention=True) for name in parts]
    every = evaluator.predict_all(params, [*asked, *_without_regions(hidden)])
    looks = {name: one.look for name, one in zip(parts, every, strict=False) if one.look}
    _read_attention(evidence, splits, looks, main)
    _read_hidden(evidence, hidden, every[len(parts) :])
    return evidence, looks


def _without_regions(hidden: "HiddenWords | None") -> list[Asked]:
    return [Asked(hidden.examples, seen) for seen in hidden.visible.values()] if hidden else []


def _read_hidden(
    evidence: Evidence, hidden: "HiddenWords | None", every: Sequence[Predictions]
) -> None:
    if hidden:
        for condition, said in zip(hidden.visible, every, strict=True):
            evidence.read(condition, hidden.read(said))


def task_inputs(
    split: str,
    examples: Examples,
    said: Predictions,
    write: Callable[[Examples], np.ndarray],
    *,
    main: str,
) -> Iterator[tuple[str, Any]]:
    """What measures of a task read of one split, and the name of the split in theirs.

    `write` gives the texts (E, T) that a model writes; those of the main split are "caption".
    """
    if split == "swap":
        # Rows of a pair: caption 0 with image 0 and 1, caption 1 with image 0 and 1.
        yield split, SwapPairs(said.log_likelihood.reshape(-1, 2, 2))
    if split in ("swap", "validation"):
        return
    if len(rows := questions(examples)):
        kinds = np.array(examples.kinds)[examples.kind[rows]]
        yield (
            split,
            Answers(
                right_answers(examples, said, rows),
                np.array([examples.chance[kind] for kind in kinds]),
                kinds,
                examples.naming()[rows, examples.answer[rows]],
            ),
        )
    if len(rows := captions(examples)):
        texts = examples.rows(rows)
        yield split, CaptionLikelihoods(said.log_likelihood[rows], texts.tokens, texts.target)
        rows = rows[:CAPTIONS_WRITTEN]
        told = examples.rows(rows)
        yield (
            "caption" if split == main else split,
            WrittenCaptions(
                write(told),
                told.tokens,
                told.target,
                slots_of(examples, rows),
                np.asarray(told.group),
            ),
        )


def attention_maps(examples: Examples, look: Look) -> dict[str, list[AttentionMaps]]:
    """What each layer looks at, by how words meet attention (`positions`).

    Without the words of which no region is known, and without places that have no others.
    """
    found = {}
    regions = examples.regions()
    for place, (rows, queries, words) in positions(examples).items():
        coverage = regions[rows, words]
        region = coverage >= examples.covered
        known = region.any(axis=-1)
        if known.any():
            at = rows[known], queries[known]
            found[place] = [
                AttentionMaps(
                    look.attention[layer][at],
                    look.peak[layer][at],
                    look.mass[layer][at],
                    region[known],
                    coverage[known],
                )
                for layer in range(len(look.attention))
            ]
    return found


def chosen_place(*splits: dict[str, list[AttentionMaps]]) -> tuple[str, str] | None:
    """Where the attention of a whole model is judged, in maps of all splits, and its name.

    At answers; where nothing is asked, at the words of captions.
    """
    for place, name in (("answer", "answer"), ("predicted", "caption")):
        if all(place in maps for maps in splits):
            return place, name
    return None


def attention_evidence(splits: dict[str, Examples], looks: dict[str, Look], main: str) -> Evidence:
    """Attention in all layers, and in the one that points best on validation data."""
    evidence = Evidence()
    _read_attention(evidence, splits, looks, main)
    return evidence


def _read_attention(
    evidence: Evidence, splits: dict[str, Examples], looks: dict[str, Look], main: str
) -> None:
    if not {"validation", main} <= looks.keys():
        return
    validation, maps = (attention_maps(splits[name], looks[name]) for name in ("validation", main))
    for place, layers in maps.items():
        evidence.read_layers(place, layers)
    if chosen := chosen_place(validation, maps):
        place, name = chosen
        hits = [pointing(layer.weights, layer.region).mean() for layer in validation[place]]
        evidence.layer = int(np.argmax(hits))
        evidence.read(name, maps[place][evidence.layer])


class HiddenWords(NamedTuple):
    """Words of E rows that are predicted without their region, and without as much elsewhere.

    Attributes:
      examples: the rows.
      rows: (E,) their places in the split.
      words: (E,) place of the word of each.
      levels: (E,) chance of predicting it.
      visible: what stays visible, by condition.
    """

    examples: Examples
    rows: np.ndarray
    words: np.ndarray
    levels: np.ndarray
    visible: dict[str, np.ndarray]

    def read(self, said: Predictions) -> Knockouts:
        """Which of the words are right."""
        every = np.arange(len(self.words))
        right = said.words[every, self.words] == self.examples.tokens[every, self.words]
        return Knockouts(right.astype(float), self.levels)


def hidden_words(examples: Examples, layers: int = 0) -> HiddenWords | None:
    """Colour and shape words, or None where there are none; the first `layers` also one by one."""
    rows, words, levels = _hidden(examples)
    truth = examples.regions(rows)[np.arange(len(rows)), words] > 0
    # Outside of a region over half the picture there is no random region of equal size.
    fair = truth.any(axis=1) & (2 * truth.sum(axis=1) <= truth.shape[1])
    if not fair.any():
        return None
    truth = truth[fair]
    visible = {"intact": np.ones_like(truth), **knockouts(truth, np.random.default_rng(0))}
    for layer, name in itertools.product(range(layers), ("truth", "random")):
        own = np.ones((layers, *truth.shape), bool)
        own[layer] = visible[name]
        visible[f"{name}/layer{layer}"] = own
    rows = rows[fair]
    return HiddenWords(examples.rows(rows), rows, words[fair], levels[fair], visible)


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
    said, group = examples.tokens[rows, words], np.asarray(examples.group)[rows, words]
    levels = commonest_word_accuracy(said.astype(int), group.astype(int))
    count = min(len(rows), CAPTION_WORDS_HIDDEN)
    some = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
    return rows[some], words[some], levels[some]
