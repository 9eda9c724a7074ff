"""Texts of every source of data on the page: windows over cells, with regions and without."""

from pathlib import Path

import numpy as np
import pytest

from crossattn.data.batches import Batch, gather
from crossattn.data.regions import over_cells
from crossattn.lab.exploration import explore_trained
from crossattn.lab.observer import Observer
from crossattn.lab.shown import shown_examples
from crossattn.train.exhibits import example_rows
from crossattn.train.loop import TrainPrograms
from crossattn.train.record import RunRecord
from crossattn.train.run import Data, Model, Run
from crossattn.train.source import load_dataset
from crossattn.train.trained import TrainedRun
from tests.support import picture_folders, tfds_directories

COUNT = 4


def tfds_directory(folder):
    splits = {"train": range(23), "test": range(100, 107)}
    made = {name: list(map(tfds_directories.vqa_example, part)) for name, part in splits.items()}
    return tfds_directories.write_tfrecord(folder, tfds_directories.vqa_features(), made)


def data_of(source, folder):
    match source:
        case "easy_vqa":
            return Data(source=source, images=40, evaluation_images=30)
        case "tfds":
            return Data(source=source, directory=str(tfds_directory(folder)), image_size=24)
        case "folder":
            made = picture_folders.write_folder(folder / "pictures", count=30)
            return Data(source=source, directory=str(made), image_size=24)


def untrained(run):
    """A run with parameters as they begin."""
    source = load_dataset(run)
    programs = TrainPrograms(run, len(source.vocabulary))
    part = source.splits[source.main]
    state = programs.create(0, Batch(**gather(part, np.arange(2))))
    record = RunRecord("tiny", "window", 0, run, {})
    return TrainedRun(Path(), record, source, programs.model, state.params, 0)


@pytest.mark.parametrize(
    "source",
    ["folder", *(pytest.param(name, marks=pytest.mark.slow) for name in ("easy_vqa", "tfds"))],
)
def test_every_source_is_shown(source, tmp_path):
    model = Model(image_encoder="window", width=8, layers=1, heads=2)
    one = untrained(Run(data=data_of(source, tmp_path), model=model, batch_size=6))
    part = one.source.splits[one.source.main]
    rows = example_rows(part, COUNT)
    shown = shown_examples(one, one.source.main, rows)
    shares = Observer(one).observe(part.rows(rows)).shares
    texts = [example for example in shown if not any(example.generated)]
    grid = part.grid[0] + 1, part.grid[1] + 1
    for at, (row, example) in enumerate(zip(rows, texts, strict=True)):
        assert example.grid == grid
        assert example.image.shape == (8 * grid[0], 8 * grid[1], 3)
        (image,) = one.source.pictures(part.image[row : row + 1])
        np.testing.assert_array_equal(example.image, image)
        wanted = over_cells(shares[:, at], part.grid, 2)[:, :, : len(example.words) - 1]
        np.testing.assert_allclose(example.weights, wanted, atol=1e-6)
        np.testing.assert_allclose(example.weights.sum(-1), 1, atol=1e-5)
        known = part.grounded[row].any()
        assert (example.regions is not None) == known
        assert example.answers or not part.answer[row]
    assert any(example.regions is not None for example in texts)
    assert f"Page({len(shown)} examples, 1 layer x 2 heads" in repr(explore_trained(one, COUNT))
