"""The evidence of one trained model: what `crossattn.align` measures of what it says and sees."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from crossattn.align import pointing
from crossattn.align.evidence import Evidence
from crossattn.align.inputs import (
    Answers,
    AttentionMaps,
    CaptionContrasts,
    CaptionLikelihoods,
    PeoplesAnswers,
    SwapPairs,
    WrittenCaptions,
)
from crossattn.data.examples import Examples
from crossattn.train.evaluate import Evaluator
from crossattn.train.hidden_words import hidden_words
from crossattn.train.losses import NEXT_WORD, Losses
from crossattn.train.permuted_images import other_images
from crossattn.train.predictions import Asked, Look, Predictions
from crossattn.train.retrieval import compared, retrieval_inputs
from crossattn.train.texts import (
    CONTRASTS,
    captions,
    positions,
    questions,
    right_answers,
    slots_of,
)

CAPTIONS_WRITTEN = 256


def measure_model(
    evaluator: Evaluator,
    params: Any,
    splits: dict[str, Examples],
    *,
    main: str,
    by_layer: bool = False,
    learned: Losses = NEXT_WORD,
) -> Evidence:
    """All evidence about one model.

    Args:
      evaluator: of the variant.
      params: of the seed.
      splits: evaluation splits; "validation" chooses the layer that pointing is read from, "swap"
        holds pairs, all others hold questions, captions or both.
      main: the split on which attention and causal use are measured.
      by_layer: whether regions are knocked out in single layers, too.
      learned: what the model was trained by: words are measured of one that has learnt to predict
        them, features of one that has them.
    """
    evidence = Evidence()
    if learned.next_word:
        _read_words(evidence, evaluator, params, splits, main, by_layer)
    for name, examples in splits.items() if evaluator.compare is not None else ():
        if len(rows := compared(name, examples)):
            texts = examples.rows(rows)
            found = evaluator.features(params, texts)
            found = found if learned.matching else found._replace(match=None)
            for where, arrays in retrieval_inputs(name, texts, found):
                evidence.read(where, arrays)
    return evidence


def _read_words(
    evidence: Evidence,
    evaluator: Evaluator,
    params: Any,
    splits: dict[str, Examples],
    main: str,
    by_layer: bool,
) -> None:
    """What the model says of every split, where it looks, and what it says with parts hidden."""
    looks: dict[str, Look] = {}
    asked = [Asked(part, attention=name in ("validation", main)) for name, part in splits.items()]
    changed = _Changed(splits[main], evaluator.layers if by_layer else 0)
    every = evaluator.predict_all(params, [*asked, *changed.asked()])
    for (name, examples), said in zip(splits.items(), every, strict=False):
        if said.look is not None:
            looks[name] = said.look
        write = lambda texts: evaluator.write(params, texts)
        for where, arrays in task_inputs(name, examples, said, write, main=main):
            evidence.read(where, arrays)
    _read_attention(evidence, splits, looks, main)
    changed.read(evidence, dict(zip(splits, every, strict=False))[main], every[len(splits) :])


def measure_use(
    evaluator: Evaluator, params: Any, splits: dict[str, Examples], *, main: str
) -> tuple[Evidence, dict[str, Look]]:
    """Attention and causal use alone, as in `measure_model`, and what was looked at."""
    evidence = Evidence()
    parts = [name for name in ("validation", main) if name in splits]
    changed = _Changed(splits[main])
    asked = [Asked(splits[name], attention=True) for name in parts]
    every = evaluator.predict_all(params, [*asked, *changed.asked()])
    looks = {name: one.look for name, one in zip(parts, every, strict=False) if one.look}
    _read_attention(evidence, splits, looks, main)
    changed.read(evidence, every[len(parts) - 1], every[len(parts) :])
    return evidence, looks


class _Changed:
    """What a model says of a split when part of its images is hidden, and of other images."""

    def __init__(self, examples: Examples, layers: int = 0):
        self.hidden = hidden_words(examples, layers)
        self.other = other_images(examples)

    def asked(self) -> list[Asked]:
        hidden = self.hidden.asked() if self.hidden else []
        return [*hidden, *(self.other.asked() if self.other else ())]

    def read(self, evidence: Evidence, own: Predictions, every: Sequence[Predictions]) -> None:
        """What was said of the split itself, and of what was asked."""
        said = iter(every)
        if self.hidden:
            for condition in self.hidden.visible:
                evidence.read(condition, self.hidden.read(next(said)))
        if self.other:
            evidence.read("context", self.other.read(own, list(said)))


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
    if split in CONTRASTS:
        kinds = np.array(examples.kinds)[examples.kind[::2]]
        yield split, CaptionContrasts(said.log_likelihood.reshape(-1, 2), kinds)
    if split in ("swap", "validation", *CONTRASTS):
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
                None if examples.sentence is None else examples.sentence[rows],
            ),
        )
        if examples.answers is not None:
            words = said.words[rows, examples.answer[rows]]
            yield split, PeoplesAnswers(words, examples.answers[rows], kinds)
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
                    examples.grid,
                    *boxes_of(examples, rows[known], words[known]),
                    None if examples.shown is None else examples.shown[examples.image[rows[known]]],
                )
                for layer in range(len(look.attention))
            ]
    return found


def boxes_of(
    examples: Examples, rows: np.ndarray, words: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The box (n, 4) of each word whose region is one box, NaN for others, and its phrase (n,)."""
    if examples.places is None:
        return None, None
    regions = examples.grounded[rows, words]
    thing = regions.argmax(axis=1)
    own = examples.places[examples.image[rows], thing]
    alone = regions.sum(axis=1, keepdims=True) == 1
    return np.where(alone, own, np.nan), rows * regions.shape[1] + thing


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
