"""By which metrics a suite can be judged on its data: known before anything is trained."""

from collections.abc import Mapping

import numpy as np

from crossattn.data.examples import Examples
from crossattn.models.decoder import POOLED
from crossattn.train.source import Dataset
from crossattn.train.suite import Suite
from crossattn.train.texts import STRONG, captions, positions, questions, slots_of


def check_source(suite: Suite, source: Dataset) -> None:
    """Find out before training what would otherwise fail after it.

    Raises:
      ValueError: the batches do not fit the data, or there is nothing to measure the suite by.
    """
    source.feed(suite.base, 0)
    split = suite.primary.split("/")[0]
    if split in ("pointing", "mass"):
        _check_pointing(suite, source)
        return
    if split not in (*source.splits, "caption"):
        raise ValueError(
            f"the primary metric {suite.primary} needs the split {split!r}; "
            f"data.source {suite.base.data.source} has {', '.join(source.splits)}"
        )
    judged = (source.splits["validation"], source.splits[source.main])
    if any(len(questions(part)) + len(captions(part)) == 0 for part in judged):
        raise ValueError("there are no questions and no captions to evaluate")
    known = measurable(source.splits, source.main)
    if suite.primary in known:
        return
    if split not in ("swap", "caption") and not len(questions(source.splits[split])):
        raise ValueError(
            f"there are no questions to evaluate by {suite.primary}: add question to data.tasks, "
            f"or take a suite of captions, whose primary metric is like {source.main}/perplexity"
        )
    raise ValueError(
        f"the primary metric {suite.primary} is not measured on these data: "
        f"choose one of {', '.join(known)}"
    )


def _check_pointing(suite: Suite, source: Dataset) -> None:
    """Make sure that the data know where words point, and that every variant attends to patches."""
    known = located(source.splits, source.main)
    if suite.primary not in known:
        there = f"choose one of {', '.join(known)}" if known else "they know no regions of words"
        raise ValueError(
            f"the primary metric {suite.primary} is not measured on these data: {there}"
        )
    pooled = [name for name in suite.variants if suite.run(name).model.fusion in POOLED]
    if pooled:
        raise ValueError(
            f"the primary metric {suite.primary} is for variants that attend to patches, "
            f"which {', '.join(pooled)} does not"
        )


def measurable(splits: Mapping[str, Examples], main: str) -> list[str]:
    """Metrics that `measure` has of every model, whatever it attends to."""
    names = []
    for split, examples in splits.items():
        if split == "swap":
            names += [f"swap/{name}" for name in ("text", "image", "group")]
        elif split != "validation":
            names += _measurable(split, examples, "caption" if split == main else split)
    return names


def _measurable(split: str, examples: Examples, written_as: str) -> list[str]:
    names, asked, told = [], questions(examples), captions(examples)
    if len(asked):
        kinds = sorted({examples.kinds[kind] for kind in examples.kind[asked]})
        is_open = np.isin(examples.role[asked, examples.answer[asked]], STRONG)
        names += [f"{split}/accuracy"]
        names += [f"{split}/accuracy/{kind}" for kind in kinds if len(kinds) > 1]
        names += [f"{split}/open"] if is_open.any() and not is_open.all() else []
    if len(told):
        names += [f"{split}/perplexity", f"{written_as}/exact"]
        names += [f"{written_as}/slot_accuracy"] if slots_of(examples, told).any() else []
    return names


def located(splits: Mapping[str, Examples], main: str) -> list[str]:
    """Metrics that models have which attend to patches: where the data know regions of words.

    At answers; where nothing is asked, at the words of captions.
    """
    for name, at in (("answer", "answer"), ("predicted", "caption")):
        if all(_has_regions(splits[split], name) for split in ("validation", main)):
            return [f"pointing/{at}", f"mass/{at}"]
    return []


def _has_regions(examples: Examples, name: str) -> bool:
    rows, _, words = positions(examples)[name]
    return bool((examples.regions(rows)[np.arange(len(rows)), words] >= examples.covered).any())
