"""Pictures of published sets whose camera was turned: the annotations say which rows they mean."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from crossattn.data.errors import DataError
from tests.support import published_sets as made


def turn(file, number):
    """Make viewers show a file as they did, though its rows lie otherwise."""
    inverse = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90,
               8: Image.Transpose.ROTATE_270}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = number
    with Image.open(file) as picture:
        turned = ImageOps.exif_transpose(picture).transpose(inverse[number])
    turned.save(file, "PNG", exif=exif)


def mark(file, number):
    """Leave the rows of a file, and say that the camera was turned."""
    exif = Image.Exif()
    exif[0x0112] = number
    with Image.open(file) as picture:
        picture.save(file, exif=exif, quality=100)


def test_captions_are_about_the_upright_picture(tmp_path):
    directory = made.write_coco(tmp_path)
    file = directory / "val2017/000000000101.jpg"
    load = lambda **options: made.load("coco_captions", directory, **options).splits["test"]
    for resolution in ("square", "native"):
        before = load(resolution=resolution)
        for number in (3, 6, 8):
            turn(file, number)
            found = load(resolution=resolution)
            np.testing.assert_array_equal(found.images, before.images, err_msg=number)
            if resolution == "native":
                np.testing.assert_array_equal(found.shown, before.shown)


def test_boxes_say_by_the_size_of_their_picture_which_rows_they_mean(tmp_path):
    directory = made.write_gqa(tmp_path)
    before = made.load("gqa", directory).splits["validation"]
    upright, stored = directory / "images/100.jpg", directory / "images/102.jpg"
    # 48 x 32 is what viewers show of the first, and how the rows of the second lie.
    turn(upright, 6)
    mark(stored, 6)
    found = made.load("gqa", directory).splits["validation"]
    assert len(found.images) == 3
    assert np.abs(found.images[:2].astype(int) - before.images[:2]).mean() < 4
    np.testing.assert_array_equal(found.coverage, before.coverage)
    # Turned by half a circle, and of neither size.
    mark(stored, 3)
    why = r"102\.jpg \(.*entry 0102\) is turned by its EXIF orientation 3, .*: turn its rows"
    with pytest.raises(DataError, match=why):
        made.load("gqa", directory)
    Image.new("RGB", (40, 20)).save(stored)
    mark(stored, 6)
    with pytest.raises(DataError, match=r"102\.jpg has 40 x 20 pixels, .* says 48 x 32"):
        made.load("gqa", directory)
