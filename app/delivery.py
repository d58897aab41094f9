"""Which bytes go back: the palette picture, or the very file that came."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from app.codecs import DecodedPicture
from app.encoders import LONGEST_SIDE, MEDIA_TYPES, encode
from app.errors import BadParameter
from app.options import CompressOptions
from app.preferences import preferred
from gpu_kmeans import QuantizedImage
from gpu_kmeans.metrics import picture_wcss, psnr_db

__all__ = [
    "Delivery",
    "check_sides",
    "deliver",
    "encoding",
    "pixels_for",
    "takes_no_time",
    "with_alpha",
]

_ALPHA = 3  # the channel
_HALF_OPAQUE = 128
_THOROUGH = 3  # effort beyond which little is gained
_QUICK, _SMALL = 1, 1 << 20  # effort and pixels that take a few milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A file to give back, and what is true of it.

    Attributes:
        data: The file.
        media_type: What it is.
        kept_original: It is the file that came, untouched.
        wcss: Of the picture in it against the one that came, in RGB units.
        psnr_db: Likewise; None where wcss is 0.
        warnings: What was left out, or does not pay, in words.
    """

    data: bytes
    media_type: str
    kept_original: bool
    wcss: float
    psnr_db: float | None
    warnings: tuple[str, ...]


def check_sides(picture: DecodedPicture, image_format: str) -> None:
    """Refuse a picture that is too long or too wide for a format, before anything is computed.

    Raises:
        BadParameter: So it is.
    """
    if not _fits(picture, image_format):
        most = f"{image_format} up to {LONGEST_SIDE[image_format]:,} pixels a side"
        here = f"here are {picture.width} x {picture.height}"
        raise BadParameter.of("format", image_format, f"{most}, {here}; png takes any")


def _fits(picture: DecodedPicture, image_format: str) -> bool:
    return max(picture.width, picture.height) <= LONGEST_SIDE[image_format]


def pixels_for(picture: DecodedPicture, image_format: str) -> UInt8[np.ndarray, "h w c"]:
    """Give the pixels to quantize: for a GIF, each opaque or fully transparent. Never raises.

    Example:
        >>> from app.codecs import Limits, decode
        >>> haze = encode(np.zeros((1, 1), np.uint8), np.array([[9, 8, 7, 130]], np.uint8))
        >>> pixels_for(decode(haze, Limits(max_pixels=1)), "gif").tolist()
        [[[9, 8, 7, 255]]]
    """
    pixels = picture.pixels
    if image_format != "gif" or pixels.shape[2] == _ALPHA:
        return pixels
    is_visible = pixels[..., _ALPHA] >= _HALF_OPAQUE
    opaque = np.concatenate([pixels[..., :_ALPHA], np.full_like(pixels[..., :1], 255)], axis=2)
    return np.where(is_visible[..., None], opaque, 0).astype(np.uint8)


def with_alpha(pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 4"]:
    """Say of each pixel that it is opaque, where nothing is said of alpha. Never raises."""
    if pixels.shape[2] > _ALPHA:
        return pixels
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)


def deliver(
    picture: DecodedPicture,
    quantized: QuantizedImage,
    options: CompressOptions,
    is_wanted: Callable[[], bool] = lambda: True,
    data: bytes | None = None,
) -> Delivery:
    """Encode the picture in few colours, or keep the file that came.

    Kept is a palette picture of the asked format that has no more colours than were asked for, and,
    where `skip_if_larger` says so, whatever is smaller than what would replace it.

    Args:
        picture: What came.
        quantized: What became of it, as numpy arrays.
        options: `format`, `effort`, `skip_if_larger`, and whether the palette was given.
        is_wanted: Asked now and then; once it says no, the work ends.
        data: The file, if it has been written as `encoding` says; then this takes no time, and
            asks for no indices.

    Returns:
        The file.

    Raises:
        UnwantedError: `is_wanted` said no.
    """
    media_type = MEDIA_TYPES[options.format]
    is_exact = _is_own(options) and quantized.k_reason == "distinct colors"
    has_room = options.max_bytes is None or picture.bytes <= options.max_bytes
    if is_exact and has_room and picture.is_palette and picture.media_type == media_type:
        return _original(picture, ())
    if data is None:
        indices, palette = np.asarray(quantized.indices), np.asarray(quantized.palette)
        data = encode(indices, palette, is_wanted=is_wanted, **encoding(picture, options))
    growth = f"{picture.bytes:,} bytes came, the {options.format} takes {len(data):,}"
    is_larger = len(data) > picture.bytes
    if is_larger and options.skip_if_larger:
        return _original(picture, (f"the original is kept: {growth}",))
    wcss, notes = quantized.wcss, list[str]()
    if is_larger:
        notes.append(growth + _advice(picture, quantized, options))
    if options.format == "gif" and options.metadata == "keep" and (picture.exif or picture.xmp):
        notes.append("a GIF takes neither EXIF nor XMP: the metadata is left out")
    if options.format == "gif" and _has_haze(picture.pixels):
        notes.append("a GIF has no half transparency: each pixel is opaque or fully transparent")
        wcss = picture_wcss(picture.pixels, quantized.to_pixels())
    return Delivery(
        data=data,
        media_type=media_type,
        kept_original=False,
        wcss=wcss,
        psnr_db=quantized.psnr_db
        if wcss == quantized.wcss
        else psnr_db(wcss, picture.pixels.shape),
        warnings=tuple(notes),
    )


def encoding(picture: DecodedPicture, options: CompressOptions) -> dict[str, Any]:
    """Say how to write the picture, in keywords of `app.encoders.encode`. Never raises."""
    keeps_metadata = options.metadata == "keep"
    return {
        "image_format": options.format,
        "effort": options.effort,
        "keep_order": not _is_own(options),
        "exif": picture.exif if keeps_metadata else b"",
        "xmp": picture.xmp if keeps_metadata else b"",
    }


def takes_no_time(picture: DecodedPicture, options: CompressOptions) -> bool:
    """Say whether the file is written in a few milliseconds. Never raises."""
    is_small = picture.width * picture.height <= _SMALL
    return options.format == "png" and options.effort <= _QUICK and is_small


def _is_own(options: CompressOptions) -> bool:
    """Say whether palette and order are ours to choose."""
    return options.palette is options.reserve is None and options.order == "given"


def _advice(picture: DecodedPicture, quantized: QuantizedImage, options: CompressOptions) -> str:
    """Say what would be smaller."""
    is_lossy = quantized.k_reason != "distinct colors"
    ways = [
        *(["fewer colours"] if quantized.k > 2 else []),  # noqa: PLR2004 - one is no picture
        *(["prefer=bytes"] if is_lossy and options.prefer != "bytes" else []),
        *(["no dithering"] if is_lossy and preferred(options)["dither"] else []),
        *(["format=webp"] if options.format != "webp" and _fits(picture, "webp") else []),
        *(["more effort"] if options.effort < _THOROUGH else []),
    ]
    smaller = f"{', '.join(ways)} may make it smaller; " if ways else ""
    return f": {smaller}skip_if_larger=true keeps what came, as is best for most photographs"


def _original(picture: DecodedPicture, notes: tuple[str, ...]) -> Delivery:
    if picture.exif or picture.xmp:
        notes = (*notes, "the original is as it came, with its metadata")
    return Delivery(
        data=picture.encoded,
        media_type=picture.media_type,
        kept_original=True,
        wcss=0.0,
        psnr_db=None,
        warnings=notes,
    )


def _has_haze(pixels: np.ndarray) -> bool:
    alphas = pixels[..., _ALPHA:]
    return bool(((alphas > 0) & (alphas < 255)).any())  # noqa: PLR2004
