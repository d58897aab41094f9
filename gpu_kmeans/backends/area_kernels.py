"""The loops of `gpu_kmeans.areas` and of finding colours in a histogram, compiled by numba.

Weights are whole and roots are rounded rightly, so the answers are those of the definitions.
"""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
@no_type_check
def count_inside(plane, size):
    """Count the pixels of each of so many colours whose neighbours are all of their colour."""
    h, w = plane.shape
    inside = np.zeros(size, np.int64)
    for y in range(h):
        above, here, below = plane[max(y - 1, 0)], plane[y], plane[min(y + 1, h - 1)]
        for x in range(w):
            color, left, right = here[x], max(x - 1, 0), min(x + 1, w - 1)
            if here[right] != color or here[left] != color:
                continue
            if above[x] != color or above[left] != color or above[right] != color:
                continue
            if below[x] == color and below[left] == color and below[right] == color:
                inside[color] += 1
    return inside


@njit(nogil=True, cache=True)
@no_type_check
def weigh_areas(counts, inside, pixels, worth, scale):
    """Do as `gpu_kmeans.areas.area_weights` with the pixels inside areas, (n,), known."""
    weights = np.empty(counts.size)
    for i in range(counts.size):
        weight = np.float64(counts[i])
        if inside[i]:
            share = inside[i] / pixels
            weight += worth * np.float64(inside[i]) * np.sqrt(np.sqrt(share))
        weights[i] = np.floor(weight * scale + 0.5)
    return weights


@njit(nogil=True, cache=True)
@no_type_check
def find_heaviest(labels, weights, size):
    """Return of each entry the weight of its colours, that of the heaviest, and which that is."""
    totals, most = np.zeros(size, np.int64), np.zeros(size, np.int64)
    first = np.full(size, labels.size)
    for i in range(labels.size):
        entry, weight = np.uint64(labels[i]), np.int64(weights[i])
        totals[entry] += weight
        if weight > most[entry]:  # of equals the first
            most[entry], first[entry] = weight, i
    return totals, most, first


@njit(nogil=True, cache=True)
@no_type_check
def find_colors(colors, wanted):
    """Return where in colours (n, c), in Morton order, those wanted (m, c) are; n where nowhere."""
    n = len(colors)
    places = np.full(wanted.shape[0], n)
    for i in range(places.size):
        low, high = 0, n
        while low < high:
            middle = (low + high) >> 1
            if _comes_before(colors[middle], wanted[i]):
                low = middle + 1
            else:
                high = middle
        if low < n and (colors[low] == wanted[i]).all():
            places[i] = low
    return places


@njit(nogil=True, cache=True)
@no_type_check
def _comes_before(one, other):
    """Compare Morton codes: the highest bit that differs decides, of equals the first channel's."""
    most, decides = 0, 0
    for j in range(one.size):
        differs = np.int64(one[j]) ^ np.int64(other[j])
        if most < differs and most < (most ^ differs):  # its highest bit is higher
            most, decides = differs, j
    return one[decides] < other[decides]
