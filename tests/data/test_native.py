"""Pictures of native aspect ratio: what of the canvas is shown, and where regions and boxes lie."""

import numpy as np
import pytest
from PIL import Image

from crossattn.data.batches import WHOLE, Batches
from crossattn.data.canvas import Canvas, shown_windows
from crossattn.data.errors import DataError
from crossattn.data.sources import Data, load_source
from tests.support import published_sets as made
from tests.support.picture_folders import draw, lines_of, write_folder


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


def lay(region, size):
    """A region of a picture, resized to this width and height and laid on 64 x 64 or 32 x 32."""
    side = 64 if size == (48, 32) else 32
    share = np.asarray(Image.fromarray(region.astype(np.float32)).resize(size, Image.BOX))
    inside = np.zeros((side, side))
    inside[: size[1], : size[0]] = share
    return inside.reshape(side // 8, 8, side // 8, 8).mean(axis=(1, 3)).ravel()


@pytest.mark.parametrize(("side", "size"), [(64, (48, 32)), (32, (32, 24))])
def test_pictures_of_folders_keep_their_aspect_ratio(tmp_path, side, size):
    lines, regions = lines_of(12, questions=False), []
    (tmp_path / "masks").mkdir()
    for number, line in enumerate(lines):
        x0, y0, x1, y1 = draw(number)[3]
        region = np.zeros((32, 48), np.uint8)
        region[y0:y1, x0:x1] = 1
        regions.append(region)
        if number % 2:
            Image.fromarray(region).save(tmp_path / f"masks/{number}.png")
            line["masks"] = dict.fromkeys(line.pop("boxes"), f"masks/{number}.png")
    write_folder(tmp_path, 12, lines)
    found = load("folder", tmp_path, image_size=side)
    assert "keep their aspect ratio" in found.about
    part = found.train
    rows, columns = size[1] // 8, size[0] // 8
    shown = np.zeros((side // 8, side // 8), bool)
    shown[:rows, :columns] = True
    assert (part.shown == shown.ravel()).all()
    assert (part.images[:, size[1] :] == 127).all()
    pictures = [np.asarray(draw(n)[0].resize(size, Image.BILINEAR)).astype(int) for n in range(12)]
    for image in range(len(part.images)):
        own = part.images[image, : size[1], : size[0]].astype(int)
        number = int(np.argmin([np.abs(own - one).sum() for one in pictures]))
        assert np.abs(own - pictures[number]).max() <= 1
        region = part.coverage[image].max(axis=0)
        # A pixel is of a region or not, where shares of it are counted here.
        np.testing.assert_allclose(region, lay(regions[number], size), atol=0.2)
        assert abs(region.sum() - lay(regions[number], size).sum()) < 0.35
    batch = Batches(part, 4, texts_per_image=1, seed=0).batch(0)
    assert batch.shown.shape == (4, shown.size)
    # Texts and boxes are the same in either resolution.
    write_folder(tmp_path, 12)
    square = load_source(Data("folder", directory=str(tmp_path), image_size=side), "patch")
    assert square.train.shown is None
    assert load("folder", tmp_path, image_size=side).fingerprint == square.fingerprint


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
    with pytest.raises(ValueError, match=r"data.resolution is for source folder and publ"):
        Data("tfds", resolution="native")
    with pytest.raises(ValueError, match=r"data\.features is for data\.resolution square"):
        Data("folder", resolution="native", features="somewhere")
