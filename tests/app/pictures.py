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
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, interlaced)
    return png_of(header, row * (height if rows is None else rows))


def deep_png(row, transparent, *, interlaced=False):
    """A PNG of one row of RGB in 16 bits a channel, three pixels, of which one colour is clear."""
    header = struct.pack(">IIBBBBB", 3, 1, 16, 2, 0, 0, interlaced)
    pixels = [struct.pack(">HHH", *color) for color in row]
    passes = [pixels[0], pixels[2], pixels[1]] if interlaced else [b"".join(pixels)]
    rows = b"".join(b"\0" + each for each in passes)
    return png_of(header, rows, (b"tRNS", struct.pack(">HHH", *transparent)))


def png_of(header, rows, *between):
    """A PNG of a header, rows that are not compressed yet, and chunks between them."""
    chunks = [(b"IHDR", header), *between, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name, content):
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
