"""The order of a palette for filters: all of it, and none shorter by moving one entry."""

import itertools

import numpy as np
import pytest

from app.palette_order import smooth_order


def length(indices, order):
    """Sum of the distances of the places of pixels side by side."""
    places = np.argsort(order)[indices]
    return sum(int(np.abs(np.diff(places, axis=axis)).sum()) for axis in (0, 1))


def scattered(size, seed):
    """A smooth picture whose entries stand in any order."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(40) / 7)[:, None] + np.cos(np.arange(50) / 5) + rng.normal(0, 0.1, 50)
    levels = ((waves - waves.min()) / np.ptp(waves) * (size - 1)).round().astype(np.uint8)
    return rng.permutation(size).astype(np.uint8)[levels]


@pytest.mark.parametrize("seed", range(5))
def test_no_entry_stands_better_elsewhere(seed):
    indices = scattered(12, seed)

    order = smooth_order(indices, 12).tolist()

    assert sorted(order) == list(range(12))
    for entry, place in itertools.product(range(12), range(12)):
        moved = [other for other in order if other != entry]
        moved.insert(place, entry)
        assert length(indices, order) <= length(indices, moved)


def test_a_smooth_picture_gets_its_levels_in_order():
    ramp = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    shuffled = np.random.default_rng(3).permutation(127).astype(np.uint8)

    order = smooth_order(shuffled[ramp], 127)

    levels = np.argsort(shuffled)[order]
    assert abs(np.diff(levels)).max() == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (1100, 1000)])
def test_any_shape_and_entries_without_pixels_are_taken(shape):
    order = smooth_order(np.zeros(shape, np.uint8), 256)

    assert sorted(order.tolist()) == list(range(256))
