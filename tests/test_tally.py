"""Adding up the colours of many pictures: exact while they fit, of known error beyond."""

import math
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import PICTURES, china, noise, photo, small_pictures, with_alpha

from gpu_kmeans import DeviceError, InputError, OptionError, Tally, quantize, shared_palette
from gpu_kmeans.backends import backend_for
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.metrics import picture_wcss

CPU = backend_for(torch.device("cpu"))
SMALL = 300  # cells, far fewer than the pictures below have colours


def tally_of(*pictures, capacity=SMALL):
    return Tally.total([Tally.from_pixels(pixels, capacity=capacity) for pixels in pictures])


def equal(one, other):
    assert one.keys.dtype == other.keys.dtype == np.uint32
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_array_equal(one.moments, other.moments)
    assert (one.shift, one.transparent, one.capacity) == (
        other.shift,
        other.transparent,
        other.capacity,
    )
    return True


def rgba(pixels):
    """Say of an opaque picture that it is."""
    opaque = np.full(pixels.shape[:2], 255, np.uint8)
    return pixels if pixels.shape[2] == 4 else np.dstack([pixels, opaque])


def in_one(*pictures):
    """One picture that has the pixels of all."""
    return np.concatenate([pixels.reshape(1, -1, pixels.shape[2]) for pixels in pictures], axis=1)


pictures_and_cuts = st.lists(small_pictures(), min_size=3, max_size=5)


@settings(max_examples=60)
@given(pictures_and_cuts, st.randoms(use_true_random=False))
def test_the_order_and_the_parts_change_nothing(pictures, chance):
    tallies = [Tally.from_pixels(noise(9, 40), capacity=SMALL)]  # some must merge
    tallies += [Tally.from_pixels(pixels, capacity=SMALL) for pixels in pictures]
    whole = Tally.total(tallies)

    chance.shuffle(tallies)
    cut = chance.randrange(1, len(tallies))
    left, right = Tally.total(tallies[:cut]), Tally.total(tallies[cut:])
    assert whole.shift > 0
    assert equal(left + right, whole)
    assert equal(right + left, whole)
    assert equal(Tally.empty(SMALL) + whole, whole)


@settings(max_examples=40)
@given(small_pictures(), small_pictures())
def test_a_sum_that_fits_is_the_histogram_of_all_pixels(one, other):
    tally = tally_of(one, other)

    whole = torch.from_numpy(in_one(rgba(one), rgba(other)))
    expected = Histogram.from_pixels(whole, CPU)
    found = tally.to_histogram()
    assert tally.is_exact
    assert tally.scatter == 0
    assert torch.equal(found.colors, expected.colors)
    assert torch.equal(found.counts, expected.counts)
    assert tally.pixels == expected.inverse.numel()


@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_a_shared_palette_is_that_of_one_picture_of_all_pixels(space):
    pictures = [photo(4), with_alpha(photo(6))[:, :30], noise(5, 5)]
    opaque = [pictures[0], noise(20, 20)]

    for parts in (pictures, opaque):
        four = any(pixels.shape[2] == 4 for pixels in parts)
        same_depth = [rgba(pixels) for pixels in parts] if four else parts
        shared = shared_palette(tally_of(*parts, capacity=10**6), 20, space=space, seed=5)
        alone = quantize(in_one(*same_depth), 20, space=space, seed=5)
        np.testing.assert_array_equal(shared.palette, alone.palette)
        np.testing.assert_array_equal(shared.counts, alone.counts)
        np.testing.assert_array_equal(shared.centroids, alone.centroids)
        assert shared.wcss == alone.wcss == shared.wcss_bounds[0] == shared.wcss_bounds[1]
        assert shared.psnr_db == alone.psnr_db
        assert shared.n_iter == alone.n_iter


@pytest.mark.parametrize(("k", "options"), [("elbow", {"k_max": 8}), ("auto", {"min_psnr": 24})])
def test_k_is_chosen_as_for_one_picture(k, options):
    parts = [photo(8), photo(7)]

    shared = shared_palette(tally_of(*parts, capacity=10**6), k, **options)

    alone = quantize(in_one(*parts), k, **options)
    np.testing.assert_array_equal(shared.palette, alone.palette)
    assert (shared.k_reason, shared.psnr_db) == (alone.k_reason, alone.psnr_db)


def test_reserved_colors_are_in_a_shared_palette():
    reserve = np.array([[1, 2, 3], [250, 0, 250]], np.uint8)

    shared = shared_palette(tally_of(photo(8), capacity=10**6), 6, reserve=reserve)

    np.testing.assert_array_equal(shared.palette[:2], reserve)
    assert shared.k == 6


@pytest.mark.parametrize("name", ["transparent", "clear-and-opaque", "reserve-alpha"])
def test_transparency_is_kept_apart(name):
    clear = PICTURES["all-transparent"]
    reserve = np.array([[9, 9, 9, 100]], np.uint8) if name == "reserve-alpha" else None
    parts = [clear] if name == "transparent" else [clear, photo(8)]

    shared = shared_palette(tally_of(*parts), 5, reserve=reserve)

    clear_row = int(np.flatnonzero(shared.palette[:, 3] == 0)[0])
    assert shared.counts[clear_row] == clear.shape[0] * clear.shape[1]
    assert set(shared.palette[:, 3]) <= {0, 255, 100}


def test_reserved_alpha_is_taken_where_all_pictures_are_opaque():
    reserve = np.array([[9, 9, 9, 100]], np.uint8)

    shared = shared_palette(tally_of(photo(8)), 5, reserve=reserve)

    np.testing.assert_array_equal(shared.palette[0], reserve[0])
    assert (shared.palette[1:, 3] == 255).all()


@pytest.mark.parametrize("capacity", [256, 2000, 20_000])
def test_beyond_its_capacity_the_error_is_what_it_says(capacity):
    parts = [china()[:200], photo(2), with_alpha(photo(5))]
    tally = tally_of(*parts, capacity=capacity)

    shared = shared_palette(tally, 24)

    # The bounds hold for the pictures themselves, each given the nearest of these colours.
    true = sum(quantize(rgba(pixels), palette=shared.palette).wcss for pixels in parts)
    low, high = shared.wcss_bounds
    assert not tally.is_exact
    assert len(tally.keys) <= capacity
    assert tally.scatter > 0
    assert low > 0.5 * true or capacity < 20_000
    assert low <= true <= high
    assert low <= shared.wcss <= high


def test_the_scatter_is_the_wcss_of_merged_colors():
    pixels = with_alpha(photo(3))
    tally = tally_of(pixels)

    cells = np.dstack([pixels[..., :3].astype(int) >> tally.shift, pixels[..., 3:]]).reshape(-1, 4)
    cells[pixels.reshape(-1, 4)[:, 3] == 0] = 0
    rows = pixels.reshape(-1, 4).astype(int)
    _, which, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(which, rows[:, j]) for j in range(4)], axis=1)
    means = np.floor(sums / counts[:, None] + 0.5).astype(np.uint8)[which].reshape(pixels.shape)
    assert math.isclose(tally.scatter, picture_wcss(pixels, means), rel_tol=1e-9)


def test_opaque_pictures_are_never_merged_further_than_two_levels():
    every_other = np.stack(np.meshgrid(*[np.arange(0, 256, 2, dtype=np.uint8)] * 3), axis=-1)
    tally = Tally.from_pixels(every_other.reshape(2048, -1, 3)) + Tally.from_pixels(china())

    assert tally.shift == 1
    assert tally.scatter <= 3 * tally.pixels


def test_merging_goes_no_further_than_it_must():
    tally = tally_of(noise(40, 40))

    levels = noise(40, 40).reshape(-1, 3)
    cells = [len(np.unique(levels >> shift, axis=0)) for shift in range(9)]
    assert cells[tally.shift] <= SMALL < cells[tally.shift - 1]
    assert len(tally.keys) == cells[tally.shift]


def test_alphas_are_never_merged():
    tally = tally_of(noise(60, 60, channels=4), capacity=256)

    assert tally.shift == 8
    assert set(tally.keys >> 24) == set(range(1, 256))


def test_a_tally_survives_pickling():
    tally = tally_of(noise(20, 30))

    assert equal(pickle.loads(pickle.dumps(tally)), tally)  # noqa: S301 - our own


def test_the_seed_decides_and_the_order_does_not():
    parts = [photo(5), photo(6), noise(9, 9)]
    one = shared_palette(tally_of(*parts), 9)
    random.Random(1).shuffle(parts)  # noqa: S311 - no key

    np.testing.assert_array_equal(shared_palette(tally_of(*parts), 9).palette, one.palette)


def test_tallies_come_in_anything_that_can_be_gone_through():
    pictures = [photo(9), noise(3, 3)]

    total = Tally.total(Tally.from_pixels(pixels, capacity=SMALL) for pixels in pictures)

    assert equal(total, tally_of(*pictures))


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("device", "error"),
    [("abacus", OptionError), (None, OptionError), ("meta", DeviceError), ("cuda:99", DeviceError)],
)
def test_a_device_that_cannot_be_had_is_refused(device, error):
    with pytest.raises(error, match="device="):
        shared_palette(tally_of(noise(2, 2)), 2, device=device)


@pytest.mark.usefixtures("unchecked_annotations")
def test_what_cannot_be_added_up_is_refused():
    with pytest.raises(TypeError, match="unsupported operand"):
        Tally.empty() + 1
    with pytest.raises(InputError, match="capacity are wanted, got none"):
        Tally.total([])
    with pytest.raises(InputError, match=r"got \[256, 300\]"):
        Tally.empty(256) + Tally.empty(300)
    with pytest.raises(OptionError, match="capacity=255 is not allowed"):
        Tally.from_pixels(noise(2, 2), capacity=255)
    with pytest.raises(InputError, match="the tally is empty"):
        shared_palette(Tally.empty(), 3)
    with pytest.raises(OptionError, match="k=0"):
        shared_palette(tally_of(noise(2, 2)), 0)
