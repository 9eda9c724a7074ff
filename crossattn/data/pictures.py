"""Encoded pictures become RGB of 8 bits, or are refused: one place for all sources of data.

* *Depth.* Grey of 16 bits (12 in some TIFF files) is scaled to 0 to 255 and rounded to the nearest,
  and so are real numbers that lie in 0 to 1. Integers of 32 bits and signed ones have no white that
  a reader could know: they are refused. Of colours of 16 bits Pillow keeps the high byte.
* *Transparency.* Transparent pixels show white, not the colour that is hidden in them.
* *Orientation.* `decode` gives the rows of the file, as TFDS reads them: boxes refer to these. A
  note that the camera was turned (EXIF) is followed by `decode_sized`, as by viewers, on which
  people draw boxes, unless a size is given that is that of the rows.
* *Several pictures* in one file: the first is read.
* *Texts and colour profiles* of PNG files are not read: they may be of any size.
"""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from crossattn.data.errors import DataError, one_line
from crossattn.data.orientation import Orientation, Sides, orientation_of

__all__ = [
    "FORMATS",
    "decode",
    "decode_numbers",
    "decode_sized",
    "read_picture",
]

# Only these decoders are ever begun: that of EPS, for one, would start another program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

PNG = b"\x89PNG\r\n\x1a\n"
# The byte of a PNG file that says how many bits a value has.
PNG_DEPTH = 24
# Say nothing about pixels; Pillow refuses those that unpack to more than a mebibyte.
UNREAD_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
# Numbers of TIFF tags.
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, SIGNED = 0, 2
# Numbers of a PNG pixel by colour type.
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row of each pass of an interlaced PNG, and the steps from there.
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
# More than Pillow decodes.
MOST_PIXELS = 2**28


def decode(encoded: bytes, size: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a picture file.

    Args:
        encoded: the whole file, in one of `FORMATS`.
        size: squeeze the picture into a square of so many pixels a side, so that shares of its
            sides stay; None keeps its pixels.

    Raises:
        DataError: the file is truncated, damaged, no picture, too large to be held, or its values
            have no scale that a reader could know.

    Example:
        >>> file = io.BytesIO()
        >>> Image.fromarray(np.array([[0, 16384, 32768, 65535]], np.uint16)).save(file, "PNG")
        >>> decode(file.getvalue())[0, :, 0].tolist()
        [0, 64, 128, 255]
    """
    return _decode(encoded, _square(size), lambda *_: Orientation())[0]


def decode_sized(
    encoded: bytes, fit: Callable[[Sides], Sides], annotated: Sides | None = None
) -> tuple[UInt8[np.ndarray, "height width 3"], Sides]:
    """Decode a picture file as viewers show it, or as annotations mean it.

    Args:
        encoded: the whole file.
        fit: width and height of the whole picture to those that are wanted.
        annotated: width and height of the picture that boxes refer to.

    Returns:
        Its pixels, and width and height of the whole picture.

    Raises:
        DataError: as `decode`; the camera was turned, and `annotated` does not tell which picture
            is meant.
    """
    return _decode(
        encoded, fit, lambda own, stored: own.meant(stored, annotated) if annotated else own
    )


def _square(size: int | None) -> Callable[[Sides], Sides] | None:
    return None if size is None else lambda whole: (size, size)


def _decode(
    encoded: bytes,
    fit: Callable[[Sides], Sides] | None,
    choose: Callable[[Orientation, Sides], Orientation] = lambda own, stored: own,
) -> tuple[Any, Sides]:
    try:
        with Image.open(io.BytesIO(_without_texts(encoded)), formats=FORMATS) as file:
            turned = choose(orientation_of(file), file.size)
            whole = turned.sides(file.size)
            if fit:  # a large JPEG is decoded at a fraction of its size
                file.draft("RGB", turned.sides(fit(whole)))
            picture = turned.turn(_rgb(file, encoded))
            if file.format == "TIFF":
                whole = picture.size
            if fit:
                picture = picture.resize(fit(whole), Image.Resampling.BILINEAR)
            return np.asarray(picture), whole
    except DataError:
        raise
    except UnidentifiedImageError:
        raise _undecodable(f"it is no whole file of {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders meet damage with a dozen kinds, MemoryError among them
        raise _undecodable(one_line(error)) from None


def read_upright(path: str | Path) -> UInt8[np.ndarray, "height width 3"]:
    """Read a picture file as viewers show it.

    Raises:
        DataError: names the file that is not there, or cannot be decoded.
    """
    try:
        return _decode(Path(path).read_bytes(), None)[0]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except DataError as error:
        raise DataError(f"{path} {error}") from None


def read_picture(path: str | Path) -> UInt8[np.ndarray, "height width 3"]:
    """Read a picture file.

    Raises:
        DataError: names the file that cannot be decoded.
    """
    try:
        return decode(Path(path).read_bytes())
    except DataError as error:
        raise DataError(f"{path} {error}") from None


def decode_numbers(encoded: bytes) -> UInt8[np.ndarray, "height width"]:
    """Decode a PNG file whose pixels are whole numbers of 8 bits: of a palette, or grey.

    Raises:
        DataError: the file is damaged, no PNG, or has other pixels.

    Example:
        >>> file = io.BytesIO()
        >>> Image.fromarray(np.array([[0, 1, 7]], np.uint8)).save(file, "PNG")
        >>> decode_numbers(file.getvalue()).tolist()
        [[0, 1, 7]]
    """
    if not encoded.startswith(PNG):
        raise DataError("is no PNG file: a mask has a number for each pixel, as PNG files keep it")
    try:
        with Image.open(io.BytesIO(_without_texts(encoded)), formats=["PNG"]) as file:
            # Pillow scales greys of 2 and 4 bits.
            if file.mode not in ("1", "P", "L") or (file.mode == "L" and encoded[PNG_DEPTH] != 8):
                raise DataError(
                    f"is a PNG file of mode {file.mode} and {encoded[PNG_DEPTH]} bits: a mask has "
                    "a number for each pixel, of a palette or grey of 8 bits"
                )
            return np.asarray(file).astype(np.uint8)
    except DataError:
        raise
    except Exception as error:  # as in `_decode`
        raise _undecodable(one_line(error)) from None


def _undecodable(why: str) -> DataError:
    return DataError(f"holds a picture that cannot be decoded: {why}")


def _without_texts(encoded: bytes) -> bytes:
    """Compare the checksum of every chunk of a PNG file, and drop what needs no reading."""
    if not encoded.startswith(PNG):
        return encoded
    kept, start, name, pixels = [PNG], len(PNG), b"", []
    while name != b"IEND":
        end = start + 12 + int.from_bytes(encoded[start : start + 4], "big")
        name = encoded[start + 4 : start + 8]
        if end > len(encoded):
            raise _undecodable(f"the PNG file is truncated in byte {len(encoded)}")
        if zlib.crc32(encoded[start + 4 : end - 4]) != int.from_bytes(
            encoded[end - 4 : end], "big"
        ):
            raise _undecodable(f"the checksum of its PNG chunk at byte {start} is wrong")
        if name not in UNREAD_CHUNKS:
            kept.append(encoded[start:end])
        if name == b"IDAT":
            pixels.append(encoded[start + 8 : end - 4])
        start = end
    _check_pixels(encoded, b"".join(pixels))
    return b"".join(kept)


def _check_pixels(encoded: bytes, packed: bytes) -> None:
    """Refuse a PNG file with fewer pixels than it says: Pillow makes the others black."""
    width, height, depth, kind, _, _, interlace = struct.unpack(">IIBBBBB", encoded[16:29])
    if kind not in PNG_CHANNELS or interlace > 1:
        raise _undecodable("its PNG header is none")
    if width * height > MOST_PIXELS:
        return  # Pillow refuses what is so large
    passes = ADAM7 if interlace else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    bits = depth * PNG_CHANNELS[kind]
    needed = sum(h * (1 + (w * bits + 7) // 8) for w, h in sizes if w > 0 and h > 0)
    found = len(zlib.decompressobj().decompress(packed, needed))
    if found < needed:
        raise _undecodable(f"its pixels take {needed} bytes, it has {found}")


def _rgb(file: Image.Image, encoded: bytes) -> Image.Image:
    if file.mode == "F" or file.mode.startswith("I"):
        return _grey(file).convert("RGB")
    if SIGNED in np.ravel(getattr(file, "tag_v2", {}).get(SAMPLE_FORMAT, 1)):
        raise DataError("holds a picture of signed integers: expected numbers without sign")
    if not file.has_transparency_data:
        return file.convert("RGB")
    key = file.info.get("transparency")
    deep = file.format == "PNG" and encoded[PNG_DEPTH] == 16
    if isinstance(key, tuple) and (deep or max(key) > 255):
        raise DataError("holds a picture with a transparent colour of 16 bits: expected 8 bits")
    if isinstance(key, int) and file.format == "PNG" and file.mode in ("1", "L"):
        # Pillow scales greys of 1, 2 and 4 bits to 8, but not the one that is transparent.
        file.info["transparency"] = key * 255 // (2 ** encoded[PNG_DEPTH] - 1)
    ground = Image.new("RGBA", file.size, "white")
    ground.alpha_composite(file.convert("RGBA"))
    return ground.convert("RGB")


def _grey(file: Image.Image) -> Image.Image:
    """Scale values of more than 8 bits to 0 to 255."""
    values = np.asarray(file).astype(np.float64)
    tags = getattr(file, "tag_v2", {})
    if file.mode == "F":
        top = 1
        if not (values.min() >= 0 and values.max() <= top):
            raise DataError(
                f"holds a picture of real numbers from {values.min():g} to {values.max():g}: "
                "expected 0 (black) to 1 (white)"
            )
    elif file.mode == "I" and file.format == "TIFF":
        raise DataError(
            "holds a picture of 32-bit or signed integers, whose white is not known: expected 8 or "
            "16 bits without sign, or real numbers from 0 to 1"
        )
    else:  # Pillow scales PPM files itself, to 16 bits
        top = 2 ** tags.get(BITS, (16,))[0] - 1
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = top - values
    transparent = file.info.get("transparency")
    if transparent is not None:
        values[values == transparent] = top
    return Image.fromarray(np.rint(values / top * 255).astype(np.uint8))
