"""Palette pictures to bytes: PNG, lossless WebP and GIF, with as much effort as is asked for.

docs/compression.md has the figures.

What may take long runs in a process of its own (`app.shrinking`), which ends once its result is not
wanted any more. The same picture and effort give the same bytes.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from app.errors import BadParameter
from app.palette_png import chunk
from app.png import write_small_png
from app.shrinking import UnwantedError, run

__all__ = ["FORMATS", "LONGEST_SIDE", "MEDIA_TYPES", "UnwantedError", "encode"]

MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "gif": "image/gif"}
FORMATS = tuple(MEDIA_TYPES)
LONGEST_SIDE = {"png": 2**31 - 1, "webp": 16_383, "gif": 65_535}  # pixels, by the formats' headers
MAX_EFFORT = 9
_OPAQUE = 255
_PNG_HEADER = 33  # bytes: signature and IHDR
_SHRINK_WEBP = Path(__file__).with_name("shrink_webp.py")
_WEBP_THOROUGH = (6, 100)  # method and quality; tries every transform, a hundred times slower
_WEBP_AT_ONCE = 1 << 19  # pixels that take half a second at most, but thoroughly a minute


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
    is_wanted: Callable[[], bool] = lambda: True,
    exif: bytes = b"",
    xmp: bytes = b"",
) -> bytes:
    """Write a palette picture.

    Args:
        indices: Palette entry of each pixel.
        palette: One to 256 entries, sRGB, with a fourth column for straight alpha.
        image_format: One of `FORMATS`.
        effort: How hard to look for fewer bytes, in 0..9.
        keep_order: Leave the entries of a PNG's palette where they are, at any effort.
        is_wanted: Asked now and then; once it says no, the work ends.
        exif: Metadata to put in, not into a GIF; without any, the file has none.
        xmp: Likewise.

    Returns:
        The file: a PNG of bit depth 1, 2, 4 or 8, alpha as tRNS; a lossless WebP;
        or a GIF, whose entries are opaque or fully transparent.

    Raises:
        BadParameter: The format is none we write.
        UnwantedError: `is_wanted` said no.

    Example:
        >>> encode(np.zeros((1, 1), np.uint8), np.zeros((1, 3), np.uint8))[24]  # its bit depth
        1
    """
    picture = _Picture(indices=indices, palette=palette)
    if image_format == "webp":
        webp = _webp(picture, effort, is_wanted)
        return _webp_with_metadata(webp, picture, exif, xmp)
    if image_format == "gif":
        return _gif(picture)
    if image_format != "png":
        raise BadParameter.of("format", image_format, ", ".join(FORMATS))
    png = write_small_png(indices, palette, effort, is_wanted, keep_order=keep_order)
    return _png_with_metadata(png, exif, xmp)


def _png_with_metadata(png: bytes, exif: bytes, xmp: bytes) -> bytes:
    """Put chunks of metadata behind the header, where every reader finds them."""
    chunks = b""
    if exif:
        chunks += chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    if xmp:
        chunks += chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    return png[:_PNG_HEADER] + chunks + png[_PNG_HEADER:]


def _webp_with_metadata(webp: bytes, picture: _Picture, exif: bytes, xmp: bytes) -> bytes:
    """Put chunks of metadata behind the picture, and the header that announces them before it."""
    if not exif and not xmp:
        return webp
    h, w = picture.indices.shape
    flags = 0x10 * (picture.alpha is not None) | 0x08 * bool(exif) | 0x04 * bool(xmp)
    header = (
        struct.pack("<I", flags) + (w - 1).to_bytes(3, "little") + (h - 1).to_bytes(3, "little")
    )
    chunks = _riff(b"VP8X", header) + webp[12:]
    chunks += _riff(b"EXIF", exif.removeprefix(b"Exif\0\0")) if exif else b""
    chunks += _riff(b"XMP ", xmp) if xmp else b""
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _webp(picture: _Picture, effort: int, is_wanted: Callable[[], bool]) -> bytes:
    is_thorough = effort == MAX_EFFORT
    method, quality = _WEBP_THOROUGH if is_thorough else (min(effort + 1, 6), 75)
    if is_thorough or picture.indices.size > _WEBP_AT_ONCE:
        mode = "RGB" if picture.alpha is None else "RGBA"
        options = {"method": method, "quality": quality, "mode": mode}
        png = write_small_png(picture.indices, picture.palette, 0, is_wanted)
        return run(_SHRINK_WEBP, options, png, is_wanted)
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
