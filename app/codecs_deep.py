"""Sixteen bits a channel, brought to eight: the high byte of each is kept.

What a PNG says is transparent is one colour of sixteen bits, so it is looked for before that.
"""

import io

import numpy as np
from PIL import Image

__all__ = ["apply_deep_key", "from_deep_grey", "has_deep_channels"]

_BIG, _LITTLE = ";16B", ";16L"  # as Pillow spells 16 bits a channel, high byte first or low
_OPAQUE = 255


def has_deep_channels(image: Image.Image) -> bool:
    """Say whether a picture that is not loaded yet has 16 bits a channel. Never raises."""
    return any(_BIG in str(tile[3]) for tile in getattr(image, "tile", ()))


def from_deep_grey(image: Image.Image) -> Image.Image:
    """Keep the high byte: Pillow's own conversion would clip everything above 255 to white.

    Args:
        image: Of one of the modes `I`, with the colour that is transparent, if any, in its `info`.

    Returns:
        L, or LA where it has one. Never raises.
    """
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(_alpha(values == transparent))
    return grey


def apply_deep_key(image: Image.Image, png: bytes) -> None:
    """Make transparent what has just the colour that is said to be so, in all 16 bits of each.

    Pillow has the high bytes and compares with the low ones of that colour. Read as if the low byte
    came first, the file gives its low bytes.

    Args:
        image: RGB, loaded, of 16 bits a channel, with `transparency` in its `info`; becomes RGBA.
        png: The file it came from.

    Raises:
        OSError, SyntaxError: The file does not decode.
    """
    key = np.array(image.info.pop("transparency"))
    with Image.open(io.BytesIO(png), formats=("PNG",)) as low:
        low.tile = [tile._replace(args=str(tile.args).replace(_BIG, _LITTLE)) for tile in low.tile]
        low.load()
        is_key = (np.asarray(image) == key >> 8) & (np.asarray(low) == key & 255)
    image.putalpha(_alpha(is_key.all(axis=2)))


def _alpha(is_transparent: np.ndarray) -> Image.Image:
    return Image.fromarray(np.where(is_transparent, 0, _OPAQUE).astype(np.uint8))
