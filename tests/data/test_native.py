"""Pictures of native aspect ratio: what of the canvas is shown, and where regions and boxes lie."""

import numpy as np
import pytest
from PIL import Image

from crossattn.data.batches import WHOLE
from crossattn.data.canvas import Canvas, shown_windows
from crossattn.data.errors import DataError
from crossattn.data.sources import Data, load_source
from tests.support import published_sets as made
from tests.support.picture_folders import draw


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ((640, 480), (64, 48)), ((480, 640), (48, 64)), ((64, 64), (64, 64)), ((48, 32), (48, 32)),
        ((5_000, 7), (64, 8)), ((3, 3), (8, 8)), ((100, 77), (64, 48)), ((20, 300), (8, 64)),
    ],
)  # fmt: skip
def test_a_picture_fits_in_whole_cells_and_is_not_enlarged(whole, expected):
    canvas = Canvas(64, native=True)
    assert canvas.fit(whole) == expected
    assert Canvas(64).fit(whole) == (64, 64)
    half = canvas.fit(whole, across=2)
    assert half[0] <= 32
    assert half[1] <= 64


def test_windows_that_look_past_the_picture_are_hidden():
    cells = np.zeros((4, 4), bool)
    cells[:3, :2] = True
    assert shown_windows(cells, 1).reshape(4, 4).tolist() == cells.tolist()
    assert np.argwhere(shown_windows(cells, 2).reshape(3, 3)).tolist() == [[0, 0], [1, 0]]
    cells[:, 1:] = False
    assert np.argwhere(shown_windows(cells, 2).reshape(3, 3)).tolist() == [[0, 0], [1, 0], [2, 0]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("sets")
    return {name: made.WRITERS[name](place / name) for name in ("refcoco", "nlvr2")}


def load(name, directory, encoder="patch", **settings):
    data = Data(name, directory=str(directory), resolution="native", **settings)
    return load_source(data, encoder)


@pytest.mark.parametrize(("encoder", "window"), [("patch", 1), ("window", 2)])
def test_words_keep_their_regions(folders, encoder, window):
    # Of 48 x 32 pixels, on 64 x 64: nothing is resized.
    found = load("refcoco", folders["refcoco"], encoder, image_size=64)
    test = found.splits["test"]
    picture, _, _, (x0, y0, x1, y1) = draw(16)
    drawn = np.asarray(picture).astype(int)
    assert np.abs(test.images[0, :32, :48].astype(int) - drawn).mean() < 6
    assert (test.images[0, 32:] == 127).all()
    assert (test.images[0, :, 48:] == 127).all()
    rows, columns = 4 - window + 1, 6 - window + 1
    shown = test.shown[0].reshape(test.grid)
    assert shown[:rows, :columns].all()
    assert shown.sum() == rows * columns
    inside = np.zeros((64, 64))
    inside[y0:y1, x0:x1] = 1
    cells = inside.reshape(8, 8, 8, 8).mean(axis=(1, 3))
    seen = np.lib.stride_tricks.sliding_window_view(cells, (window, window)).mean(axis=(2, 3))
    region = test.regions(np.array([0]))[0, 1].reshape(test.grid)
    np.testing.assert_allclose(region, seen * shown, atol=1e-6)
    np.testing.assert_allclose(test.places[0, 0] * 64, [y0, x0, y1, x1], rtol=1e-5)
    batch = found.train.drawn(4, 2, 0, WHOLE).batch(0)
    assert batch["shown"].shape == (2, test.shown.shape[1])
    assert batch["shown"].sum() == 2 * rows * columns
    assert "keep their aspect ratio" in found.about


def test_two_photographs_stand_side_by_side_as_they_are(folders):
    test = load("nlvr2", folders["nlvr2"], image_size=64).splits["test"]
    shown = test.shown[0].reshape(8, 8)
    # Each has 32 x 64 pixels: 48 x 32 become 32 x 24, in whole cells.
    assert shown.tolist() == [[row < 3] * 8 for row in range(8)]
    for side in (0, 1):
        small = draw(side)[0].resize((32, 24), Image.Resampling.BILINEAR)
        half = test.images[0][:24, 32 * side : 32 * side + 32]
        assert np.abs(half.astype(int) - np.asarray(small)).max() <= 1
    with pytest.raises(DataError, match=r"data.image_size to be a multiple of 16, got 40"):
        load("nlvr2", folders["nlvr2"], image_size=40)


def test_what_does_not_go_with_it_is_refused(folders):
    with pytest.raises(ValueError, match=r"data\.flip is for data\.resolution square"):
        load("refcoco", folders["refcoco"], flip=True)
    with pytest.raises(ValueError, match=r"data.resolution is for source .*published sets, not fo"):
        Data("folder", resolution="native")
