"""The loops over points of more than four dimensions, compiled by numba.

Each does the additions of the reference in the reference's order, so to its bits: no sum is split
among lanes; neighbouring lanes are other centroids, or other coordinates.
"""

from typing import no_type_check

import numpy as np
from numba import njit

__all__ = ["add_rows", "compare_rows", "find_nearest"]


@njit(nogil=True, cache=True)
@no_type_check
def compare_rows(points, columns, pairs, first, last):
    """Write squared distances of the points first..last to the centroids, columns (d, k)."""
    for i in range(first, last):
        _compare(points[i], columns, pairs[i])


@njit(nogil=True, cache=True)
@no_type_check
def find_nearest(points, columns, labels, costs, first, last):
    """Find the nearest centroid of the points first..last, the first of equals.

    `costs` (n, 2) takes the squared distances to it and to the second nearest: where there is one
    centroid alone, to that again.
    """
    k = columns.shape[1]
    pairs = np.empty(k, points.dtype)
    for i in range(first, last):
        _compare(points[i], columns, pairs)
        label, nearest, second = 0, pairs[0], pairs[0] if k == 1 else np.inf
        for c in range(1, k):
            if pairs[c] < nearest:
                label, nearest, second = c, pairs[c], nearest
            elif pairs[c] < second:
                second = pairs[c]
        labels[i] = label
        costs[i, 0], costs[i, 1] = nearest, second


@njit(nogil=True, cache=True)
@no_type_check
def add_rows(points, weights, labels, costs, sums, squares):
    """Add up points, in order, by label.

    `sums` (k, d + 3): weight x point, weights, costs, and what the second nearest costs more;
    `squares` (k, d): weight x point squared, unless it is empty.
    """
    d = points.shape[1]
    for i in range(len(points)):
        label, weight = np.uint64(labels[i]), weights[i]  # unsigned: none from the end
        own = sums[label]
        for j in range(d):
            own[j] += np.float64(points[i, j]) * weight
        own[d] += weight
        own[d + 1] += weight * costs[i, 0]
        own[d + 2] += weight * (costs[i, 1] - costs[i, 0])
        if squares.size:
            for j in range(d):
                level = np.float64(points[i, j])
                squares[label, j] += level * level * weight


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _compare(point, columns, pairs):
    d, k = columns.shape
    for c in range(k):
        pairs[c] = 0
    for j in range(d):
        x = point[j]
        for c in range(k):
            difference = x - columns[j, c]
            pairs[c] += difference * difference
