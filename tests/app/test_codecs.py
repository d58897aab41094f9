"""Bytes to pixels: every kind of picture works or is refused in plain words."""

import io
import pickle
import random
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pictures import black_png, decoded, deep_png, encoded, noise
from PIL import Image, ImageCms

from app.codecs import Limits, decode
from app.encoders import encode
from app.errors import (
    BadParameter,
    CorruptImage,
    MissingImage,
    ServiceError,
    TooManyPixels,
    UnsupportedFormat,
)

LIMITS = Limits(max_pixels=50_000_000)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_by_one(mode="RGB"):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    return image.convert(mode)


@pytest.mark.parametrize(
    ("picture_format", "options", "media_type"),
    [
        ("PNG", {}, "image/png"),
        ("BMP", {}, "image/bmp"),
        ("GIF", {}, "image/gif"),
        ("WEBP", {"lossless": True}, "image/webp"),
    ],
)
def test_a_lossless_format_decodes_to_its_very_pixels(picture_format, options, media_type):
    picture = decode(encoded(two_by_one(), picture_format, **options), LIMITS)

    assert picture.pixels.tolist() == [[list(RED), list(BLUE)]]
    assert picture.pixels.dtype == np.uint8
    assert (picture.width, picture.height, picture.media_type) == (2, 1, media_type)
    assert picture.warnings == ()


def test_a_jpeg_decodes_close_to_its_pixels():
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)

    picture = decode(encoded(smooth, "JPEG", quality=95), LIMITS)

    assert picture.media_type == "image/jpeg"
    assert np.abs(picture.pixels.astype(int) - smooth).max() <= 3


def test_a_jpeg_with_a_second_picture_behind_it_is_a_jpeg():
    image = Image.fromarray(noise(8, 8))

    picture = decode(encoded(image, "MPO", save_all=True, append_images=[image]), LIMITS)

    assert (picture.media_type, picture.warnings) == ("image/jpeg", ())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "PA"])
def test_every_mode_of_an_opaque_picture_gives_three_channels(mode):
    image = two_by_one(mode)
    as_file = encoded(image.convert("RGBA") if mode == "PA" else image)

    pixels = decode(as_file, LIMITS).pixels

    assert pixels.tolist() == np.asarray(image.convert("RGB")).tolist()


def test_cmyk_gives_three_channels():
    picture = decode(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"), LIMITS)

    red, green, blue = picture.pixels[0, 0].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_sixteen_bits_keep_their_high_byte_and_say_so():
    grey = Image.fromarray(np.array([[0, 0x1234, 0xFFFF]], np.uint16))

    picture = decode(encoded(grey), LIMITS)

    assert picture.pixels[..., 0].tolist() == [[0, 0x12, 0xFF]]
    assert "16 bits" in picture.warnings[0]


def test_partial_transparency_gives_straight_alpha():
    pixels = np.array([[[10, 20, 30, 128], [40, 50, 60, 255]]], np.uint8)

    assert decode(encoded(pixels), LIMITS).pixels.tolist() == pixels.tolist()


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_gives_alpha_zero(mode):
    image = two_by_one(mode)
    transparent = image.getpixel((0, 0))

    pixels = decode(encoded(image, transparency=transparent), LIMITS).pixels

    assert pixels[..., 3].tolist() == [[0, 255]]


def test_a_transparent_grey_of_sixteen_bits_gives_alpha_zero():
    grey = Image.fromarray(np.array([[0, 0x1234]], np.uint16))

    pixels = decode(encoded(grey, transparency=0x1234), LIMITS).pixels

    assert pixels[..., 3].tolist() == [[255, 0]]


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_transparent_colour_of_sixteen_bits_is_compared_in_all_of_them(interlaced):
    clear, near, swapped = (0x1234, 0, 0xFFFF), (0x12FF, 0, 0xFFFF), (0x3412, 0, 0xFFFF)
    file = deep_png([clear, near, swapped], clear, interlaced=interlaced)

    pixels = decode(file, LIMITS).pixels

    assert pixels.tolist() == [[[0x12, 0, 255, 0], [0x12, 0, 255, 255], [0x34, 0, 255, 255]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_every_exif_orientation_is_turned_upright(orientation, picture_format):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # the upper left quarter is white
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation

    picture = decode(encoded(turned, picture_format, exif=exif, quality=100), LIMITS)

    assert (picture.width, picture.height) == (32, 16)
    assert np.abs(picture.pixels.astype(int) - upright).max() < 60
    assert ((picture.pixels > 128) == (upright > 128)).all()


@pytest.mark.parametrize("picture_format", ["PNG", "GIF", "WEBP"])
def test_of_an_animation_the_first_frame_is_used_and_that_is_said(picture_format):
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    options = {"lossless": True} if picture_format == "WEBP" else {}
    file = encoded(first, picture_format, save_all=True, append_images=[second], **options)

    picture = decode(file, LIMITS)

    assert picture.pixels[0, 0, :3].tolist() == list(RED)
    assert "animated" in picture.warnings[0]


def test_a_picture_in_srgb_keeps_its_very_values():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = noise(8, 8)

    picture = decode(encoded(pixels, icc_profile=profile), LIMITS)

    assert (picture.pixels == pixels).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_colour_profile_is_converted_to_srgb(mode):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    renamed = srgb.replace("sRGB".encode("utf-16-be"), "tRGB".encode("utf-16-be"))
    red_is_blue = renamed.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ")
    red_is_blue = red_is_blue.replace(b"????", b"bXYZ")
    image = Image.new(mode, (4, 4), RED if mode == "RGB" else (*RED, 128))

    picture = decode(encoded(image, icc_profile=red_is_blue), LIMITS)

    assert picture.pixels[0, 0].tolist() == [*BLUE, *([128] if mode == "RGBA" else [])]
    assert picture.warnings == ()


def test_a_colour_profile_of_another_space_is_ignored_and_that_is_said():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    pixels = noise(8, 8)

    picture = decode(encoded(pixels, icc_profile=lab), LIMITS)

    assert (picture.pixels == pixels).all()
    assert "profile" in picture.warnings[0]


def test_a_broken_colour_profile_is_ignored_and_that_is_said():
    pixels = noise(8, 8)

    picture = decode(encoded(pixels, icc_profile=b"not a profile"), LIMITS)

    assert (picture.pixels == pixels).all()
    assert "profile" in picture.warnings[0]


def test_a_colour_profile_whose_space_has_no_name_is_ignored_and_that_is_said():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = noise(8, 8)

    picture = decode(encoded(pixels, icc_profile=srgb[:16] + b"\xac" * 4 + srgb[20:]), LIMITS)

    assert (picture.pixels == pixels).all()
    assert "profile" in picture.warnings[0]


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_a_broken_exif_block_costs_no_picture(picture_format):
    file = encoded(noise(8, 8), picture_format, exif=b"Exif\0\0" + b"\xff" * 50)

    picture = decode(file, LIMITS)

    assert (picture.width, picture.height, picture.exif) == (8, 8, b"")


def test_an_interlaced_picture_decodes():
    pixels = decoded(encoded(noise(16, 16), "GIF"))

    assert (decode(encoded(pixels, "GIF", interlace=1), LIMITS).pixels == pixels).all()
    assert decode(black_png(1, 1, interlaced=True), LIMITS).pixels.tolist() == [[[0, 0, 0]]]


def test_no_bytes_are_no_picture():
    with pytest.raises(MissingImage):
        decode(b"", LIMITS)


@pytest.mark.parametrize(
    "stranger",
    [
        b"hello",
        b"\0" * 100,
        b"%PDF-1.7",
        b"<svg/>",
        b"II*\0",
        b"RIFF\0\0\0\0WAVE",
        b"P6 1 1 255 abc",
    ],
)
def test_bytes_of_no_format_we_take_are_unsupported(stranger):
    with pytest.raises(UnsupportedFormat, match="PNG, JPEG"):
        decode(stranger, LIMITS)


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_picture_cut_anywhere_is_corrupt_or_still_whole(picture_format):
    file = encoded(noise(24, 24), picture_format)

    with pytest.raises((CorruptImage, UnsupportedFormat)):
        decode(file[: len(file) // 2], LIMITS)
    for length in range(1, len(file), 37):
        try:
            decode(file[:length], LIMITS)
        except ServiceError as error:
            assert isinstance(error, (CorruptImage, UnsupportedFormat))  # noqa: PT017 - either is clear


@pytest.mark.parametrize(
    ("size", "rows", "interlaced"),
    [((9, 90), 90, False), ((8, 8), 15, True), ((5, 5), 11, True), ((1, 1), 1, True)],
)
def test_a_png_whose_stream_ends_before_its_last_row_is_corrupt(size, rows, interlaced):
    decode(black_png(*size, rows=rows, interlaced=interlaced), LIMITS)

    with pytest.raises(CorruptImage):
        decode(black_png(*size, rows=rows - 1, interlaced=interlaced), LIMITS)


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_mutated_picture_decodes_or_raises_an_error_of_ours(picture_format):
    file = encoded(noise(16, 16), picture_format)
    rng = random.Random(7)  # noqa: S311 - damage, not a secret
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow says about broken metadata
        for _ in range(200):
            damaged = bytearray(file)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            try:
                decode(bytes(damaged), Limits(max_pixels=10_000))
            except ServiceError as error:
                assert str(error)  # noqa: PT017 - the law is that nothing else is raised


def test_too_many_pixels_are_refused_by_the_header_alone():
    with pytest.raises(TooManyPixels, match="50,000,000") as refusal:
        decode(black_png(9400, 9400), LIMITS)

    assert refusal.value.members == {"limit_pixels": 50_000_000}


def test_more_pixels_than_the_decoder_itself_would_take_are_refused_alike():
    with pytest.raises(TooManyPixels):
        decode(black_png(20_000, 20_000, rows=1), LIMITS)


def test_as_many_pixels_as_the_limit_are_taken():
    assert decode(encoded(noise(4, 5)), Limits(max_pixels=20)).pixels.shape == (4, 5, 3)


@pytest.mark.parametrize(
    "error", [TooManyPixels("many", {"limit_pixels": 1}), MissingImage("none")]
)
def test_an_error_survives_the_way_from_another_process(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert (type(copy), copy.detail, copy.members) == (type(error), error.detail, error.members)


@pytest.mark.parametrize(
    ("n_entries", "bit_depth"),
    [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4), (16, 4), (17, 8), (256, 8)],
)
def test_a_palette_takes_the_smallest_bit_depth_that_holds_it(n_entries, bit_depth):
    palette = noise(n_entries, 1)[:, 0]

    file = encode(np.zeros((3, 3), np.uint8), palette)

    assert file[24] == bit_depth  # PNG, IHDR: the byte after width and height


@given(
    indices=npst.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    channels=st.sampled_from([3, 4]),
)
def test_what_is_encoded_reads_back_as_it_was(indices, channels):
    palette = noise(256, 1, channels)[:, 0]

    file = encode(indices, palette)

    assert (decoded(file, "RGB" if channels == 3 else "RGBA") == palette[indices]).all()


def test_opaque_entries_at_the_end_take_no_alpha_values():
    palette = np.array([[1, 2, 3, 0], [4, 5, 6, 255], [7, 8, 9, 255]], np.uint8)

    file = encode(np.array([[0, 1, 2]], np.uint8), palette)

    at = file.index(b"tRNS")
    assert file[at - 4 : at] == b"\0\0\0\1"
    assert decoded(file, "RGBA").tolist() == [palette.tolist()]


def test_an_encoded_picture_carries_no_metadata():
    with Image.open(io.BytesIO(encode(np.zeros((2, 2), np.uint8), noise(4, 1)[:, 0]))) as image:
        assert not image.info


def test_a_format_nobody_writes_is_refused():
    with pytest.raises(BadParameter, match="png"):
        encode(np.zeros((1, 1), np.uint8), np.zeros((1, 3), np.uint8), "tiff")


def test_a_kind_of_bmp_that_is_not_taken_is_not_called_damaged():
    file = bytearray(encoded(noise(4, 4), "BMP"))
    file[28] = 2  # bits a pixel

    with pytest.raises(UnsupportedFormat, match="pixel depth"):
        decode(bytes(file), LIMITS)
