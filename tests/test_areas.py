"""Areas of one colour keep it, where `solid` is asked for."""

import numpy as np
import pytest
import torch
from samples import BACKENDS, noise, photo, with_alpha

from gpu_kmeans import areas, quantize
from gpu_kmeans.areas import WEIGHT_BITS, WORTH, area_weights, settle_solid
from gpu_kmeans.backends import area_kernels
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.metrics import picture_wcss
from gpu_kmeans.palette import Palette, sort_key

PAPER, SEA, LEGEND = (250, 248, 239), (152, 190, 214), (204, 31, 45)
WAYS = {
    "plain": {},
    "thrift": {"space": "oklab", "thrift": 0.5},
    "dither": {"space": "oklab", "dither": 0.6},
}


def drawn_map():
    """Draw paper, a sea with a soft shore, and a small red legend beside a shaded relief."""
    pixels = np.empty((96, 128, 3), np.uint8)
    pixels[:] = PAPER
    shore = np.linspace(0, 1, 24)[:, None] * (np.array(SEA) - PAPER) + PAPER
    pixels[:, 40:64] = shore.round()
    pixels[:, 64:] = SEA
    pixels[:30, :38] = noise(30, 38, levels=70) + np.array([140, 150, 120], np.uint8)
    pixels[80:90, 4:14] = LEGEND
    return pixels


def entries_of(image):
    return {tuple(color) for color in image.palette.tolist()}


@pytest.mark.parametrize("way", WAYS)
def test_areas_keep_their_very_colours(way):
    pixels = drawn_map()

    solid = quantize(pixels, 6, solid=True, **WAYS[way])

    assert entries_of(solid) >= {PAPER, SEA, LEGEND}
    np.testing.assert_array_equal(solid.to_pixels()[:, 64:], pixels[:, 64:])
    np.testing.assert_array_equal(solid.to_pixels()[80:90, 4:14], pixels[80:90, 4:14])
    assert solid.wcss == picture_wcss(pixels, solid.to_pixels())
    assert solid.counts.tolist() == np.bincount(solid.indices.ravel()).tolist()


@pytest.mark.parametrize("way", ["plain", "thrift"])
def test_else_an_entry_is_the_mean_of_an_area_and_its_edges(way):
    assert not entries_of(quantize(drawn_map(), 6, **WAYS[way])) >= {PAPER, SEA, LEGEND}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("channels", [3, 4])
def test_the_same_bits_on_every_backend(way, channels):
    pixels = drawn_map() if channels == 3 else with_alpha(drawn_map())

    first, *others = (
        quantize(pixels, 7, solid=True, refine=0, backend=backend, **WAYS[way])
        for backend in BACKENDS
    )

    for other in others:
        np.testing.assert_array_equal(first.palette, other.palette)
        np.testing.assert_array_equal(first.indices, other.indices)


@pytest.mark.parametrize("way", WAYS)
def test_the_palette_stays_in_order_with_reserved_colours_first(way):
    reserve = np.array([[0, 200, 0], [255, 255, 255]], np.uint8)

    image = quantize(drawn_map(), 8, reserve=reserve, solid=True, **WAYS[way])

    np.testing.assert_array_equal(image.palette[:2], reserve)
    keys = sort_key(torch.from_numpy(image.palette[2:]))
    assert (keys.diff() > 0).all()
    assert entries_of(image) >= {PAPER, SEA, LEGEND}


def test_what_is_invisible_stays_so_and_what_is_opaque_too():
    pixels = with_alpha(drawn_map())
    pixels[:, 64:, 3] = 255

    image = quantize(pixels, 8, solid=True, space="oklab", thrift=0.5)

    after = image.to_pixels()
    assert (after[pixels[..., 3] == 0] == 0).all()
    np.testing.assert_array_equal(after[:, 64:], pixels[:, 64:])


def test_a_photograph_loses_next_to_nothing():
    pixels = photo(2)

    loose, solid = (quantize(pixels, 32, space="oklab", solid=flag) for flag in (False, True))

    assert solid.wcss < 1.05 * loose.wcss


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (40, 50)], ids=str)
def test_pixels_inside_areas_count_for_more_by_the_fourth_root_of_their_share(shape):
    plane = noise(*shape, 1, levels=8)[..., 0].astype(np.int64) // 4
    plane[:20, :30] = 1
    counts = np.bincount(plane.ravel(), minlength=2)
    about = np.lib.stride_tricks.sliding_window_view(np.pad(plane, 1, mode="edge"), (3, 3))
    inside = np.bincount(plane[(about == plane[..., None, None]).all((2, 3))], minlength=2)

    weights = area_weights(*map(torch.from_numpy, (counts, plane))).numpy()

    expected = counts + WORTH * inside * (inside / plane.size) ** 0.25
    np.testing.assert_allclose(weights * expected.sum(), expected * weights.sum(), rtol=1e-6)
    np.testing.assert_array_equal(weights, weights.round())
    assert weights.sum() < 2**WEIGHT_BITS


def test_an_entry_becomes_the_colour_that_is_a_third_of_it():
    levels = torch.tensor([0, 9, 50, 60, 61, 70, 99], dtype=torch.uint8)
    weights = torch.tensor([5.0, 5, 3, 3, 3, 3, 8])
    labels = torch.tensor([0, 0, 1, 1, 1, 1, 2])
    palette = Palette.from_colors(torch.tensor([[4], [57], [90]], dtype=torch.uint8).expand(-1, 3))
    colors = levels[:, None].expand(-1, 3)

    settled, kept = settle_solid(palette, colors, weights, labels, kept=0)
    assert settled.colors[:, 0].tolist() == [0, 99, 57]  # of equals the first; 3 of 12 is too few
    assert kept == 2

    settled, kept = settle_solid(palette, colors, weights, labels, kept=1)
    assert settled.colors[:, 0].tolist() == [4, 99, 57]
    assert kept == 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (40, 30)], ids=str)
def test_pixels_inside_areas_are_counted_as_defined(shape):
    plane = torch.from_numpy(np.random.default_rng(0).integers(0, 40, shape, dtype=np.int32))
    plane[plane > 2] = 3  # the most of them are of one colour

    inside = area_kernels.count_inside(plane.numpy(), 5)

    found = plane[areas._leave_inside(torch.ones_like(plane, dtype=torch.bool), plane)]
    assert inside.tolist() == torch.bincount(found, minlength=5).tolist()


def test_the_heaviest_color_of_an_entry_is_the_first_of_equals():
    labels, weights = np.array([2, 0, 2, 2, 0]), np.array([3.0, 1, 5, 5, 1])

    found = area_kernels.find_heaviest(labels, weights, 4)

    assert [of.tolist() for of in found] == [[2, 0, 13, 0], [1, 0, 5, 0], [1, 5, 2, 5]]


@pytest.mark.parametrize("channels", [3, 4])
def test_colors_are_found_in_mortons_order(channels):
    levels = np.random.default_rng(0).integers(0, 256, (3000, channels), dtype=np.uint8)
    codes = morton_codes(torch.from_numpy(levels)).numpy()
    _, first = np.unique(codes, return_index=True)
    colors, wanted = levels[first][::2], levels[:500]

    places = area_kernels.find_colors(colors, wanted)

    rows = {tuple(color): i for i, color in enumerate(colors.tolist())}
    assert places.tolist() == [rows.get(tuple(color), len(colors)) for color in wanted.tolist()]
