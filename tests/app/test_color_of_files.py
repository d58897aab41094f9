"""What a file says of its colours is believed: profiles and CMYK come out as sRGB."""

import struct
import zlib

import numpy as np
import pytest
from pictures import encoded, noise
from PIL import Image
from profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    cmyk_profile,
    grey_profile,
    rgb_profile,
    srgb_curve,
)

from app.codecs import Limits, decode

LIMITS = Limits(max_pixels=1_000_000)
P3, ADOBE = rgb_profile(DISPLAY_P3, srgb_curve), rgb_profile(ADOBE_RGB, 2.2)


def seen(color, profile, mode="RGB", picture_format="PNG"):
    """The one colour of a picture in that colour with that profile, and the warnings."""
    file = encoded(Image.new(mode, (8, 8), color), picture_format, icc_profile=profile)
    picture = decode(file, LIMITS)
    return picture.pixels[0, 0].tolist(), picture.warnings


def in_srgb(color, colorants, curve):
    """The same colour in sRGB, by the matrices."""
    linear = np.array(SRGB).T
    xyz = np.array(colorants).T @ curve(np.array(color) / 255)
    light = np.clip(np.linalg.solve(linear, xyz), 0, 1)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return 255 * levels


@pytest.mark.parametrize("color", [(255, 0, 0), (200, 100, 50), (90, 160, 90), (128, 128, 128)])
@pytest.mark.parametrize(
    ("profile", "colorants", "curve"),
    [(P3, DISPLAY_P3, srgb_curve), (ADOBE, ADOBE_RGB, lambda x: x**2.2)],
    ids=["Display P3", "Adobe RGB"],
)
def test_colours_of_a_wider_space_come_out_as_srgb(profile, colorants, curve, color):
    found, warnings = seen(color, profile)

    assert np.abs(np.array(found) - in_srgb(color, colorants, curve)).max() <= 1.5
    assert warnings == ()


def test_a_wider_space_does_change_colours():
    assert seen((200, 100, 50), P3)[0] != [200, 100, 50]


def test_a_palette_and_greys_have_their_profile_too():
    palette = Image.new("RGB", (8, 8), (200, 100, 50)).convert("P")
    plain = decode(encoded(palette, icc_profile=P3), LIMITS).pixels[0, 0]

    of_p3 = in_srgb(np.array(palette.convert("RGB"))[0, 0], DISPLAY_P3, srgb_curve)
    assert np.abs(plain - of_p3).max() <= 1.5
    assert seen(100, ADOBE, "L")[0] == seen((100, 100, 100), ADOBE)[0]
    assert seen((100, 77), ADOBE, "LA")[0] == [*seen((100, 100, 100), ADOBE)[0], 77]


@pytest.mark.parametrize("name", ["sRGB", "anything"])
def test_a_profile_that_changes_nothing_leaves_the_very_values(name):
    pixels = noise(16, 16)
    profile = rgb_profile(SRGB, srgb_curve, name)

    assert (decode(encoded(pixels, icc_profile=profile), LIMITS).pixels == pixels).all()


def test_a_profile_is_judged_by_its_colours_and_not_by_its_name():
    linear = rgb_profile(SRGB, 1.0, "sRGB, but linear")

    assert seen((128, 128, 128), linear)[0] == pytest.approx([188] * 3, abs=1)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile_fits_greys(mode):
    color = 128 if mode == "L" else (128, 77)

    found, warnings = seen(color, grey_profile(1.0), mode)

    assert found[:3] == pytest.approx([188] * 3, abs=1)
    assert found[3:] == ([] if mode == "L" else [77])
    assert warnings == ()


@pytest.mark.parametrize("profile", [grey_profile(1.0), cmyk_profile(lambda *_: (50, 0, 0))])
def test_a_profile_of_another_kind_of_picture_is_not_used_and_that_is_said(profile):
    found, warnings = seen((9, 99, 199), profile)

    assert found == [9, 99, 199]
    assert "profile" in warnings[0]


def test_inks_are_what_their_profile_says():
    def to_lab(c, m, y, k):
        return (0, 0, 0) if k else (100 - 50 * c, 0, 0) if not (m or y) else (60, 60, 40)

    found, warnings = seen((255, 0, 0, 0), cmyk_profile(to_lab), "CMYK", "JPEG")

    assert found == pytest.approx([119, 119, 119], abs=3)  # L* = 50, no chroma
    assert warnings == ()


def test_inks_without_a_profile_are_a_guess_and_that_is_said():
    found, warnings = seen((0, 255, 255, 0), None, "CMYK", "JPEG")

    assert found[0] > 200
    assert max(found[1:]) < 60
    assert "CMYK" in warnings[0]


def with_chunk(png, name, content):
    """Put a chunk behind the header of a PNG."""
    check = struct.pack(">I", zlib.crc32(name + content))
    chunk = struct.pack(">I", len(content)) + name + content + check
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize(("gamma", "is_said"), [(1.0, True), (0.45455, False), (0.0, False)])
def test_a_gamma_that_is_not_applied_is_said(gamma, is_said):
    file = with_chunk(encoded(noise(4, 4)), b"gAMA", struct.pack(">I", round(100_000 * gamma)))

    picture = decode(file, LIMITS)

    assert (picture.pixels == noise(4, 4)).all()
    assert bool(picture.warnings) == is_said


def test_a_png_that_says_srgb_needs_no_gamma():
    file = with_chunk(encoded(noise(4, 4)), b"gAMA", struct.pack(">I", 100_000))

    assert decode(with_chunk(file, b"sRGB", b"\0"), LIMITS).warnings == ()
