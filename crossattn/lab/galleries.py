"""Turns saved attention maps into the gallery of a report."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from crossattn.data.regions import over_cells
from crossattn.data.words import without_marks
from crossattn.report.figures.gallery import Gallery
from crossattn.train import exhibits
from crossattn.train.folder import Folder
from crossattn.train.record import RecordError, read_record
from crossattn.train.source import Dataset


def gallery_of(source: Dataset, folder: Folder, variants: Iterable[str]) -> Gallery | None:
    """The first variant's that attends to patches, by its seed 0; None where none does."""
    for variant in variants:
        maps = folder.run(variant, 0) / "maps.npz"
        if maps.exists():
            return build_gallery(source, maps, of=_whose(source, maps.parent, variant))
    return None


def _whose(source: Dataset, run: Path, variant: str) -> str:
    """Which run, after which step, in which layer, on which split."""
    said = f"{variant}, seed 0"
    try:
        settings = read_record(run).run
        layer = json.loads((run / "metrics.json").read_text())["layer"]
    except (RecordError, FileNotFoundError):  # an older run, or one that is being measured
        return said
    what = "the moving average of the parameters" if settings.optimizer.ema else "the parameters"
    return (
        f"{said}, {what} after its last step, {settings.steps:,} (no checkpoint is chosen by how "
        f"well it does), in layer {layer}, mean over heads, on the split {source.main}"
    )


def build_gallery(source: Dataset, maps: Path, *, of: str = "one run") -> Gallery:
    """Word heat maps of the shown rows of the main split, with the true outlines.

    A word is shown where it is predicted (answers, captions), else where it is consumed.
    """
    examples = source.splits[source.main]
    rows = exhibits.exhibit_rows(examples)
    weights = np.load(maps)["weights"]
    chosen = examples.rows(rows)
    masks = source.masks(chosen.image)
    words, readings, shown, outlines = [], [], [], []
    for row, tokens in enumerate(exhibits.exhibit_words(chosen)):
        # The last words of a text: the answer is among them.
        places = np.flatnonzero(tokens)[-exhibits.WORDS_SHOWN :]
        predicted = chosen.target[row, places]
        words.append([chosen.vocabulary[token] for token in chosen.tokens[row, places]])
        readings.append(["predicted" if ahead else "consumed" for ahead in predicted])
        # The position before a predicted word attends for it.
        shown.append(weights[row, np.where(predicted, places - 1, places)])
        numbers = [np.flatnonzero(chosen.grounded[row, place]) + 1 for place in places]
        outlines.append(np.stack([np.isin(masks[row], number) for number in numbers]))
    return Gallery(
        pixels=source.pictures(chosen.image),
        words=words,
        weights=over_cells(_padded(shown), examples.grid, source.window),
        grid=(examples.grid[0] + source.window - 1, examples.grid[1] + source.window - 1),
        outlines=_padded(outlines),
        captions=[without_marks(chosen.words(row)) for row in range(len(rows))],
        readings=readings,
        of=of,
    )


def _padded(parts: list[np.ndarray]) -> np.ndarray:
    """Stack arrays of up to WORDS_SHOWN rows."""
    full = np.zeros((len(parts), exhibits.WORDS_SHOWN, *parts[0].shape[1:]), parts[0].dtype)
    for slot, part in zip(full, parts, strict=True):
        slot[: len(part)] = part
    return full
