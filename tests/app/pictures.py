"""Pictures made for tests, and what an answer's picture looks like decoded."""

import base64
import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(pixels, picture_format="PNG", **options):
    """Bytes of a picture: an array, or a Pillow image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, picture_format, **options)
    return file.getvalue()


def decoded(data, mode="RGB"):
    """Pixels of a picture file, or of one in an answer."""
    raw = base64.b64decode(data) if isinstance(data, str) else data
    with Image.open(io.BytesIO(raw)) as image:
        return np.asarray(image.convert(mode))


def noise(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def black_png(width, height, *, rows=None, interlaced=False):
    """A PNG of one bit a pixel; its header promises `height` rows, of which `rows` are there."""
    row = bytes(1 + (width + 7) // 8)
    body = zlib.compress(row * (height if rows is None else rows))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name, content):
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
