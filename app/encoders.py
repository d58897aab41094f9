"""Palette pictures to bytes: PNG, lossless WebP and GIF, with as much effort as is asked for.

A PNG of effort 0 is Pillow's. From 1 on oxipng writes it: effort 1 is a better deflate, 2 to 6 are
oxipng's own levels, which also reorder the palette so that neighbours in the file are neighbours in
index (on photographs of 256 colours, 8 % fewer bytes than effort 1), and 7 to 9 are zopfli, whose
last half per cent takes seconds. docs/compression.md has the figures.

oxipng runs in a process of its own (see `app.shrink_png`). The same picture and effort give the
same bytes.
"""

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from app.errors import BadParameter

__all__ = ["FORMATS", "MEDIA_TYPES", "encode"]

MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "gif": "image/gif"}
FORMATS = tuple(MEDIA_TYPES)
MAX_EFFORT = 9
_OPAQUE = 255
_PROGRAM = Path(__file__).with_name("shrink_png.py")
_ZOPFLI_ITERATIONS = {7: 5, 8: 15, 9: 50}
_ZOPFLI_PIXELS = 1 << 22  # beyond, zopfli would take minutes: effort 6 has to do
_WEBP_THOROUGH = (6, 100)  # method and quality; tries every transform, a hundred times slower


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    indices: np.ndarray  # (h, w) uint8
    palette: np.ndarray  # (m, 3|4) uint8

    @property
    def alpha(self) -> np.ndarray | None:
        """(m,) uint8 where some entry is not opaque."""
        has_alpha = self.palette.shape[1] > 3 and self.palette[:, 3].min() < _OPAQUE  # noqa: PLR2004
        return self.palette[:, 3] if has_alpha else None

    def to_image(self) -> Image.Image:
        image = Image.fromarray(self.indices)
        image.putpalette(self.palette[:, :3].tobytes())
        return image


def encode(
    indices: UInt8[np.ndarray, "h w"],
    palette: UInt8[np.ndarray, "m c"],
    image_format: str = "png",
    *,
    effort: int = 0,
    keep_order: bool = False,
) -> bytes:
    """Write a palette picture.

    Args:
        indices: Palette entry of each pixel.
        palette: One to 256 entries, sRGB, with a fourth column for straight alpha.
        image_format: One of `FORMATS`.
        effort: How hard to look for fewer bytes, in 0..9.
        keep_order: Leave the entries of a PNG's palette where they are, at any effort.

    Returns:
        The file, without metadata: a PNG of bit depth 1, 2, 4 or 8, alpha as tRNS; a lossless WebP;
        or a GIF, whose entries are opaque or fully transparent.

    Raises:
        BadParameter: The format is none we write.

    Example:
        >>> encode(np.zeros((1, 1), np.uint8), np.zeros((1, 3), np.uint8))[24]  # its bit depth
        1
    """
    picture = _Picture(indices=indices, palette=palette)
    if image_format == "webp":
        return _webp(picture, effort)
    if image_format == "gif":
        return _gif(picture)
    if image_format != "png":
        raise BadParameter.of("format", image_format, ", ".join(FORMATS))
    return _png(picture, effort, keep_order=keep_order) if effort else _quick_png(picture)


def _quick_png(picture: _Picture) -> bytes:
    if picture.alpha is None:
        return _saved(picture.to_image(), "PNG")
    # Entries without a tRNS value are opaque.
    return _saved(picture.to_image(), "PNG", transparency=picture.alpha.tobytes().rstrip(b"\xff"))


def _png(picture: _Picture, effort: int, *, keep_order: bool) -> bytes:
    is_small = picture.indices.size <= _ZOPFLI_PIXELS
    options = {
        "level": min(effort, 6),
        "quick": effort == 1,
        "keep_order": keep_order or effort == 1,
        "zopfli": _ZOPFLI_ITERATIONS.get(effort, 0) if is_small else 0,
    }
    command = [sys.executable, "-I", str(_PROGRAM), json.dumps(options)]
    shrunk = subprocess.run(command, input=_quick_png(picture), capture_output=True, check=True)  # noqa: S603 - our own program
    return shrunk.stdout


def _webp(picture: _Picture, effort: int) -> bytes:
    method, quality = _WEBP_THOROUGH if effort == MAX_EFFORT else (min(effort + 1, 6), 75)
    channels = 3 if picture.alpha is None else 4
    pixels = picture.palette[:, :channels][picture.indices]
    image = Image.fromarray(pixels)
    return _saved(image, "WEBP", lossless=True, exact=True, method=method, quality=quality)


def _gif(picture: _Picture) -> bytes:
    options: dict[str, Any] = {"optimize": False}  # which would reorder and drop entries
    if picture.alpha is not None:
        options["transparency"] = int(picture.alpha.argmin())
    return _saved(picture.to_image(), "GIF", **options)


def _saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return encoded.getvalue()
