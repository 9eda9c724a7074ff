"""TFRecord files, read without TensorFlow: records as bytes, in any order.

A TFRecord file has no index: one pass over the headers of the records (length in 8 bytes, its
checksum in 4; the data and 4 more bytes follow) finds where each begins. The checksum of every
length is compared when a file is opened, that of the data whenever a record is read (1 us for
30 kB).
"""

import os
import struct
from pathlib import Path

import google_crc32c
import numpy as np

from crossattn.data.errors import DataError
from crossattn.shapes import Int

__all__ = ["TFRecordShard", "index", "masked_crc"]

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
# TFRecord files rotate a CRC-32C and add this constant.
MASK_DELTA = 0xA282EAD8


class TFRecordShard:
    """One TFRecord file of records, found by their headers when it is opened."""

    def __init__(self, file: Path):
        self.file, self.places = file, index(file)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> bytes:
        start, length = (int(value) for value in self.places[number])
        with self.file.open("rb") as handle:
            handle.seek(start)
            data = handle.read(length)
            footer = handle.read(FOOTER.size)
        if len(footer) != FOOTER.size:
            raise DataError(f"{self.file} is truncated in record {number}")
        if FOOTER.unpack(footer) != (masked_crc(data),):
            raise DataError(
                f"{self.file} is damaged in record {number} (bytes {start} to {start + length}): "
                "the checksum of its data is wrong"
            )
        return data


def index(file: Path) -> Int[np.ndarray, "N 2"]:
    """Find the records of a TFRecord file by their headers alone.

    Returns:
        (N, 2) int64: the byte at which the data of each record begin, and their length.

    Raises:
        DataError: the file ends within a record, or the checksum of a length is wrong.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "one.tfrecord"
        >>> header = (5).to_bytes(8, "little")
        >>> _ = file.write_bytes(header + masked_crc(header).to_bytes(4, "little") + b"hello crc")
        >>> index(file).tolist()
        [[12, 5]]
    """
    places: list[tuple[int, int]] = []
    with file.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        start = 0
        while start < size:
            head = os.pread(handle.fileno(), HEADER.size, start)
            if len(head) < HEADER.size:
                raise DataError(f"{file} is truncated in record {len(places)}")
            length, checksum = HEADER.unpack(head)
            if masked_crc(head[:8]) != checksum:
                raise DataError(
                    f"{file} is damaged at record {len(places)} (byte {start}): "
                    "the checksum of its length is wrong"
                )
            end = start + HEADER.size + length + FOOTER.size
            if end > size:
                raise DataError(f"{file} is truncated in record {len(places)}")
            places.append((start + HEADER.size, length))
            start = end
    return np.array(places, np.int64).reshape(-1, 2)


def masked_crc(data: bytes) -> int:
    """Masked CRC-32C, as TFRecord files carry it behind a length and behind the data.

    Example:
        >>> hex(masked_crc(b"123456789"))  # CRC-32C of the check string is e3069283
        '0xc78ab0e5'
    """
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF
