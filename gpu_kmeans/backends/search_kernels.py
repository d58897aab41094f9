"""One breath of the search, compiled: `gpu_kmeans.refinement.breathe_by_steps` defines it.

Several may run side by side in threads: nothing here takes the interpreter lock.
Every operation comes in the order of the definition, so the answer has its bits.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends.kernels import assign_detail, settle

_MASS, _SQUARES, _UTILITY = 4, 6, 10  # columns of the table of `assign_detail`


@njit(nogil=True, cache=True)
@no_type_check
def breathe(
    points, weights, boxes, sums, centroids, chunk, labels, is_integral, huge,
    wcss, extra, luck, d, steps_in, steps_out, still, reach,
):  # fmt: skip
    """Return the better of before and after one breath, centroids (4, k) and their WCSS."""
    table = assign_detail(points, weights, boxes, sums, centroids, chunk, labels, is_integral, huge)
    wider = _split_widest(table, centroids, extra, luck, d, is_integral, reach)
    wider, _ = settle(
        points, weights, boxes, sums, wider, chunk, labels, is_integral, huge, steps_in, still
    )
    table = assign_detail(points, weights, boxes, sums, wider, chunk, labels, is_integral, huge)
    narrower = _drop_least_useful(table, wider, extra, d, is_integral)
    candidate, lower = settle(
        points, weights, boxes, sums, narrower, chunk, labels, is_integral, huge, steps_out, still
    )
    if lower < wcss:
        return candidate, lower
    return centroids, wcss


@njit(nogil=True, cache=True)
@no_type_check
def grow(
    points, weights, boxes, sums, centroids, chunk, labels, is_integral, huge,
    extra, luck, d, steps_in, steps_out, still, reach,
):  # fmt: skip
    """Return centroids (4, k + 1): the widest cluster split, all settled, and one breath taken."""
    table = assign_detail(points, weights, boxes, sums, centroids, chunk, labels, is_integral, huge)
    even = np.ones(centroids.shape[1])
    wider = _split_widest(table, centroids, 1, even, d, is_integral, reach)
    settled, wcss = settle(
        points, weights, boxes, sums, wider, chunk, labels, is_integral, huge, steps_out, still
    )
    best, _ = breathe(
        points, weights, boxes, sums, settled, chunk, labels, is_integral, huge,
        wcss, extra, luck, d, steps_in, steps_out, still, reach,
    )  # fmt: skip
    return best


@njit(nogil=True, cache=True)
@no_type_check
def _split_widest(table, centroids, extra, luck, d, is_integral, reach):
    """Split the clusters that gain most; the other halves follow the centroids, moved to means."""
    k = centroids.shape[1]
    means, halves = np.zeros((k, 4)), np.zeros(k)
    coordinate, losses = np.zeros(k, np.int64), np.zeros(k)
    for c in range(k):
        mass = table[c, _MASS]
        divisor = mass if mass > 0 else 1.0
        widest = -np.inf
        for j in range(d):
            mean = table[c, j] / divisor
            variance = table[c, _SQUARES + j] / divisor - mean * mean
            means[c, j] = mean if mass > 0 else centroids[j, c]
            if variance > widest:
                widest, coordinate[c] = variance, j
        widest = max(widest, 0.0)
        losses[c] = -(mass * widest / luck[c])
        halves[c] = reach * np.sqrt(widest)
    split = np.argsort(losses, kind="mergesort")[:extra]
    wider = np.zeros((4, k + len(split)), centroids.dtype)
    moved = np.zeros(k)
    for c in split:
        moved[c] = halves[c]
    for c in range(k):
        for j in range(d):
            half = moved[c] if j == coordinate[c] else 0.0
            wider[j, c] = _placed(means[c, j] + half, is_integral)
    for i in range(len(split)):
        c = split[i]
        for j in range(d):
            half = halves[c] if j == coordinate[c] else 0.0
            wider[j, k + i] = _placed(means[c, j] - half, is_integral)
    return wider


@njit(nogil=True, cache=True)
@no_type_check
def _drop_least_useful(table, centroids, extra, d, is_integral):
    """Remove the centroids missed least, but not the nearest neighbours of those; move the rest."""
    m = centroids.shape[1]
    gone, needed, left = np.zeros(m, np.bool_), np.zeros(m, np.bool_), extra
    order = np.argsort(table[:, _UTILITY].copy(), kind="mergesort")
    for c in order:
        if left and not needed[c]:
            gone[c] = True
            needed[_nearest_other(centroids, c, d)] = True
            left -= 1
    for c in order:  # where neighbours need each other all around, usefulness alone decides
        if left and not gone[c]:
            gone[c] = True
            left -= 1
    narrower = np.zeros((4, m - extra), centroids.dtype)
    i = 0
    for c in range(m):
        if gone[c]:
            continue
        mass = table[c, _MASS]
        for j in range(d):
            value = table[c, j] / mass if mass > 0 else np.float64(centroids[j, c])
            narrower[j, i] = _placed(value, is_integral)
        i += 1
    return narrower


@njit(nogil=True, cache=True)
@no_type_check
def _nearest_other(centroids, c, d):
    nearest, smallest = 0, np.inf
    for other in range(centroids.shape[1]):
        distance = centroids[0, c] - centroids[0, c]
        for j in range(d):
            difference = centroids[j, c] - centroids[j, other]
            distance += difference * difference
        if other != c and distance < smallest:
            nearest, smallest = other, np.float64(distance)
    return nearest


@njit(nogil=True, cache=True)
@no_type_check
def _placed(value, is_integral):
    return np.floor(value + 0.5) if is_integral else value
