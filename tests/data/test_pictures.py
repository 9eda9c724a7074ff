"""Every kind of picture is shown as it is, or refused; damage is a DataError of one line."""

import contextlib
import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from crossattn.data import pictures
from crossattn.data.errors import DataError

GREYS = np.array([[0, 16384, 32768, 65535]], np.uint16)
PNG = b"\x89PNG\r\n\x1a\n"


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def tiff(values, bits, *, kind=1, photometric=1, order="<"):
    """One strip without compression; `kind` is TIFF's 1 unsigned, 2 signed, 3 real."""
    data = values.tobytes() if isinstance(values, np.ndarray) else values
    height, width = (1, 4)
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1}
    tags |= {278: height, 279: len(data), 339: kind}
    # Offsets and sizes of strips have 4 bytes, the other values 2.
    forms = {code: ("HHII", 4) if code in (273, 279) else ("HHIHxx", 3) for code in tags}
    entries = b"".join(
        struct.pack(order + forms[code][0], code, forms[code][1], 1, tags[code])
        for code in sorted(tags)
    )
    start = 8 + len(data)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(order + "I", start) + data
    return head + struct.pack(order + "H", len(tags)) + entries + bytes(4)


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


COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


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


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(values, depth, colour, *extra):
    """One row of samples, already packed in bytes."""
    width = {(16, 0): 4, (16, 2): 2, (8, 0): 3, (2, 0): 4, (1, 0): 4, (8, 3): 3, (8, 2): 2}[
        depth, colour
    ]
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *extra]
    parts += [chunk(b"IDAT", zlib.compress(b"\0" + values)), chunk(b"IEND", b"")]
    return PNG + b"".join(parts)


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


BIG = b"x" * (1 << 21)
VALID = {
    "zTXt": b"Comment\0\0" + zlib.compress(BIG),
    "iTXt": b"Comment\0\1\0en\0Comment\0" + zlib.compress(BIG),
    "iCCP": b"profile\0\0" + zlib.compress(BIG),
    "tEXt": b"Comment\0" + BIG,
    "gAMA": struct.pack(">I", 45455),
    "pHYs": struct.pack(">IIB", 2835, 2835, 1),
    "sRGB": b"\0",
    "cHRM": struct.pack(">8I", *range(8)),
    "eXIf": b"II*\0\10\0\0\0\0\0\0\0\0\0",
    "abCd": b"what nobody knows",
}


@pytest.mark.parametrize("name", VALID)
def test_valid_chunks_of_any_size_leave_the_picture(name):
    file = png(b"\1\2\3", 8, 0, chunk(name.encode(), VALID[name]))
    assert pictures.decode(file)[0, :, 0].tolist() == [1, 2, 3]


SHORT = {
    "gAMA": b"\0\0",
    "pHYs": b"\0",
    "sRGB": b"",
    "cHRM": bytes(7),
    "tRNS": b"",
    "acTL": b"\0\0\0",
    "fcTL": bytes(9),
    "IHDR": bytes(5),
    "fdAT": b"\0",
}


@pytest.mark.parametrize("name", SHORT)
def test_chunks_cut_short_are_a_data_error(name):
    short = chunk(name.encode(), SHORT[name])
    file = png(b"\1\2\3", 8, 0, short)
    if name == "IHDR":
        file = PNG + short + file[len(PNG) + 25 + len(short) :]
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        pictures.decode(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "file",
    [
        b"P5 4",
        b"P5 4 1 255\n\0",
        b"P5 x 1 255\n\0\0\0\0",
        b"P5 4 1 70000\n\0\0\0\0",
        b"P5 -4 1 255\n\0\0\0\0",
        b"P5 4 1 0\n\0\0\0\0",
        b"P5 " + b"4" * 20 + b" 1 255\n",
        b"P2 2 1 255\n1 x\n",
        b"P2 2 1 255\n1 256\n",
        b"P1 2 1\n1 7\n",
        b"Pf 1 1 x\n\0\0\0\0",
    ],
)
def test_headers_and_values_of_portable_pictures_are_checked(file):
    with pytest.raises(DataError, match="cannot be decoded"):
        pictures.decode(file)


def test_every_flipped_bit_of_a_png_is_noticed():
    whole = encoded(Image.fromarray(COLOURS), "PNG")
    for place in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(DataError):
            pictures.decode(bytes(flipped))
    for length in range(len(whole)):
        with pytest.raises(DataError):
            pictures.decode(whole[:length])


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_damage_to_other_formats_is_a_data_error_or_a_picture(form):
    whole = encoded(Image.fromarray(COLOURS), form)
    random = np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(damaged), 2):
            damaged[place] = random.integers(256)
        # Damage to a header can ask for a size that Pillow warns of; here warnings are errors.
        for file in (bytes(damaged), whole[: random.integers(len(whole))]):
            with contextlib.suppress(DataError):
                assert pictures.decode(file, 8).shape == (8, 8, 3)


@pytest.mark.parametrize("head", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6" + bytes(28)])
def test_eps_starts_no_program(head, monkeypatch):
    import subprocess

    from PIL import EpsImagePlugin

    refuse = lambda *_, **__: pytest.fail("a program was started")
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", refuse)
    body = b"%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\nshowpage\n%%EOF\n"
    with pytest.raises(DataError, match="no whole file of PNG, JPEG"):
        pictures.decode(head + body)


def test_a_bomb_is_refused_before_it_is_unpacked():
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    file = PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match="exceeds limit of"):
        pictures.decode(file)


@pytest.mark.parametrize(
    "kind", [ValueError, KeyError, OverflowError, struct.error, zlib.error, MemoryError, EOFError]
)
def test_whatever_a_decoder_raises_is_a_data_error_of_one_line(kind, monkeypatch):
    def fail(*_, **__):
        raise kind("some\nreason \x1b[2J")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DataError) as caught:
        pictures.decode(b"")
    assert str(caught.value).isprintable()
