"""Counting colours and merging them into fewer points."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import BACKENDS, PICTURES, china, noise, photo, small_pictures, with_alpha

from gpu_kmeans.backends import backend_for
from gpu_kmeans.backends.abilities import merges_cells
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.color import SPACES, srgb8_to_features
from gpu_kmeans.histogram import (
    COARSE_POINTS,
    Histogram,
    coarsen,
    coarsen_together,
    merge_cells,
    sum_cells,
)

ENGINES = [backend_for(torch.device("cpu"), name) for name in BACKENDS]
on_every_engine = pytest.mark.parametrize("engine", ENGINES, ids=BACKENDS)


def histogram_of(pixels, engine=ENGINES[0]):
    return Histogram.from_pixels(torch.from_numpy(pixels), engine)


@on_every_engine
@settings(max_examples=30)
@given(small_pictures())
def test_a_histogram_gives_the_picture_back(engine, pixels):
    histogram = histogram_of(pixels, engine)

    back = histogram.with_channels(pixels.shape[2]).colors[histogram.inverse.long()]
    visible = pixels if pixels.shape[2] == 3 else pixels * (pixels[:, :, 3:] > 0)
    np.testing.assert_array_equal(back.reshape(pixels.shape), visible)
    assert int(histogram.counts.sum()) == pixels.shape[0] * pixels.shape[1]
    assert histogram.shape == pixels.shape


@on_every_engine
@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
def test_a_photographs_colors_are_those_numpy_finds(engine, alpha):
    pixels = with_alpha(photo(3)) if alpha else china()

    histogram = histogram_of(pixels, engine)

    visible = pixels if not alpha else pixels * (pixels[:, :, 3:] > 0)
    colors, counts = np.unique(visible.reshape(-1, pixels.shape[2]), axis=0, return_counts=True)
    order = np.lexsort(histogram.colors.numpy().T[::-1])
    np.testing.assert_array_equal(histogram.colors.numpy()[order], colors)
    np.testing.assert_array_equal(histogram.counts.numpy()[order], counts)


@on_every_engine
def test_colors_come_in_morton_order(engine):
    colors = histogram_of(photo(4), engine).colors

    assert (morton_codes(colors).diff() > 0).all()


def test_neighbors_in_morton_order_are_neighbors_in_space():
    colors = histogram_of(china()).colors.double()

    steps = (colors[1:] - colors[:-1]).abs().sum(dim=1)
    assert steps.median() < 8


@given(st.lists(st.integers(0, 255), min_size=1, max_size=4))
def test_a_morton_code_interleaves_the_bits(levels):
    code = int(morton_codes(torch.tensor([levels], dtype=torch.uint8))[0])

    bits = "".join(
        "".join(bits) for bits in zip(*(f"{level:08b}" for level in levels), strict=True)
    )
    assert code == int(bits, 2)


def test_opaque_alpha_is_dropped_and_transparent_pixels_are_one_color():
    opaque, mixed = PICTURES["opaque-alpha"], PICTURES["all-transparent"]

    assert histogram_of(opaque).colors.shape[1] == 3
    assert not histogram_of(opaque).has_transparent
    assert histogram_of(mixed).colors.tolist() == [[0, 0, 0, 0]]
    assert histogram_of(mixed).has_transparent


def test_black_is_not_transparent():
    black = np.zeros((1, 2, 4), np.uint8)
    black[0, :, 3] = [255, 254]

    assert not histogram_of(black).has_transparent
    assert not histogram_of(np.zeros((1, 2, 3), np.uint8)).has_transparent


# Merging


def colors_of(pixels, space="rgb"):
    histogram = histogram_of(pixels)
    features = srgb8_to_features(histogram.colors, space)
    return histogram.colors, features, histogram.counts.double()


MERGED = {"photo": china(), "alpha": with_alpha(photo(2)), "noise": noise(150, 150)}
MERGED |= {"noise-alpha": noise(150, 150, channels=4)}


@pytest.mark.parametrize("name", MERGED)
@pytest.mark.parametrize("target", [16, 300, COARSE_POINTS])
def test_merged_colors_are_about_as_many_as_wanted(name, target):
    colors, features, weights = colors_of(MERGED[name])

    points, _ = coarsen(colors, features, weights, target)

    assert 0.7 * target <= len(points) <= 1.3 * target


@pytest.mark.parametrize("name", MERGED)
@pytest.mark.parametrize("space", SPACES)
def test_merging_keeps_the_weight_and_the_mean(name, space):
    colors, features, weights = colors_of(MERGED[name], space)

    points, masses = coarsen(colors, features, weights, 1000)

    assert masses.sum() == weights.sum()
    assert (masses > 0).all()
    before = (features.double() * weights[:, None]).sum(dim=0) / weights.sum()
    after = (points.double() * masses[:, None]).sum(dim=0) / masses.sum()
    torch.testing.assert_close(after, before, rtol=0, atol=0.5)  # of a grid step
    assert torch.equal(points, points.floor())
    assert (points >= features.amin(dim=0)).all()
    assert (points <= features.amax(dim=0)).all()
    assert points.dtype == features.dtype


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("target", [16, 300, COARSE_POINTS, 10**6])
@pytest.mark.parametrize("name", MERGED)
def test_merging_gives_the_same_bits_on_every_backend(name, target, threads):
    colors, features, weights = colors_of(MERGED[name])
    expected = coarsen(colors, features, weights, target)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for engine in ENGINES:
            found = coarsen_together(engine, [colors], [features], [weights], target)[0]

            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", MERGED)
@pytest.mark.parametrize("engine", [e for e in ENGINES if merges_cells(e)], ids=lambda e: e.name)
def test_cells_are_merged_to_the_same_bits_whatever_the_target(engine, name):
    codes, sums, masses = sum_cells(*colors_of(MERGED[name]))

    for target in (1, 2, 3, *range(5, len(codes) + 2, len(codes) // 9)):
        ours, theirs = (
            merge(codes, sums, masses, target) for merge in (engine.merge_cells, merge_cells)
        )
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


@on_every_engine
@pytest.mark.parametrize("target", [300, 10**6])
def test_a_histogram_merges_and_packs_its_colors_once_for_all_who_ask(engine, target):
    histogram = histogram_of(photo(3), engine)
    weights = histogram.counts.double()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(histogram.merged, engine, "rgb", target) for _ in range(4)]
        packed = [pool.submit(histogram.problem, engine, "rgb") for _ in range(4)]

    expected = coarsen(histogram.colors, histogram.features("rgb"), weights, target)
    for points, masses in (each.result() for each in asked):
        assert torch.equal(points, expected[0])
        assert torch.equal(masses, expected[1])
    assert len({id(each.result()) for each in packed}) == 1
    assert torch.equal(packed[0].result().weights, weights)


def test_merged_colors_stay_near_what_they_stand_for():
    colors, features, weights = colors_of(china())

    points, masses = coarsen(colors, features, weights, COARSE_POINTS)

    # The parts must add up to the whole: total scatter = within cells + between cells.
    mean = (features.double() * weights[:, None]).sum(dim=0) / weights.sum()
    total = (weights[:, None] * (features.double() - mean) ** 2).sum()
    between = (masses[:, None] * (points.double() - mean) ** 2).sum()
    assert between > 0.985 * total


@pytest.mark.parametrize("target", [435, 1000, 5000])
def test_few_colors_are_left_as_they_are(target):
    colors, features, weights = colors_of(noise(19, 23))

    points, masses = coarsen(colors, features, weights, max(target, len(colors)))

    assert torch.equal(points, features)
    assert torch.equal(masses, weights)


def test_merging_does_not_depend_on_the_scale_of_the_weights():
    colors, features, weights = colors_of(photo(3))

    points, masses = coarsen(colors, features, weights, 500)
    again, doubled = coarsen(colors, features, 2 * weights, 500)

    assert torch.equal(points, again)
    assert torch.equal(2 * masses, doubled)


def test_one_bright_pixel_does_not_merge_a_dark_picture_into_one_color():
    pixels = np.random.default_rng(0).integers(0, 64, (200, 300, 3)).astype(np.uint8)
    pixels[0, 0] = 255  # so that the dark octants are only children of only children
    histogram = histogram_of(pixels)
    features = srgb8_to_features(histogram.colors, "rgb")

    points, _ = coarsen(histogram.colors, features, histogram.counts.double(), 4096)

    assert 4000 < len(points) <= 4096


def test_codes_of_pixels_take_little_memory_on_the_way():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (200_000, 4), np.uint8))
    morton_codes(pixels[:1])

    tracemalloc.start()
    morton_codes(pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 20 * len(pixels)  # the codes themselves are 8 bytes, and so is a channel's share
