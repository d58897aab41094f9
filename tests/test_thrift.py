"""Indices that compress: alike on every backend, and nothing changed that must not be."""

import zlib

import numpy as np
import pytest
import torch
from samples import BACKENDS, noise, photo, with_alpha

from gpu_kmeans import quantize
from gpu_kmeans.backends import backend_for
from gpu_kmeans.backends.thrift import BUSY, REACH, variances
from gpu_kmeans.color import srgb8_to_features
from gpu_kmeans.errors import OptionError
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.metrics import picture_wcss
from gpu_kmeans.palette import Palette

REFERENCE = backend_for(torch.device("cpu"), "reference")
OTHERS = [name for name in BACKENDS if name != "reference"]


def given(pixels, palette):
    histogram = Histogram.from_pixels(torch.from_numpy(pixels), REFERENCE)
    features = srgb8_to_features(histogram.colors, "oklab")
    entries = srgb8_to_features(torch.from_numpy(palette), "oklab")
    labels = torch.cdist(features.double(), entries.double()).argmin(dim=1)
    return features, histogram.inverse.reshape(pixels.shape[:2]), entries, labels


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (2, 3), (13, 29), (70, 33)], ids=str)
def test_pixels_economize_to_the_same_bits(backend, shape, channels):
    pixels = noise(*shape, channels, levels=40)
    arguments = given(pixels, noise(1, 9, channels, levels=40)[0])

    ours, theirs = (
        engine.economize(*arguments, price=1234.5, sweeps=3)
        for engine in (backend_for(torch.device("cpu"), backend), REFERENCE)
    )

    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("thrift", [0.3, 3.0])
def test_a_photograph_is_the_same_on_every_backend_and_number_of_threads(thrift):
    pixels, found = photo(5), []
    before = torch.get_num_threads()
    try:
        for backend, threads in ((OTHERS[0], 1), (OTHERS[0], 3), ("reference", 1)):
            torch.set_num_threads(threads)
            found.append(
                quantize(pixels, 24, space="oklab", thrift=thrift, refine=0, backend=backend)
            )
    finally:
        torch.set_num_threads(before)

    for other in found[1:]:
        np.testing.assert_array_equal(found[0].indices, other.indices)
        np.testing.assert_array_equal(found[0].palette, other.palette)
        assert found[0].wcss == other.wcss


def cheapest(features, inverse, entries, labels, *, price, sweeps):
    """Visit every pixel and count by hand."""
    (h, w), entries = inverse.shape, entries.numpy().astype(int)
    pixels, near = features.numpy().astype(int)[inverse], labels.numpy()[inverse]
    chosen = near.copy()
    for turn in range(2 * sweeps):
        for y, x in np.argwhere(np.indices((h, w)).sum(axis=0) % 2 == turn % 2):
            about = pixels[
                max(0, y - REACH) : y + REACH + 1, max(0, x - REACH) : x + REACH + 1
            ].reshape(-1, pixels.shape[2])[:, :3]
            worth = np.floor(price * (1 + about.var(axis=0).sum() / BUSY**2) + 0.5)
            beside = [
                chosen[v, u]
                for v, u in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x))
                if 0 <= v < h and 0 <= u < w
            ]
            options = [near[y, x], *beside]
            costs = [
                ((entries[option] - pixels[y, x]) ** 2).sum() - worth * beside.count(option)
                for option in options
            ]
            if (entries[near[y, x]] != pixels[y, x]).any():
                chosen[y, x] = options[int(np.argmin(costs))]
    return chosen


def test_each_pixel_takes_what_is_cheapest_given_the_four_beside_it():
    arguments = given(photo(20), quantize(photo(20), 12, space="oklab").palette)

    found = REFERENCE.economize(*arguments, price=300.0, sweeps=2)

    np.testing.assert_array_equal(found, cheapest(*arguments, price=300.0, sweeps=2))
    assert (found.numpy() != arguments[3].numpy()[arguments[1]]).mean() > 0.05


def test_variance_is_that_of_the_window_clipped_at_the_edges():
    pixels = torch.from_numpy(noise(9, 14).astype(np.int64))

    found = variances(pixels)

    assert found[0, 0].item() == pytest.approx(
        pixels[: REACH + 1, : REACH + 1].reshape(-1, 3).numpy().var(axis=0).sum()
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_whose_colour_is_in_the_palette_keep_it(backend):
    pixels = photo(8).copy()
    pixels[10:20, 10:40] = (250, 3, 9)
    pixels[15, 10:40:2] = (255, 255, 255)
    own = np.array([[250, 3, 9], [255, 255, 255]], np.uint8)

    image = quantize(pixels, 8, reserve=own, thrift=10.0, space="oklab", backend=backend)

    np.testing.assert_array_equal(image.to_pixels()[10:20, 10:40], pixels[10:20, 10:40])


def test_a_picture_of_few_colours_is_given_back():
    pixels = noise(20, 30, levels=3)

    image = quantize(pixels, 27, thrift=10.0)

    np.testing.assert_array_equal(image.to_pixels(), pixels)
    assert image.wcss == 0


def test_it_takes_fewer_bytes_and_says_what_that_costs():
    pixels = photo(2)

    plain, thrifty = (quantize(pixels, 32, space="oklab", thrift=t) for t in (0.0, 1.0))

    sizes = [len(zlib.compress(image.indices.tobytes(), 9)) for image in (plain, thrifty)]
    assert sizes[1] < 0.85 * sizes[0]
    assert thrifty.wcss == picture_wcss(pixels, thrifty.to_pixels())
    assert plain.wcss < thrifty.wcss < 3 * plain.wcss
    assert thrifty.counts.tolist() == np.bincount(thrifty.indices.ravel()).tolist()


def test_a_large_page_does_not_make_the_edges_on_it_cheap():
    drawing, white = photo(8)[:40, :50], np.full((1, 3), 255, np.uint8)
    palette = np.concatenate([quantize(drawing, 15, space="oklab").palette, white])
    changed = []
    for rows in (4, 400):
        pixels = np.concatenate([np.full((rows, 50, 3), 255, np.uint8), drawing])
        plain, thrifty = (
            quantize(pixels, palette=palette, space="oklab", thrift=t).indices for t in (0.0, 0.5)
        )
        changed.append((plain != thrifty).sum())

    assert changed[1] > changed[0] / 2  # a third, were the price in proportion to the mean of all


def test_what_is_invisible_stays_so_and_what_is_opaque_too():
    pixels = with_alpha(photo(6))
    pixels[20:, :40, 3] = 255

    image = quantize(pixels, 12, space="oklab", thrift=5.0)

    after = image.to_pixels()
    assert (after[pixels[..., 3] == 0] == 0).all()
    assert (after[pixels[..., 3] == 255][:, 3] == 255).all()


def test_entries_that_nobody_takes_any_more_are_dropped():
    pixels = photo(8)
    plain, thrifty = (quantize(pixels, 64, space="oklab", thrift=t) for t in (0.0, 10.0))

    assert thrifty.k <= plain.k
    assert thrifty.counts.min() > 0
    assert len(Palette.from_colors(torch.from_numpy(thrifty.palette)).colors) == thrifty.k


@pytest.mark.parametrize("options", [{"thrift": -1}, {"thrift": 11}, {"thrift": 1, "dither": 0.5}])
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(OptionError, match="thrift"):
        quantize(photo(40), 4, **options)
