"""Looks for bytes that make the decoder raise what it never should: `make fuzz`."""

import sys
import tempfile
from pathlib import Path

import atheris
import attacks

with atheris.instrument_imports():
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    from app.codecs import Limits, decode
    from app.errors import ServiceError

FORMATS = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
LIMITS = Limits(max_pixels=1_000_000)


def decode_one(encoded):
    """Pixels of the promised shape, or an error of ours; anything else is a find."""
    try:
        picture = decode(encoded, LIMITS)
    except ServiceError:
        return
    assert picture.pixels.shape[:2] == (picture.height, picture.width)
    assert picture.pixels.shape[2] in {3, 4}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
            Path(corpus, name).write_bytes(attacks.encoded(attacks.photo(12, 16), name))
        atheris.Setup([*sys.argv, corpus], decode_one)
        atheris.Fuzz()
