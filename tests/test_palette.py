"""The palette: different colours, in a defined order, each with what it was rounded from."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples import PICTURES, photo, with_alpha

from gpu_kmeans import quantize
from gpu_kmeans.palette import Palette, sort_key

color_lists = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 30), st.sampled_from([3, 4])),
    elements=st.sampled_from([0, 1, 2, 128, 254, 255]),
).map(torch.from_numpy)


@given(color_lists)
def test_the_sort_key_tells_different_colors_apart(colors):
    keys = sort_key(colors)

    assert len(torch.unique(keys)) == len(torch.unique(colors, dim=0))


@given(color_lists)
def test_colors_are_taken_in_the_callers_order_each_once(colors):
    palette = Palette.from_colors(colors)

    kept = list(dict.fromkeys(map(tuple, colors.tolist())))
    assert list(map(tuple, palette.colors.tolist())) == kept
    assert torch.equal(palette.centroids, palette.colors.double())


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 20), st.sampled_from([3, 4])),
        elements=st.floats(0, 2040),
    ).map(torch.from_numpy),
    st.sampled_from(["rgb", "linear", "oklab"]),
)  # fmt: skip
def test_rounded_centroids_are_different_colors_in_order_of_alpha_and_lightness(features, space):
    palette = Palette.from_features(features, space)

    keys = sort_key(palette.colors)
    assert (keys.diff() > 0).all()
    assert (palette.colors.double() - palette.centroids).abs().max() <= 0.5 + 1e-9
    assert palette.colors.dtype == torch.uint8


def test_a_computed_palette_runs_from_dark_to_light():
    palette = quantize(photo(6), 16).palette.astype(int)

    luma = palette @ [299, 587, 114]
    assert (np.diff(luma) >= 0).all()


def test_transparent_entries_come_first():
    palette = quantize(with_alpha(photo(6)), 16).palette

    assert palette[0].tolist() == [0, 0, 0, 0]
    assert (np.diff(palette[:, 3].astype(int)) >= 0).all()


def test_channels_are_added_opaque_and_only_where_they_are_missing():
    palette = Palette.from_colors(torch.tensor([[1, 2, 3]], dtype=torch.uint8))

    wider = palette.with_channels(4)

    assert wider.colors.tolist() == [[1, 2, 3, 255]]
    assert wider.centroids.tolist() == [[1, 2, 3, 255]]
    assert wider.with_channels(4) is wider


def test_the_transparent_entry_is_put_first_and_entries_can_be_dropped():
    palette = Palette.from_colors(torch.tensor([[1, 2, 3, 9], [4, 5, 6, 255]], dtype=torch.uint8))

    widened = palette.with_transparent()

    assert widened.colors.tolist() == [[0, 0, 0, 0], [1, 2, 3, 9], [4, 5, 6, 255]]
    assert widened.keep(torch.tensor([True, False, True])).colors.tolist() == [
        [0, 0, 0, 0],
        [4, 5, 6, 255],
    ]


def test_a_picture_of_few_colors_lists_them_from_dark_to_light():
    palette = quantize(PICTURES["grey-ramp"], 256).palette

    assert palette[:, 0].tolist() == list(range(256))
