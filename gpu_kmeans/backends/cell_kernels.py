"""The loops of `gpu_kmeans.histogram.coarsen` that see every colour, compiled by numba.

All numbers are whole, so that no order of addition matters: chunks of colours go side by side.
"""

from typing import no_type_check

import numpy as np
from numba import njit

LEVELS = 8  # bits of a channel


@njit(nogil=True, cache=True)
@no_type_check
def count_cells(colors, rows):
    """Return how many cells begin in the rows rows[0]..rows[1], for each shift from the finest."""
    changes = np.zeros(1 << LEVELS, np.int64)
    for i in range(rows[0], rows[1]):
        changes[_change(colors, i)] += 1
    begins = np.empty(LEVELS, np.int64)
    for shift in range(LEVELS):
        begins[shift] = changes[1 << shift :].sum()
    return begins


@njit(nogil=True, cache=True)
@no_type_check
def sum_cells(colors, features, weights, rows, shift, first, starts, sums, masses):
    """Write where the cells begin that do so in these rows, from the cell `first` on, and add up.

    starts (cells,); sums (c, cells) of features x weights, and masses (cells,), of each cell's rows
    among these. Returns what belongs to the cell before the first: its mass, then its four sums.
    """
    before, has_fourth = np.zeros(5), features.shape[1] == 4  # noqa: PLR2004
    mass = s0 = s1 = s2 = s3 = 0.0  # in registers, which an array's elements are not
    cell = first - 1
    for i in range(rows[0], rows[1]):
        if _change(colors, i) >> shift:
            _put(cell, first, (mass, s0, s1, s2, s3), before, sums, masses)
            cell += 1
            starts[cell] = i
            mass = s0 = s1 = s2 = s3 = 0.0
        weight = weights[i]
        mass += weight
        s0 += weight * np.float64(features[i, 0])
        s1 += weight * np.float64(features[i, 1])
        s2 += weight * np.float64(features[i, 2])
        if has_fourth:
            s3 += weight * np.float64(features[i, 3])
    _put(cell, first, (mass, s0, s1, s2, s3), before, sums, masses)
    return before


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _change(colors, i):
    """Return the bits in which any channel differs from that of the colour before."""
    if i == 0:
        return np.int64((1 << LEVELS) - 1)
    changed = np.int64(0)
    for j in range(colors.shape[1]):
        changed |= np.int64(colors[i, j] ^ colors[i - 1, j])
    return changed


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _put(cell, first, added, before, sums, masses):
    if cell < first:
        for j in range(5):
            before[j] = added[j]
        return
    masses[cell] = added[0]
    for j in range(sums.shape[0]):
        sums[j, cell] = added[j + 1]
