"""Texts of a data set as the viewer shows them, with what a trained model sees in them."""

import dataclasses
import functools
from typing import Any

import numpy as np

from crossattn.data.dataset import Dataset
from crossattn.data.examples import Examples
from crossattn.data.regions import over_cells
from crossattn.data.words import without_marks
from crossattn.lab.hidden_regions import CONDITIONS, hidden_regions, predict_hidden
from crossattn.lab.observer import Observed, Observer
from crossattn.train.texts import captions
from crossattn.train.trained import TrainedRun
from crossattn.viewer import Answer, Example

END = "<eos>"


def shown_examples(trained: TrainedRun, split: str, rows: np.ndarray) -> list[Example]:
    """Rows of a split with the attention of every layer and head, true regions and knock-outs.

    Behind each caption stands the one that the model writes by itself.
    """
    source = trained.source
    examples, observer = source.splits[split], Observer(trained)
    chosen = examples.rows(rows)
    answers = _answers(observer, examples, rows, source.window)
    read = observer.observe(chosen)
    pictures = source.pictures(chosen.image, split)
    masks = source.masks(chosen.image, split)
    told, shown = list(captions(chosen)), []
    own = _written(observer, chosen.rows(told))
    wrote = observer.observe(own) if told else None
    for at, row in enumerate(rows):
        kind, where = chosen.kinds[chosen.kind[at]], f"row {row} of {split}"
        name = f"{kind}, {where}" if at in told else f"question ({kind}), {where}"
        there = functools.partial(_example, source=source, image=pictures[at])
        known: dict[str, Any] = {"answers": answers[int(row)]}
        known["regions"] = _regions(chosen, at, masks[at])
        true = "as the data have it" if at in told else "with the true answer"
        shown.append(there(chosen, at, read, caption=f"{name}, {true}", **known))
        if wrote is not None and at in told:
            wanted = [chosen.vocabulary[token] for token in chosen.tokens[at, chosen.target[at]]]
            said = f"the data have: {without_marks(' '.join(wanted))}"
            said = f"{name}, as the model writes it; {said}"
            shown.append(there(own, told.index(at), wrote, caption=said, generated=True))
    return shown


def _written(observer: Observer, chosen: Examples) -> Examples:
    """The texts with all words from the first one to predict on as the model writes them.

    As far as their end, which may stand behind that of the text in the data.
    """
    free = np.cumsum(chosen.target, axis=1) > 0
    tokens = observer.write(dataclasses.replace(chosen, target=free))
    if END in chosen.vocabulary:
        over = np.cumsum((tokens == chosen.vocabulary.index(END)) & free, axis=1)
        # Ends that are written count from the word behind them on.
        tokens = np.where(np.pad(over, ((0, 0), (1, 0)))[:, :-1] > 0, 0, tokens)
    return dataclasses.replace(chosen, tokens=tokens, target=free & (tokens != 0))


def _answers(
    observer: Observer, examples: Examples, rows: np.ndarray, window: int
) -> dict[int, list[Answer]]:
    """Of each row what is predicted while regions are hidden."""
    hidden = list(hidden_regions(examples, rows))
    found: dict[int, list[Answer]] = {int(row): [] for row in rows}
    for one, (word, p) in zip(hidden, predict_hidden(observer, examples, hidden), strict=True):
        unseen = over_cells(one.visible.astype(float), examples.grid, window) == 0
        found[one.row].append(
            Answer(CONDITIONS[one.condition], word, min(p, 1.0), unseen, one.word)
        )
    return found


def _regions(chosen: Examples, at: int, mask: np.ndarray) -> np.ndarray | None:
    """Pixels (T, h, w) of the regions of each word of a text; None where none is known."""
    grounded = chosen.grounded[at, : _length(chosen, at)]
    if not grounded.any():
        return None
    return np.stack([np.isin(mask, np.flatnonzero(word) + 1) for word in grounded])


def _length(chosen: Examples, at: int) -> int:
    """Words of a text without padding."""
    return int(np.flatnonzero(chosen.tokens[at])[-1]) + 1


def _example(
    chosen: Examples,
    at: int,
    observed: Observed,
    *,
    source: Dataset,
    generated: bool = False,
    **fields: Any,
) -> Example:
    """A text, and what each of its words but the last saw as it was read."""
    length = _length(chosen, at)
    rows, columns = chosen.grid
    more = source.window - 1
    seen = observed.shares[:, at, :, : max(1, length - 1)]
    return Example(
        words=[chosen.vocabulary[token] for token in chosen.tokens[at, :length]],
        weights=over_cells(seen, chosen.grid, source.window) if more else seen,
        grid=(rows + more, columns + more),
        readings="both",
        generated=chosen.target[at, :length].tolist() if generated else False,
        **fields,
    )
