"""Every kind of picture is shown as it is, or refused; damage is a DataError of one line."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from crossattn.data import pictures
from crossattn.data.errors import DataError
from tests.support.picture_files import COLOURS, GREYS, chunk, encoded, png, tiff

DEEP = {
    "16-bit PNG": (encoded(Image.fromarray(GREYS), "PNG"), [0, 64, 128, 255]),
    "16-bit TIFF": (tiff(GREYS, 16), [0, 64, 128, 255]),
    "16-bit TIFF, high byte first": (
        tiff(GREYS.astype(">u2"), 16, order=">"),
        [0, 64, 128, 255],
    ),
    "16-bit TIFF, white is 0": (tiff(GREYS, 16, photometric=0), [255, 191, 127, 0]),
    # 0, 1024, 2048 and 4095 in 12 bits each.
    "12-bit TIFF": (tiff(bytes.fromhex("000400800fff"), 12), [0, 64, 128, 255]),
    "real numbers": (
        tiff(np.array([[0, 0.25, 0.5, 1]], np.float32), 32, kind=3),
        [0, 64, 128, 255],
    ),
    "real numbers, high byte first": (
        tiff(np.array([[0, 0.25, 0.5, 1]], ">f4"), 32, kind=3, order=">"),
        [0, 64, 128, 255],
    ),
    "real numbers, white is 0": (
        tiff(np.array([[0, 0.25, 0.5, 1]], np.float32), 32, kind=3, photometric=0),
        [255, 191, 128, 0],
    ),
    "16-bit PGM": (b"P5 4 1 65535\n" + GREYS.astype(">u2").tobytes(), [0, 64, 128, 255]),
    "PGM up to 1000": (b"P2 4 1 1000\n0 250 500 1000\n", [0, 64, 128, 255]),
    "PGM up to 100": (b"P2 4 1 100\n0 25 50 100\n", [0, 64, 128, 255]),
    "black and white": (b"P1 4 1\n1 0 1 0\n", [0, 255, 0, 255]),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_greys_are_scaled(name):
    file, shown = DEEP[name]
    pixels = pictures.decode(file)
    assert pixels.shape == (1, 4, 3)
    assert pixels.dtype == np.uint8
    for channel in range(3):
        # 63.75 and 127.5 lie between two values; 2-byte PGM is rounded twice.
        np.testing.assert_allclose(pixels[0, :, channel].astype(int), shown, atol=0.5)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (tiff(np.array([[0, 1, 2, 3]], np.uint32), 32), "whose white is not known"),
        (tiff(np.array([[0, 1, 2, -3]], np.int32), 32, kind=2), "whose white is not known"),
        (tiff(np.array([[0, 1, 2, -3]], np.int16), 16, kind=2), "whose white is not known"),
        (tiff(np.array([[0, 1, 2, 255]], np.float32), 32, kind=3), "from 0 to 255: expected 0"),
        (tiff(np.array([[-0.1, 0, 0, 1]], np.float32), 32, kind=3), "from -0.1 to 1"),
        (tiff(np.array([[np.nan, 0, 0, 1]], np.float32), 32, kind=3), "from nan to nan"),
        (tiff(np.array([[np.inf, 0, 0, 1]], np.float32), 32, kind=3), "from 0 to inf"),
        (tiff(np.zeros((1, 4)), 64, kind=3), "cannot be decoded"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_values_without_a_known_scale_are_refused(file, why):
    with pytest.raises(DataError, match=why):
        pictures.decode(file)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF", "JPEG"])
def test_formats_that_people_have_are_read(form):
    image = Image.fromarray(COLOURS)
    if form == "GIF":
        image = image.quantize(64)
    file = encoded(image, form, **{"WEBP": {"lossless": True}}.get(form, {}))
    shown = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    np.testing.assert_array_equal(pictures.decode(file), shown)
    if form != "JPEG":
        np.testing.assert_array_equal(shown, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBX", "LAB"])
def test_other_modes_are_colours(mode):
    """TIFF keeps every mode; a colour is what Pillow says."""
    grey = Image.fromarray(COLOURS).convert("L").convert("RGB")
    if mode == "LAB":
        if not features.check("littlecms2"):
            pytest.skip("Pillow was built without littleCMS")
        lab = Image.merge("LAB", [Image.new("L", (1, 1), value) for value in (255, 128, 128)])
        np.testing.assert_allclose(pictures.decode(encoded(lab, "TIFF")), 255, atol=2)
        return
    image = (grey if mode == "L" else Image.fromarray(COLOURS)).convert(mode)
    np.testing.assert_array_equal(
        pictures.decode(encoded(image, "TIFF")), np.asarray(image.convert("RGB"))
    )


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        (encoded(Image.new("RGBA", (1, 1), (9, 8, 7, 0)), "PNG"), [[255, 255, 255]]),
        (encoded(Image.new("RGBA", (1, 1), (9, 8, 7, 255)), "PNG"), [[9, 8, 7]]),
        (encoded(Image.new("RGBA", (1, 1), (155, 55, 0, 51)), "PNG"), [[235, 215, 204]]),
        (encoded(Image.new("LA", (1, 1), (9, 0)), "PNG"), [[255] * 3]),
        (encoded(Image.new("LA", (1, 1), (9, 255)), "TIFF"), [[9] * 3]),
        (encoded(Image.new("RGBA", (1, 1), (9, 8, 7, 0)), "WEBP", lossless=True), [[255] * 3]),
        # Palettes with an alpha for each colour, and for the first alone.
        (
            png(b"\0\1\2", 8, 3, chunk(b"PLTE", bytes(range(9))), chunk(b"tRNS", b"\0\xff")),
            [[255] * 3, [3, 4, 5], [6, 7, 8]],
        ),
        # One value that is transparent: grey of 8, 2, 1 and 16 bits, a colour.
        (png(b"\0\5\6", 8, 0, chunk(b"tRNS", b"\0\5")), [[0] * 3, [255] * 3, [6] * 3]),
        (png(b"\x1b", 2, 0, chunk(b"tRNS", b"\0\1")), [[0] * 3, [255] * 3, [170] * 3, [255] * 3]),
        (png(b"\xa0", 1, 0, chunk(b"tRNS", b"\0\0")), [[255] * 3] * 4),
        (png(b"\xa0", 1, 0, chunk(b"tRNS", b"\0\1")), [[255] * 3, [0] * 3] * 2),
        (
            png(GREYS.astype(">u2").tobytes(), 16, 0, chunk(b"tRNS", b"\x40\0")),
            [[0] * 3, [255] * 3, [128] * 3, [255] * 3],
        ),
        (png(bytes(range(6)), 8, 2, chunk(b"tRNS", b"\0\0\0\1\0\2")), [[255] * 3, [3, 4, 5]]),
    ],
    ids=itertools.count(),
)
def test_what_is_transparent_shows_white(file, shown):
    np.testing.assert_array_equal(pictures.decode(file)[0], shown)


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "TIFF"])
def test_of_several_pictures_the_first_is_read(form):
    first, second = (Image.new("RGB", (5, 7), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if form == "WEBP" else {}
    file = encoded(first, form, save_all=True, append_images=[second], **options)
    assert Image.open(io.BytesIO(file)).n_frames == 2
    np.testing.assert_array_equal(pictures.decode(file), np.asarray(first))


def test_a_note_that_the_camera_was_turned_is_not_followed():
    """Boxes refer to the rows of the file, as TFDS reads them."""
    turned = Image.Exif()
    turned[274] = 6
    image = Image.fromarray(COLOURS)
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        file = encoded(image, form, exif=turned)
        assert Image.open(io.BytesIO(file)).getexif()[274] == 6
        # In TIFF files it is no note: the tag says where the rows of the file lie.
        shape = (7, 5, 3) if form == "TIFF" else (5, 7, 3)
        assert pictures.decode(file).shape == shape


def test_colours_of_16_bits_keep_their_high_byte():
    deep = np.array([[0, 16384, 32768, 65535, 255, 256]], ">u2").tobytes()
    assert pictures.decode(png(deep, 16, 2))[0].ravel().tolist() == [0, 64, 128, 255, 0, 1]
    with pytest.raises(DataError, match="a transparent colour of 16 bits"):
        pictures.decode(png(deep, 16, 2, chunk(b"tRNS", b"\0\0\x40\0\x80\0")))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turned", range(1, 10))
def test_upright_as_viewers_show_it(form, turned):
    """The corners of a picture of 64 x 32 pixels, by Pillow's own reading of the note."""
    corners = Image.fromarray(np.array([[0, 80], [160, 250]], np.uint8)).resize((64, 32), 0)
    exif = Image.Exif()
    exif[0x0112] = turned
    file = io.BytesIO()
    corners.convert("RGB").save(
        file, form, exif=exif, **{"lossless": True} if form == "WEBP" else {}
    )
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue())))
    pixels, whole = pictures.decode_sized(file.getvalue(), lambda whole: (16, 16))
    assert whole == shown.size
    expected = np.asarray(shown.resize((16, 16)))[2:14:11, 2:14:11, 0]
    np.testing.assert_allclose(pixels[2:14:11, 2:14:11, 0], expected, atol=6)
