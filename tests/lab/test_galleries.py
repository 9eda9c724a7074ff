"""The gallery shows the right words, positions and outlines, for both sources of data."""

import dataclasses

import numpy as np
import pytest

from crossattn.data.regions import over_cells
from crossattn.lab.galleries import build_gallery, gallery_of
from crossattn.train import exhibits
from crossattn.train.folder import Folder
from crossattn.train.outcome import write_json
from crossattn.train.record import RunRecord, library_versions, write_record
from crossattn.train.run import Data, Model, Run, replace
from crossattn.train.source import load_dataset

SCENES = Run(data=Data(images=100, evaluation_images=100))
EASY = Run(
    data=Data(source="easy_vqa", images=40, evaluation_images=30),
    model=Model(image_encoder="window"),
)


@pytest.mark.parametrize("run", [SCENES, EASY], ids=["scenes", "easy_vqa"])
def test_maps_that_equal_the_truth_have_all_their_mass_inside(run, tmp_path):
    source = load_dataset(run)
    examples = source.splits[source.main]
    chosen = examples.rows(exhibits.exhibit_rows(examples))
    regions = chosen.regions()
    # Attention of position t: where the word that it predicts is, else where the word it reads is.
    ahead = np.where(chosen.target[:, 1:, None], regions[:, 1:], regions[:, :-1])
    np.savez(tmp_path / "maps.npz", weights=ahead / np.maximum(ahead.sum(-1, keepdims=True), 1e-9))
    shown = build_gallery(source, tmp_path / "maps.npz")
    assert shown.grid == (8, 8)
    assert {"consumed", "predicted"} >= {word for words in shown.readings for word in words}
    assert len(shown.captions) == len(chosen)
    for picture, words in enumerate(shown.words):
        assert words
        for word in range(len(words)):
            outline = shown.outlines[picture, word].reshape(8, 8, 8, 8).mean((1, 3)).reshape(-1)
            weights = shown.weights[picture, word]
            assert weights.sum() == pytest.approx(1, abs=1e-5)
            assert weights[outline > 0].sum() > 0.5
            assert outline.any()


def test_without_any_region_answers_are_shown_without_an_outline(tmp_path):
    source = load_dataset(SCENES)
    bare = {
        name: dataclasses.replace(part, grounded=np.zeros_like(part.grounded))
        for name, part in source.splits.items()
    }
    source = dataclasses.replace(source, splits=bare)
    examples = source.splits[source.main]
    count = len(exhibits.exhibit_rows(examples))
    length = examples.tokens.shape[1]
    np.savez(tmp_path / "maps.npz", weights=np.full((count, length - 1, 64), 1 / 64))
    shown = build_gallery(source, tmp_path / "maps.npz")
    assert len(shown.words) == count > 0
    assert all(shown.words)
    assert not shown.outlines.any()


def test_the_gallery_shows_the_first_variant_that_attends(tmp_path):
    """A suite whose baseline looks nowhere ends in a report, too."""
    source = load_dataset(SCENES)
    folder = Folder(tmp_path)
    assert gallery_of(source, folder, ["blind", "late"]) is None
    maps = folder.run("late", 0) / "maps.npz"
    maps.parent.mkdir(parents=True)
    examples = source.splits[source.main]
    shape = len(exhibits.exhibit_rows(examples)), examples.tokens.shape[1] - 1, 64
    np.savez(maps, weights=np.full(shape, 1 / 64))
    assert gallery_of(source, folder, ["blind", "late"]).of == "late, seed 0"
    run = replace(SCENES, {"steps": 1_234})
    write_record(maps.parent, RunRecord("mine", "late", 0, run, library_versions()))
    assert gallery_of(source, folder, ["late"]).of == "late, seed 0"  # it is being measured
    write_json(maps.parent / "metrics.json", {"layer": 1})
    said = gallery_of(source, folder, ["blind", "late"]).of
    assert said.startswith("late, seed 0, the parameters after its last step, 1,234 (no ")
    assert said.endswith(" in layer 1, mean over heads, on the split iid")


def test_sharing_window_weights_keeps_their_mass():
    weights = np.random.default_rng(0).dirichlet(np.ones(12), size=5)
    cells = over_cells(weights, (3, 4), 2)
    assert cells.shape == (5, 20)
    np.testing.assert_allclose(cells.sum(-1), 1)
    np.testing.assert_array_equal(over_cells(weights, (3, 4), 1), weights)
