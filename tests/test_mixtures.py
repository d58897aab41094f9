"""Dithering by mixtures of entries: as the plainest program does it, frame by frame the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import BACKENDS, noise, photo, small_pictures, with_alpha

from gpu_kmeans import quantize
from gpu_kmeans.backends import backend_for
from gpu_kmeans.blue_noise import SIDE, thresholds
from gpu_kmeans.color import GRID
from gpu_kmeans.mixtures import PARTS, lay_out, mix

GREYS = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
BLUE = {"dither_method": "blue-noise"}


def mixed(color, entries, strength):
    """Take the nearest entry to the colour and what was missed before, in whole numbers."""
    missed, parts = np.zeros_like(color), []
    for _ in range(PARTS):
        target = np.clip(color + np.floor(missed * strength + 0.5).astype(int), 0, GRID)
        parts.append(int(((entries - target) ** 2).sum(axis=1).argmin()))
        missed = missed + color - entries[parts[-1]]
    return parts


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_mixture_makes_good_what_it_missed(backend, channels, strength):
    colors, entries = (8 * noise(1, count, channels)[0].astype(int) for count in (60, 9))
    order = np.random.default_rng(1).permutation(len(entries))

    found = mix(
        backend_for(torch.device("cpu"), backend),
        torch.from_numpy(colors).float(),
        torch.from_numpy(entries).float(),
        torch.from_numpy(order),
        strength=strength,
        own=torch.full((len(colors),), -1),
    )

    places = order.argsort()
    for parts, color in zip(found.tolist(), colors, strict=True):
        expected = mixed(color, entries, strength)
        assert parts == sorted(expected, key=lambda entry: places[entry])


def test_the_mask_says_which_part_a_pixel_gets():
    mixtures = torch.arange(3 * PARTS, dtype=torch.uint8).reshape(3, PARTS)
    inverse = torch.from_numpy(noise(SIDE + 9, SIDE + 30, 1, levels=3)[..., 0].astype(np.int32))

    found = lay_out(mixtures, inverse)

    for y, x in np.random.default_rng(2).integers(0, inverse.shape, (50, 2)):
        part = thresholds()[y % SIDE, x % SIDE] * PARTS // SIDE**2
        assert found[y, x] == mixtures[inverse[y, x], part]


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "reference"])
@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize(
    "options", [{"k": 20, "space": "oklab", "solid": True}, {"k": 40, "dither": 1.0}], ids=str
)
def test_a_photograph_has_the_same_bits_on_every_backend(options, alpha, backend):
    pixels = with_alpha(photo(6)) if alpha else photo(6)
    keywords = {"dither": 0.6, "refine": 0, **options, **BLUE}

    ours, theirs = (quantize(pixels, **keywords, backend=name) for name in (backend, "reference"))

    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_array_equal(ours.palette, theirs.palette)
    assert ours.wcss == theirs.wcss


@pytest.mark.parametrize("space", ["oklab", "rgb"])
@pytest.mark.parametrize("came", ["what was elsewhere", "colours beyond all others"])
def test_what_stays_the_same_between_frames_gets_the_same_entries(came, space):
    first = photo(4) // 3 + 80
    second = first.copy()
    second[20:40, 30:70] = first[50:70, 80:120]
    palette = quantize(first, 16, dither=0.6, **BLUE).palette
    if came == "colours beyond all others":
        second[20:40, 30:70:4] = (255, 0, 255)
        second[20:40, 31:70:4] = (0, 255, 0)
        palette = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]])

    frames = [
        quantize(frame, palette=palette.astype(np.uint8), space=space, dither=1.0, **BLUE).indices
        for frame in (first, second)
    ]

    still = (first == second).all(axis=2)
    assert not still.all()
    np.testing.assert_array_equal(frames[0][still], frames[1][still])


@pytest.mark.parametrize("level", [40, 100, 180])
def test_the_mean_of_a_flat_color_is_kept_to_half_a_part(level):
    pixels = np.full((SIDE, SIDE, 3), level, np.uint8)

    image = quantize(pixels, palette=GREYS, dither=1.0, **BLUE)

    assert abs(image.to_pixels().mean() - pixels.mean()) < 255 / PARTS / 2 + 0.5


def test_the_mean_of_a_photograph_is_kept():
    pixels = photo(4)

    image = quantize(pixels, 16, dither=1.0, **BLUE)

    off = image.to_pixels().mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))
    assert np.abs(off).max() < 1.5


@pytest.mark.parametrize("k", [8, 32])
def test_the_palette_is_moved_to_where_it_looks_right_from_afar(k):
    pixels = photo(4)
    means = quantize(pixels, k).palette

    fixed = quantize(pixels, palette=means, dither=0.75, **BLUE)
    moved = quantize(pixels, k, dither=0.75, **BLUE)

    off = [((blurred(image.to_pixels()) - blurred(pixels)) ** 2).mean() for image in (fixed, moved)]
    assert off[1] < 0.9 * off[0]


def blurred(pixels):
    found = pixels.astype(float)
    for axis in (0, 1):
        for _ in range(2):
            found = np.apply_along_axis(np.convolve, axis, found, [0.25, 0.5, 0.25], "same")
    return found[4:-4, 4:-4]


@settings(max_examples=25)
@given(small_pictures(channels=(3,)), st.integers(1, 8), st.sampled_from([0.2, 1.0]))
def test_colors_that_are_in_the_palette_are_not_disturbed(pixels, k, strength):
    once = quantize(pixels, k, refine=0).to_pixels()
    palette = np.unique(once.reshape(-1, 3), axis=0)

    again = quantize(once, palette=palette, dither=strength, space="oklab", **BLUE)

    np.testing.assert_array_equal(again.to_pixels(), once)


@settings(max_examples=25)
@given(small_pictures(), st.integers(1, 8))
def test_without_strength_the_method_changes_nothing(pixels, k):
    plain, same = quantize(pixels, k, refine=0), quantize(pixels, k, refine=0, **BLUE)

    np.testing.assert_array_equal(plain.indices, same.indices)


@pytest.mark.parametrize(
    ("options", "count"), [({"thrift": 0.5}, 1), ({}, 1), ({"dither": 0.5}, 0)], ids=str
)
def test_a_method_without_dithering_is_said_to_change_nothing(options, count):
    image = quantize(photo(20), 8, **options, **BLUE)

    assert sum("dither_method" in said for said in image.warnings) == count
