"""Picture files made of bytes: TIFF and PNG as no writer of Pillow's makes them."""

import io
import struct
import zlib

import numpy as np

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


COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


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
