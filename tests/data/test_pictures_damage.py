"""Damage to a picture is a DataError of one line; what says nothing about pixels is no damage."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from crossattn.data import pictures
from crossattn.data.errors import DataError
from tests.support.picture_files import COLOURS, PNG, chunk, encoded, png

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


def grey(rows, interlace=0):
    """A PNG file of 3 x 5 grey pixels with so many rows, whose checksums are right."""
    header = struct.pack(">IIBBBBB", 3, 5, 8, 0, 0, 0, interlace)
    pixels = zlib.compress(b"\0\1\2\3" * rows)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (grey(1), "its pixels take 20 bytes, it has 4"),
        (grey(4), "its pixels take 20 bytes, it has 16"),
        (grey(3, interlace=1), "its pixels take 25 bytes, it has 12"),
        (grey(5, interlace=2), "its PNG header is none"),
    ],
)
def test_a_picture_without_all_its_pixels_is_refused(file, why):
    with pytest.raises(DataError, match=why):
        pictures.decode(file)


def test_a_picture_with_all_its_pixels_is_read():
    assert pictures.decode(grey(5))[:, :, 0].tolist() == [[1, 2, 3]] * 5
