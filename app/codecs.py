"""Bytes to pixels; `app.encoders` writes.

The bytes decide what a picture is; file names and declared media types never get here.
The header is read first and its size checked before a pixel is decoded, because 11 kilobytes of PNG
can hold 88 megapixels without a word from the decoder. Formats are allow-listed: most holes of
image decoders are in formats nobody sends. Whatever a decoder raises on hostile bytes becomes a
`CorruptImage`.

Knows neither torch nor the web, so that it can run in a process of its own.

References:
    Pillow handbook, "Security": own pixel limit, allow-list, bomb warnings as errors.
"""

import io
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from app.codecs_color import to_srgb
from app.codecs_deep import apply_deep_key, from_deep_grey, has_deep_channels
from app.errors import (
    CorruptImage,
    MissingImage,
    ServiceError,
    TooManyPixels,
    UnsupportedFormat,
)
from app.png_rows import has_all_rows

MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG with a second picture behind it, as telephones write them
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
TAKEN = "PNG, JPEG, WebP, GIF and BMP"
_OPENERS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # JPEG's finds out about MPO by itself
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM")
_UPRIGHT = {  # EXIF orientation -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112
_XMP = {"xmp", "XML:com.adobe.xmp"}  # names of it in what Pillow knows of a picture
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>\s*))[2-8]""")
_SRGB = 1  # of EXIF's ColorSpace
_GREYS = {"1", "L", "LA"}
_OPAQUE = 255
_log = logging.getLogger(__name__)

# For good and for every thread: a context manager would swap the filters of the whole process.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much picture the decoder takes.

    Attributes:
        max_pixels: Width times height, looked up in the header.
    """

    max_pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedPicture:
    """A picture as the bytes showed it, upright and in sRGB.

    Attributes:
        pixels: Three channels, or four (straight alpha) where any pixel is not opaque.
        media_type: What the bytes are.
        width: Pixels, after turning upright.
        height: Likewise.
        encoded: The picture as it came.
        is_palette: It is made of its colours alone, as a picture with a palette or a WebP, and
            nothing had to be turned, converted or left out.
        exif: Its EXIF block without the orientation, which is applied, nor the thumbnail, which is
            not; empty where there is none.
        xmp: Its XMP packet, whose orientation, where it names one, is upright.
        warnings: What was left out or assumed, in words.
    """

    pixels: UInt8[np.ndarray, "h w c"]
    media_type: str
    width: int
    height: int
    encoded: bytes
    is_palette: bool
    exif: bytes = b""
    xmp: bytes = b""
    warnings: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Length of the encoded picture."""
        return len(self.encoded)


def decode(
    encoded: bytes, limits: Limits, on_size: Callable[[int, int], None] = lambda _w, _h: None
) -> DecodedPicture:
    """Decode a picture, its header first.

    Args:
        encoded: The whole file.
        limits: What is refused before decoding.
        on_size: Told width and height before decoding; what it raises ends it.

    Returns:
        The picture; of an animation its first frame, with a warning.

    Raises:
        MissingImage: There are no bytes.
        UnsupportedFormat: They begin like no format we take.
        TooManyPixels: The header promises more than the limit.
        CorruptImage: They do not decode.

    Example:
        >>> from app.encoders import encode
        >>> dot = encode(np.zeros((1, 1), np.uint8), np.array([[9, 8, 7]], np.uint8))
        >>> decode(dot, Limits(max_pixels=1)).pixels.tolist()
        [[[9, 8, 7]]]
    """
    if not encoded:
        raise MissingImage("The picture has no bytes.")
    try:
        with Image.open(io.BytesIO(encoded), formats=_OPENERS) as image:
            _check_size(image.size, limits)
            on_size(*image.size)
            return _decode_pixels(image, encoded)
    except UnidentifiedImageError as error:
        raise _unidentified(encoded) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels("Its header promises far more", limits) from error
    except ServiceError:
        raise
    except Exception as error:  # decoders raise a dozen classes on hostile bytes
        why = type(error).__name__  # not its message, which may quote the picture
        _log.info("a picture of %d bytes does not decode: %s", len(encoded), why)
        if str(error).startswith("Unsupported"):  # as Pillow says of rare kinds of BMP
            raise UnsupportedFormat(f"{error}. Save the picture as PNG.") from error
        raise CorruptImage(
            "The picture is damaged or cut short: it begins like a format we take, then breaks."
        ) from error


def _unidentified(encoded: bytes) -> UnsupportedFormat | CorruptImage:
    is_webp = encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP"
    if is_webp or encoded.startswith(_SIGNATURES):
        return CorruptImage("The picture is damaged or cut short: its header does not parse.")
    return UnsupportedFormat(f"These bytes are no picture we take; we take {TAKEN}.")


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise _too_many_pixels(f"It has {width} x {height} = {width * height:,}", limits)


def _too_many_pixels(got: str, limits: Limits) -> TooManyPixels:
    return TooManyPixels(
        f"{got} pixels; the limit is {limits.max_pixels:,}.", {"limit_pixels": limits.max_pixels}
    )


def _decode_pixels(image: Image.Image, encoded: bytes) -> DecodedPicture:
    media_type = MEDIA_TYPES[image.format or ""]
    notes = []
    if image.format != "MPO" and getattr(image, "is_animated", False):
        notes.append("the picture is animated: only its first frame is used")
        image.seek(0)
    is_deep = has_deep_channels(image)
    if is_deep:
        notes.append("16 bits a channel were reduced to 8")
    image.load()
    if image.format == "PNG" and _may_be_short(image) and not has_all_rows(encoded):
        raise CorruptImage("The picture is cut short: it has fewer rows than its header says.")
    tags = _exif_of(image)
    orientation = tags.get(_EXIF_ORIENTATION)
    exif, xmp = _upright_exif(tags), _upright_xmp(image.info.get("xmp") or b"")
    is_as_it_is = not notes and "icc_profile" not in image.info and orientation not in _UPRIGHT
    if is_deep and image.mode == "RGB" and "transparency" in image.info:
        apply_deep_key(image, encoded)
    eight_bit = _to_eight_bit(image)
    eight_bit.info = dict(image.info)
    picture = to_srgb(eight_bit, notes, is_grey=image.mode in _GREYS or image.mode[0] == "I")
    if orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[orientation])
    pixels = np.asarray(picture)  # (h, w, 3|4)
    return DecodedPicture(
        pixels=pixels,
        media_type=media_type,
        width=pixels.shape[1],
        height=pixels.shape[0],
        encoded=encoded,
        is_palette=is_as_it_is and (image.mode == "P" or image.format == "WEBP"),
        exif=exif,
        xmp=xmp,
        warnings=tuple(notes),
    )


def _may_be_short(image: Image.Image) -> bool:
    """Say whether rows of a PNG may never have come, as nothing was written where they belong."""
    last = image.crop((0, image.height - 1, image.width, image.height)).tobytes()
    return "interlace" in image.info or last.count(0) == len(last)


def _exif_of(image: Image.Image) -> Image.Exif:
    """Read the EXIF block; one that is broken says nothing, and harms no pixel.

    Without XMP: Pillow looks for an orientation there too, by which no browser turns a picture.
    """
    bare = Image.Image()
    bare.info = {name: said for name, said in image.info.items() if name not in _XMP}
    try:
        return bare.getexif()
    except Exception:  # noqa: BLE001 - whatever comes of bytes that are no EXIF
        return Image.Exif()


def _upright_exif(exif: Image.Exif) -> bytes:
    """Write the EXIF block anew for a picture that has been turned, in sRGB; b"" for none."""
    exif.pop(_EXIF_ORIENTATION, None)
    try:
        details = exif.get_ifd(ExifTags.IFD.Exif)
        if ExifTags.Base.ColorSpace in details:
            details[ExifTags.Base.ColorSpace] = _SRGB
        return exif.tobytes() if len(exif) else b""
    except Exception:  # noqa: BLE001 - tags of a kind that does not fit their value, and worse
        return b""


def _upright_xmp(packet: bytes | str) -> bytes:
    """Say in an XMP packet that the picture is upright, where it says otherwise."""
    xmp = packet if isinstance(packet, bytes) else str(packet).encode()
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Give RGBA where any pixel is not opaque, else L, CMYK or RGB, as colour profiles need it."""
    if image.mode.startswith("I"):
        image = from_deep_grey(image)
    if image.has_transparency_data:
        straight = image.convert("RGBA")
        is_opaque = straight.getchannel("A").getextrema() == (_OPAQUE, _OPAQUE)
        return straight.convert("RGB") if is_opaque else straight
    return image if image.mode in {"L", "CMYK", "RGB"} else image.convert("RGB")
