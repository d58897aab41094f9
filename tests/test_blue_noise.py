"""The mask: every threshold once, spread evenly, and no longer in coming than a picture."""

import numpy as np
import pytest

from gpu_kmeans import blue_noise
from gpu_kmeans.blue_noise import SIDE, thresholds

LEVELS = SIDE * SIDE


def power_by_frequency(pattern):
    """Mean power of a pattern below an eighth, and above a quarter, of a cycle in a pixel."""
    power = np.abs(np.fft.fft2(pattern - pattern.mean())) ** 2
    frequencies = np.fft.fftfreq(SIDE)
    radius = np.hypot(frequencies[:, None], frequencies)
    low = (radius > 0) & (radius < 1 / 8)
    return power[low].mean(), power[radius > 1 / 4].mean()


def test_every_threshold_is_there_once():
    assert sorted(thresholds().ravel()) == list(range(LEVELS))
    assert not thresholds().flags.writeable


def test_the_mask_has_hardly_anything_of_low_frequency():
    low, high = power_by_frequency(thresholds())

    assert low < high / 50


@pytest.mark.parametrize("share", [1 / 16, 1 / 4, 1 / 2, 3 / 4, 15 / 16])
def test_nor_has_any_share_of_its_places(share):
    low, high = power_by_frequency(thresholds() < share * LEVELS)

    assert low < high / (20 if 0.2 < share < 0.8 else 4)


@pytest.mark.parametrize("share", [1 / 8, 1 / 2])
def test_masks_side_by_side_have_no_seam(share):
    places = np.tile(thresholds() < share * LEVELS, (3, 3)).astype(float)
    window = np.lib.stride_tricks.sliding_window_view(places, (16, 16)).mean(axis=(2, 3))

    assert np.abs(window - share).max() < 0.035


def test_it_is_the_same_on_every_machine():
    assert thresholds()[:2, :4].tolist() == [[3216, 1002, 2610, 135], [1730, 2214, 585, 3681]]
    bumps = np.exp(-np.arange(2 * (SIDE // 2) ** 2) / (2 * blue_noise._WIDTH**2)) * blue_noise._UNIT
    halves = np.abs(bumps % 1 - 0.5)

    assert halves[bumps > 0.1].min() > 1e-3  # no rounding that a last bit would turn
