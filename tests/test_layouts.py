"""The order in which a search has its points: every one of them, in tiles with small boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import color_problem

from gpu_kmeans.backends.order_kernels import order_by_halves
from gpu_kmeans.backends.tile_vectors import TILE


def volumes(points):
    """Of the boxes of the tiles."""
    tiles = np.split(points, range(TILE, len(points), TILE))
    return [float(np.prod(np.ptp(tile, axis=0) + 1.0)) for tile in tiles]


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3000), st.booleans())
def test_the_order_of_a_search_has_every_point_once(seed, d, n, has_copies):
    rng = np.random.default_rng(seed)
    points = rng.integers(-7, 3 if has_copies else 4000, (n, d)).astype(np.float32)

    assert sorted(order_by_halves(points)) == list(range(n))


def test_points_that_are_all_alike_stay_in_order():
    assert order_by_halves(np.ones((1000, 3), np.float32)).tolist() == list(range(1000))


@pytest.mark.parametrize("channels", [3, 4])
def test_tiles_of_a_search_are_smaller_than_runs_of_the_curve(channels):
    points = color_problem(5000, channels)[0].numpy()

    assert np.mean(volumes(points[order_by_halves(points)])) < 0.6 * np.mean(volumes(points))
