"""Alpha: what is opaque stays so, what is invisible is one entry of zeros, edges have no halo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import BACKENDS, photo, same, small_pictures

from gpu_kmeans import quantize


def sticker(step=12):
    """A disc cut out of a photograph, with a soft edge, on magenta that nobody sees."""
    pixels = photo(step)
    h, w, _ = pixels.shape
    y, x = np.mgrid[:h, :w]
    radius = np.hypot(y - h / 2, x - w / 2)
    alpha = np.clip((0.4 * h - radius) / 3 * 255, 0, 255).astype(np.uint8)
    picture = np.dstack([pixels, alpha])
    picture[alpha == 0, :3] = [255, 0, 255]
    return picture


@pytest.mark.parametrize("dither", [0.0, 1.0])
@pytest.mark.parametrize("space", ["rgb", "oklab"])
@pytest.mark.parametrize("k", [2, 5, 40])
def test_opaque_stays_opaque_and_invisible_becomes_zeros(k, space, dither):
    pixels = sticker()
    alpha = pixels[..., 3]

    image = quantize(pixels, k, space=space, dither=dither, refine=0)

    returned = image.to_pixels()
    assert (returned[alpha == 255, 3] == 255).all()
    assert (returned[alpha == 0] == 0).all()
    assert (image.palette[:, 3] == 0).sum() == 1
    assert image.k <= k


def test_an_edge_keeps_its_shape_and_takes_no_colour_from_what_nobody_sees():
    pixels = sticker(6)
    edge = (pixels[..., 3] > 0) & (pixels[..., 3] < 255)

    returned = quantize(pixels, 64, refine=0).to_pixels()

    off = np.abs(returned[edge, 3].astype(int) - pixels[edge, 3])
    assert off.mean() < 16
    visible = returned[edge & (returned[..., 3] > 64)].astype(int)
    is_magenta = (visible[:, 0] > visible[:, 1] + 60) & (visible[:, 2] > visible[:, 1] + 60)
    assert not is_magenta.any()


def seen_from_afar(pixels):
    """Blur what alpha lets through of each colour, and alpha itself."""
    alpha = pixels[..., 3:].astype(float)
    blurred = np.concatenate([pixels[..., :3] * alpha / 255, alpha], axis=2)
    for axis in (0, 1):
        for _ in range(2):
            blurred = np.apply_along_axis(np.convolve, axis, blurred, [0.25, 0.5, 0.25], "same")
    return blurred[4:-4, 4:-4]


@pytest.mark.parametrize("method", ["diffusion", "blue-noise"])
@pytest.mark.parametrize("k", [8, 40])
def test_a_palette_moved_for_dithering_looks_closer_from_afar(k, method):
    pixels, dithering = sticker(4), {"dither": 0.75, "dither_method": method}
    means = quantize(pixels, k).palette

    fixed = quantize(pixels, palette=means, **dithering)
    moved = quantize(pixels, k, **dithering)

    off = [
        ((seen_from_afar(image.to_pixels()) - seen_from_afar(pixels)) ** 2).mean()
        for image in (fixed, moved)
    ]
    assert off[1] < 0.9 * off[0]


@settings(max_examples=50)
@given(small_pictures(channels=(4,)), st.integers(1, 12), st.sampled_from([0.0, 0.7]))
def test_no_opaque_pixel_ever_shines_through(pixels, k, dither):
    returned = quantize(pixels, k, dither=dither, refine=0).to_pixels()

    is_alone = k == 1 and not (pixels[..., 3] > 0).all()  # one entry for both
    assert is_alone or (returned[pixels[..., 3] == 255, 3] == 255).all()


def fading_discs(side=48, rows=3, columns=4):
    """Discs of a hue each that fade out; only about their middles are they opaque."""
    y, x = np.mgrid[: rows * side, : columns * side]
    radius = np.hypot(y % side - side / 2, x % side - side / 2)
    alpha = np.clip(290 - 290 * (radius / (side / 2)) ** 2, 0, 255)
    hues = (y // side * columns + x // side) / (rows * columns)
    shades = np.abs((hues[..., None] + [0, 1 / 3, 2 / 3]) % 1 * 6 - 3) - 1
    return np.dstack([255 * shades.clip(0, 1), alpha]).round().astype(np.uint8)


@pytest.mark.parametrize("dither", [0.0, 0.7])
@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_what_is_opaque_in_the_middle_of_what_is_not_keeps_its_colour(space, dither):
    pixels = fading_discs()
    is_opaque = pixels[..., 3] == 255

    returned = quantize(pixels, 40, space=space, dither=dither).to_pixels()

    off = np.abs(returned[is_opaque].astype(int) - pixels[is_opaque])
    assert 0 < is_opaque.mean() < 0.15
    assert off.max(axis=1).mean() < 24
    assert (returned[is_opaque, 3] == 255).all()


def test_an_entry_is_made_opaque_though_none_serves_opaque_colours_for_the_most_part():
    pixels = np.full((20, 20, 4), [200, 60, 30, 250], np.uint8)
    pixels[..., 2] += np.arange(20, dtype=np.uint8)
    pixels[:3, :3, 3] = 255

    returned = quantize(pixels, 2).to_pixels()

    off = np.abs(returned.astype(int) - pixels).max()
    assert (returned[:3, :3, 3] == 255).all()
    assert off <= 16


def test_opaque_pixels_go_to_opaque_entries_of_a_given_palette():
    palette = np.array([[0, 0, 0, 255], [255, 255, 255, 255], [120, 110, 100, 250]], np.uint8)
    pixels = sticker()

    image = quantize(pixels, palette=palette)

    assert (image.to_pixels()[pixels[..., 3] == 255, 3] == 255).all()
    assert image.palette[1:].tolist() == palette.tolist()  # behind the invisible one


def test_reserved_entries_stay_as_they_are_though_they_are_not_opaque():
    reserve = np.array([[200, 10, 10, 254]], np.uint8)
    pixels = sticker()

    image = quantize(pixels, 6, reserve=reserve, refine=0)

    assert image.palette[1].tolist() == reserve[0].tolist()  # behind the invisible one
    assert (image.to_pixels()[pixels[..., 3] == 255, 3] == 255).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dither", [0.0, 0.7])
def test_alpha_has_the_same_bits_on_every_backend(backend, dither):
    options = {"k": 9, "refine": 0, "dither": dither}

    image = quantize(sticker(), **options, backend=backend)

    assert same(image, quantize(sticker(), **options, backend="reference"))


@pytest.mark.parametrize("order", ["given", "luminance"])
def test_entries_that_are_not_opaque_come_first(order):
    alphas = quantize(sticker(), 30, refine=0, order=order).palette[:, 3]

    assert (np.diff(alphas.astype(int)) >= 0).all()
