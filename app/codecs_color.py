"""Colours as the file means them, brought to sRGB: ICC profiles and CMYK.

A profile is used where it fits the picture: an RGB one on greys too, a grey one on greys, a CMYK
one on CMYK. A picture whose profile changes no colour by more than a level keeps its very values.
A PNG's gamma alone is not applied: most that name one are sRGB, and Pillow gives the same pixels.
"""

import io

import numpy as np
from PIL import Image, ImageCms

__all__ = ["to_srgb"]

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of profiles that are used
_PROBES = np.stack(np.meshgrid(*[np.linspace(0, 255, 9).round()] * 3), -1).astype(np.uint8)
_DISPLAY_GAMMA = 2.2
_GAMMA_NEAR = 0.05  # share by which a gamma may be off without anybody seeing it, as libpng has it


def to_srgb(image: Image.Image, notes: list[str], *, is_grey: bool) -> Image.Image:
    """Bring a picture to sRGB.

    Args:
        image: L, RGB, RGBA or CMYK, with the `info` that its file had.
        notes: What cannot be done is added, in words.
        is_grey: The file holds greys, whatever the mode is by now.

    Returns:
        RGB or RGBA. Never raises.
    """
    if icc := image.info.get("icc_profile"):
        return _by_profile(image, icc, notes, is_grey=is_grey)
    if image.mode == "CMYK":
        notes.append("CMYK without a colour profile: its colours are a guess")
    _note_gamma(image, notes)
    return _to_channels(image)


def _to_channels(image: Image.Image) -> Image.Image:
    return image if image.mode in {"RGB", "RGBA"} else image.convert("RGB")


def _by_profile(image: Image.Image, icc: bytes, notes: list[str], *, is_grey: bool) -> Image.Image:
    found = _transform(image, icc, is_grey=is_grey)
    if found is None:
        notes.append("the colour profile cannot be used: the colours are taken as sRGB")
        return _to_channels(image)
    mode, transform = found
    if mode != "CMYK" and _changes_nothing(transform, mode):
        return _to_channels(image)
    colors = image.convert("RGB").convert(mode) if image.mode != mode else image
    converted = transform.apply(colors)
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def _transform(
    image: Image.Image, icc: bytes, *, is_grey: bool
) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """Return the mode a profile takes and the way to sRGB; None where it does not fit or parse."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        mode = _MODES.get(profile.profile.xcolor_space.strip(), "")
        is_fit = {"RGB": image.mode != "CMYK", "L": is_grey, "CMYK": image.mode == "CMYK"}
        if not is_fit.get(mode):
            return None
        srgb = ImageCms.createProfile("sRGB")
        return mode, ImageCms.buildTransform(profile, srgb, mode, "RGB")
    except (OSError, UnicodeDecodeError, ImageCms.PyCMSError):  # names of no letters
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    probes = Image.fromarray(_PROBES.reshape(9, -1, 3)).convert(mode)
    before, after = (np.asarray(each.convert("RGB")) for each in (probes, transform.apply(probes)))
    return int(np.abs(before.astype(int) - after).max()) <= 1


def _note_gamma(image: Image.Image, notes: list[str]) -> None:
    """Say where a PNG names a gamma that is not sRGB's: its levels are taken as they are."""
    gamma = image.info.get("gamma")
    if gamma and "srgb" not in image.info and abs(gamma * _DISPLAY_GAMMA - 1) > _GAMMA_NEAR:
        notes.append(f"the file names a gamma of {gamma:.3g}: it is not applied")
