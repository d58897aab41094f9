"""Whether a PNG holds all of its rows: a stream that ends well, but early, leaves the rest black.

Pillow takes such a file for whole. Counting means to inflate it once more, up to half of the time
that decoding takes, so only what may be short is: its last row is zero, or it is interlaced.

References:
    PNG specification (third edition), 8.1 "Interlace methods", 9 "Filtering", 10 "Compression".
"""

import struct
import zlib
from collections.abc import Iterator

__all__ = ["has_all_rows"]

_AFTER_SIGNATURE = 8
_CHUNK = struct.Struct(">I4s")
_HEADER = struct.Struct(">IIBB2xB")  # width, height, bits, kind of colour, interlacing
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2))
_LAST_PASS = (0, 1, 1, 2)  # columns from, in steps of; rows from, in steps of
_PIECE = 1 << 18  # bytes inflated at a time


def has_all_rows(png: bytes) -> bool:
    """Inflate a PNG that was decoded, and count: True where there are as many bytes as it says.

    Raises:
        zlib.error, struct.error, LookupError, StopIteration: It is no PNG after all.

    Example:
        >>> from app.palette_png import write_png
        >>> import numpy as np
        >>> has_all_rows(write_png(np.zeros((2, 2), np.uint8), np.zeros((1, 3), np.uint8), 1))
        True
    """
    header = next(content for kind, content in _chunks(png) if kind == b"IHDR")
    missing = _length(*_HEADER.unpack_from(header))
    inflating = zlib.decompressobj()
    for kind, content in _chunks(png):
        rest: bytes | memoryview = content
        while kind == b"IDAT" and missing > 0 and not inflating.eof:
            piece = inflating.decompress(rest, _PIECE)
            rest = inflating.unconsumed_tail
            missing -= len(piece)
            if not piece and not rest:
                break
    return missing <= 0


def _chunks(png: bytes) -> Iterator[tuple[bytes, memoryview]]:
    at, view = _AFTER_SIGNATURE, memoryview(png)
    while at + _CHUNK.size <= len(png):
        length, kind = _CHUNK.unpack_from(png, at)
        at += _CHUNK.size
        yield kind, view[at : at + length]
        at += length + 4  # a checksum, which the decoder has seen to


def _length(width: int, height: int, bits: int, color: int, interlacing: int) -> int:
    """Count the bytes of all rows, with the one before each that names its filter."""
    passes = (*_PASSES, _LAST_PASS) if interlacing else ((0, 1, 0, 1),)
    total = 0
    for left, across, top, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits * _CHANNELS[color] + 7) // 8)
    return total
