"""Mapping pixels to a palette, with and without dithering, against the plainest program."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import BACKENDS, noise, photo, small_pictures, with_alpha

from gpu_kmeans import dithering, quantize
from gpu_kmeans.backends import DIFFUSION_ROWS, backend_for, moment_kernels
from gpu_kmeans.color import GRID, SPACES, srgb8_to_features
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.metrics import picture_wcss

GREYS = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)


def nearest_entries(pixels, palette, space):
    """Compare every pixel with every entry on the grid of the space; its own colour comes first."""
    rows = torch.from_numpy(np.ascontiguousarray(pixels.reshape(-1, pixels.shape[2])))
    ours = srgb8_to_features(rows, space).numpy().astype(int)
    entries = srgb8_to_features(torch.from_numpy(palette), space).numpy().astype(int)
    square = ((ours[:, None] - entries) ** 2).sum(axis=2)
    square[(rows.numpy()[:, None] == palette).all(axis=2)] = -1  # others may share its place there
    return square.argmin(axis=1).reshape(pixels.shape[:2])


@settings(max_examples=40)
@given(small_pictures(channels=(3,)), small_pictures(channels=(3,)), st.sampled_from(SPACES))
def test_every_pixel_gets_the_first_of_its_nearest_entries(pixels, colors, space):
    palette = np.unique(colors.reshape(-1, 3), axis=0)[:256]

    image = quantize(pixels, palette=palette, space=space)

    np.testing.assert_array_equal(image.palette, palette)
    np.testing.assert_array_equal(image.indices, nearest_entries(pixels, palette, space))
    np.testing.assert_array_equal(
        image.counts, np.bincount(image.indices.ravel(), minlength=len(palette))
    )
    assert image.wcss == picture_wcss(pixels, image.to_pixels())


@pytest.mark.parametrize("backend", BACKENDS)
def test_entries_of_a_given_palette_that_no_pixel_takes_are_kept(backend):
    palette = np.array([[9, 9, 9], [200, 0, 0], [9, 9, 9], [0, 0, 250]], np.uint8)

    image = quantize(np.full((2, 2, 3), 8, np.uint8), palette=palette, backend=backend)

    assert image.palette.tolist() == [[9, 9, 9], [200, 0, 0], [0, 0, 250]]
    assert image.counts.tolist() == [4, 0, 0]
    assert (image.k, image.wcss) == (3, 12.0)


def test_a_given_palette_is_its_own_centroids():
    palette = noise(1, 9)[0]

    image = quantize(photo(12), palette=palette)

    np.testing.assert_array_equal(image.centroids, image.palette)
    assert image.n_iter == 0


def test_an_opaque_palette_gets_an_entry_for_what_is_transparent():
    image = quantize(with_alpha(photo(12)), palette=GREYS)

    assert image.palette[0].tolist() == [0, 0, 0, 0]
    assert image.k == 3


def test_a_palette_with_alpha_serves_a_picture_with_alpha():
    palette = np.array([[0, 0, 0, 0], [255, 0, 0, 128], [255, 255, 255, 255]], np.uint8)

    pixels = with_alpha(photo(12))

    image = quantize(pixels, palette=palette)

    expected = nearest_entries(pixels, palette, "rgb")
    expected[pixels[..., 3] == 255] = 2  # what is opaque goes to no other entry
    np.testing.assert_array_equal(image.palette, palette)
    np.testing.assert_array_equal(image.indices, expected)


def diffused(pixels, palette, strength):
    """Floyd and Steinberg's diffusion, pixel by pixel, in sixteenths of a grid step."""
    h, w, c = pixels.shape
    wanted = np.zeros((h + 1, w + 2, c))
    wanted[:h, 1:-1] = pixels.astype(float) * 8
    entries = palette.astype(float) * 8
    low, high = pixels.reshape(-1, c).min(axis=0) * 8.0, pixels.reshape(-1, c).max(axis=0) * 8.0
    indices = np.zeros((h, w), int)
    for y in range(h):
        for x in range(w):
            target = np.clip(wanted[y, x + 1], low, high)
            indices[y, x] = ((entries - target) ** 2).sum(axis=1).argmin()
            error = (target - entries[indices[y, x]]) * strength
            for down, right, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                wanted[y + down, x + 1 + right] += error * share / 16
    return indices


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_errors_are_diffused_as_floyd_and_steinberg_do(backend, strength):
    pixels, palette = photo(12)[:DIFFUSION_ROWS], quantize(photo(12), 8).palette
    engine = backend_for(torch.device("cpu"), backend)
    histogram = Histogram.from_pixels(torch.from_numpy(pixels), engine)

    indices = engine.dither(
        srgb8_to_features(histogram.colors, "rgb"),
        histogram.inverse.reshape(pixels.shape[:2]),
        srgb8_to_features(torch.from_numpy(palette), "rgb"),
        strength=strength,
        own=torch.full((len(histogram.colors),), -1),
        sweeps=0,
    ).numpy()

    expected = diffused(pixels, palette, strength)
    # The library rounds errors, so a near tie may fall the other way, and what follows with it.
    assert (indices == expected).mean() > 0.5
    means = [palette[found].mean(axis=(0, 1)) for found in (indices, expected)]
    np.testing.assert_allclose(*means, atol=1.0)


def test_pixels_that_choose_again_bring_the_picture_closer_from_afar():
    pixels, palette = photo(6), quantize(photo(6), 12).palette
    engine = backend_for(torch.device("cpu"))
    histogram = Histogram.from_pixels(torch.from_numpy(pixels), engine)
    features, inverse = srgb8_to_features(histogram.colors, "rgb"), histogram.inverse
    inverse, nobody = inverse.reshape(pixels.shape[:2]), torch.full((len(features),), -1)
    entries = srgb8_to_features(torch.from_numpy(palette), "rgb")

    off = []
    for sweeps in range(3):
        indices = engine.dither(features, inverse, entries, strength=1.0, own=nobody, sweeps=sweeps)
        seen = seen_from_afar(palette[indices.numpy()]) - seen_from_afar(pixels)
        off.append((seen**2).mean())

    assert off[1] < 0.8 * off[0]
    assert off[2] < off[1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("level", [16, 64, 128, 200])
def test_dithering_keeps_the_mean_of_a_flat_color(backend, level):
    pixels = np.full((64, 64, 3), level, np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255  # the range that targets are clamped to

    image = quantize(pixels, palette=GREYS, dither=1.0, backend=backend)

    np.testing.assert_allclose(image.to_pixels().mean(), pixels.mean(), atol=3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dithering_keeps_the_mean_of_a_photograph(backend):
    pixels = photo(6)

    plain = quantize(pixels, 6, refine=0, backend=backend)
    dithered = quantize(pixels, 6, refine=0, dither=1.0, backend=backend)

    mean = pixels.mean(axis=(0, 1))
    off = np.abs(dithered.to_pixels().mean(axis=(0, 1)) - mean)
    assert off.max() < 1.5
    assert dithered.wcss > plain.wcss


def test_a_gradient_between_two_greys_gains_from_dithering():
    ramp = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (32, 1))[..., None], 3, axis=2)

    plain, dithered = (quantize(ramp, palette=GREYS, dither=d).to_pixels() for d in (0.0, 1.0))

    def blurred(pixels):
        return pixels[:, :, 0].reshape(4, 8, 32, 8).mean(axis=(1, 3))

    def off(pixels):
        return np.abs(blurred(pixels) - blurred(ramp)).mean()

    assert off(dithered) < off(plain) / 8


@settings(max_examples=25)
@given(small_pictures(), st.integers(1, 8))
def test_dithering_with_strength_zero_is_no_dithering(pixels, k):
    plain, zero = quantize(pixels, k, refine=0), quantize(pixels, k, refine=0, dither=0)

    np.testing.assert_array_equal(plain.indices, zero.indices)


@settings(max_examples=25)
@given(small_pictures(channels=(3,)), st.integers(1, 8), st.sampled_from([0.2, 1.0]))
def test_colors_that_are_in_the_palette_are_not_disturbed_by_dithering(pixels, k, strength):
    once = quantize(pixels, k, refine=0).to_pixels()

    again = quantize(
        once, palette=np.unique(once.reshape(-1, once.shape[2]), axis=0), dither=strength
    )

    np.testing.assert_array_equal(again.to_pixels(), once)


def seen_from_afar(pixels):
    """Blur a picture twice over, as the eye does, in the levels of sRGB."""
    blurred = pixels.astype(float)
    for axis in (0, 1):
        for _ in range(2):
            blurred = np.apply_along_axis(np.convolve, axis, blurred, [0.25, 0.5, 0.25], "same")
    return blurred[4:-4, 4:-4]


@pytest.mark.parametrize("k", [4, 16, 64])
def test_a_palette_moved_for_dithering_looks_closer_from_afar(k):
    pixels = photo(4)
    means = quantize(pixels, k).palette

    fixed = quantize(pixels, palette=means, dither=0.75)
    moved = quantize(pixels, k, dither=0.75)

    off = [
        ((seen_from_afar(image.to_pixels()) - seen_from_afar(pixels)) ** 2).mean()
        for image in (fixed, moved)
    ]
    assert off[1] < 0.9 * off[0]
    assert moved.k <= k


@pytest.mark.parametrize("k", [1, 5, 64, 256])
@pytest.mark.parametrize("d", [3, 4])
def test_entries_are_relaxed_in_numpys_own_order(k, d):
    rng = np.random.default_rng(k)
    entries, meetings = rng.integers(0, 2041, (k, d)).astype(float), rng.integers(0, 9**9, (k, k))
    meetings = (meetings + meetings.T + np.diag(rng.integers(0, 2, k) * k * 9**9)).astype(float)
    meetings[0] = meetings[:, 0] = 0  # an entry that no pixel has
    sums = meetings @ rng.uniform(-20, 2060, (k, d)).round()
    moved, expected = entries.copy(), entries.copy()

    moment_kernels.relax(moved, meetings, sums, k // 4, dithering.BEYOND, GRID)

    for c in range(k // 4, k):
        if meetings[c, c] > 0:
            rest = sums[c] - (meetings[c, :, None] * expected).sum(axis=0)
            step = dithering.BEYOND * (rest / meetings[c, c])
            expected[c] = np.clip(expected[c] + step, 0, GRID)
    np.testing.assert_array_equal(moved, expected)


def test_only_a_part_of_a_large_picture_moves_the_palette():
    rows = torch.arange(3000, dtype=torch.int32)[:, None].expand(-1, 1000)

    bands = dithering._bands(rows, 1 << 19)

    assert 400_000 < bands.numel() <= 1 << 19
    assert (bands[0, 0], bands[-1, 0]) == (0, 2999)
    assert torch.equal(dithering._bands(rows[:500], 1 << 19), rows[:500])


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_pixels_of_a_color_in_the_palette_keep_it_amid_others(strength):
    pixels = photo(8).copy()
    pixels[10:20, 10:20] = 255

    image = quantize(pixels, 12, reserve=GREYS, dither=strength)

    assert (image.to_pixels()[10:20, 10:20] == 255).all()
