"""The loops of `gpu_kmeans.histogram.coarsen`, compiled by numba.

All sums but those of squares are of whole numbers, so that no order of addition matters: chunks of
colours go side by side. Squares are added as numpy's `add.reduceat` does, which the definition
takes: the answer has its bits.
"""

from typing import no_type_check

import numpy as np
from numba import njit

LEVELS = 8  # bits of a channel
UNROLLED = 8  # numpy adds so many numbers side by side


@njit(nogil=True, cache=True)
@no_type_check
def count_cells(colors, rows, changes):
    """Return how many cells begin in the rows rows[0]..rows[1], for each shift from the finest.

    Writes there, (n,) uint8, the bits in which any channel differs from that of the colour before.
    """
    seen = np.zeros(1 << LEVELS, np.int64)
    for i in range(rows[0], rows[1]):
        changed = colors.dtype.type(0) if i else colors.dtype.type((1 << LEVELS) - 1)
        for j in range(colors.shape[1] if i else 0):
            changed |= colors[i, j] ^ colors[i - 1, j]
        changes[i] = changed
        seen[changed] += 1
    begins = np.empty(LEVELS, np.int64)
    for shift in range(LEVELS):
        begins[shift] = seen[1 << shift :].sum()
    return begins


@njit(nogil=True, cache=True)
@no_type_check
def sum_cells(colors, features, weights, rows, changes, shift, cells, corners, sums, masses):
    """Write the cells cells[0]..cells[1], which begin in these rows, and add up.

    corners (m, c) uint8, what cells' colours have in common; sums (c, m) of features x weights, and
    masses (m,), of each cell's rows among these. Returns what belongs to the cell before the first:
    its mass, then its sums.
    """
    count, channels = cells[1] - cells[0], features.shape[1]
    starts, found, least = np.empty(count + 1, np.int64), 0, 1 << shift
    for i in range(rows[0], rows[1]):  # no branch depends on what cannot be foreseen
        starts[found] = i
        found += changes[i] >= least
    starts[count] = rows[1]
    before = _sum_rows(features, weights, rows[0], starts[0])
    for i in range(count):
        cell, first = cells[0] + i, starts[i]
        found_here = _sum_rows(features, weights, first, starts[i + 1])
        masses[cell] = found_here[0]
        for j in range(channels):
            sums[j, cell] = found_here[j + 1]
            corners[cell, j] = colors[first, j] >> shift
    return before


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _sum_rows(features, weights, first, last):
    has_fourth = features.shape[1] == 4  # noqa: PLR2004
    mass = s0 = s1 = s2 = s3 = 0.0
    for i in range(first, last):
        weight = weights[i]
        mass += weight
        s0 += weight * np.float64(features[i, 0])
        s1 += weight * np.float64(features[i, 1])
        s2 += weight * np.float64(features[i, 2])
        if has_fourth:
            s3 += weight * np.float64(features[i, 3])
    return mass, s0, s1, s2, s3


@njit(nogil=True, cache=True)
@no_type_check
def rate_parents(codes, sums, masses):
    """Return of each parent of several cells its scatter, how many it saves, and its leaves.

    codes (m,), sums (c, m), masses (m,): those of the leaves. Leaves: (2, parents), first and end.
    """
    (channels, size), found = sums.shape, 0
    codes, sums, masses = codes.copy(), sums.copy(), masses.copy()
    squares, firsts = np.empty(size), np.arange(size + 1)
    scatters, saved = np.empty(size), np.empty(size, np.int64)
    leaves = np.empty((2, size), np.int64)
    for i in range(size):
        squares[i] = _scalar_product(sums, i) / masses[i]
    while size > 1:  # parents are written over their children
        end, parents, all_leaves = 0, 0, firsts[size]
        while end < size:
            first, code = end, codes[end] >> channels
            while end < size and codes[end] >> channels == code:
                end += 1
            squares[parents] = _sum_as_numpy(squares, first, end)
            codes[parents], firsts[parents] = code, firsts[first]
            masses[parents] = _sum_whole(masses, first, end)
            for j in range(channels):
                sums[j, parents] = _sum_whole(sums[j], first, end)
            if end - first > 1:
                product = _scalar_product(sums, parents)
                scatters[found] = squares[parents] - product / masses[parents]
                saved[found] = end - first - 1
                leaves[0, found], leaves[1, found] = firsts[parents], firsts[end]
                found += 1
            parents += 1
        size = parents
        firsts[size] = all_leaves
    return scatters[:found], saved[:found], leaves[:, :found]


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _scalar_product(vectors, i):
    product = vectors[0, i] * vectors[0, i]
    for j in range(1, vectors.shape[0]):
        product += vectors[j, i] * vectors[j, i]
    return product


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _sum_whole(values, first, end):
    total = values[first]
    for i in range(first + 1, end):
        total += values[i]
    return total


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _sum_as_numpy(values, first, end):
    """Add up to 16: to the first the sum of the others, of these eight side by side if so many."""
    if end - first == 1:
        return values[first]
    rest, i = values[first + 1], first + 2
    if end - first > UNROLLED:
        r = values[first + 1 : first + 1 + UNROLLED]
        rest = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]))
        i = first + 1 + UNROLLED
    while i < end:
        rest += values[i]
        i += 1
    return values[first] + rest


@njit(nogil=True, cache=True)
@no_type_check
def merge_cells(sums, masses, scatters, leaves, limit):
    """Merge the leaves of parents that scatter no more than the limit; return points and masses."""
    channels, size = sums.shape
    begins = np.ones(size, np.bool_)
    for i in range(scatters.size):
        if scatters[i] <= limit:
            begins[leaves[0, i] + 1 : leaves[1, i]] = False
    count = begins.sum()
    points, weights, p = np.zeros((count, channels)), np.zeros(count), -1
    for i in range(size):
        p += begins[i]
        weights[p] += masses[i]
        for j in range(channels):
            points[p, j] += sums[j, i]
    for p in range(count):
        for j in range(channels):
            points[p, j] = np.floor(points[p, j] / weights[p] + 0.5)
    return points, weights
