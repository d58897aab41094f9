"""The search on few points, compiled: `gpu_kmeans.refinement` defines it.

Several breaths may run side by side in threads: nothing here takes the interpreter lock.
Every operation comes in the order of the definition, so the answer has its bits.

A layout is what `gpu_kmeans.backends.layouts.Layout.search_layout` returns, of either kind.
"""

from typing import no_type_check

import numpy as np
from numba import njit, types
from numba.extending import overload

from gpu_kmeans.backends import kernels, whole_kernels
from gpu_kmeans.color import GRID

MASS, WCSS, _SQUARES, _UTILITY = 4, 5, 6, 10  # columns of the tables of all passes


@njit(nogil=True, cache=True)
@no_type_check
def breathe(
    layout, is_integral, centroids, wcss, extra, luck, d, steps_in, steps_out, still, reach
):  # fmt: skip
    """Return the best of before and after breaths, centroids (4, k) and their WCSS.

    extra (breaths,), luck (lanes, breaths, k): all lanes of a breath start from the best so far.
    """
    for i in range(extra.size):
        table = _with_squares(layout, centroids)
        best, lowest = centroids, wcss
        for lane in range(luck.shape[0]):
            wider = _split_widest(table, centroids, extra[i], luck[lane, i], d, is_integral, reach)
            wider, _ = settle(layout, is_integral, wider, steps_in, still, False)
            missed = _with_utility(layout, wider)
            narrower = _drop_least_useful(missed, wider, extra[i], d, is_integral)
            candidate, lower = settle(layout, is_integral, narrower, steps_out, still, True)
            if lower < lowest:
                best, lowest = candidate, lower
        centroids, wcss = best, lowest
    return centroids, wcss


@njit(nogil=True, cache=True)
@no_type_check
def grow(layout, is_integral, centroids, extra, luck, d, steps_in, steps_out, still, reach):
    """Return centroids (4, k + 1): the widest cluster split, all settled, and one breath taken."""
    table = _with_squares(layout, centroids)
    even = np.ones(centroids.shape[1])
    wider = _split_widest(table, centroids, 1, even, d, is_integral, reach)
    settled, wcss = settle(layout, is_integral, wider, steps_out, still, True)
    best, _ = breathe(
        layout, is_integral, settled, wcss, extra, luck, d, steps_in, steps_out, still, reach
    )
    return best


@njit(nogil=True, cache=True)
@no_type_check
def settle(layout, is_integral, centroids, steps, still, is_measured):
    """Return centroids (4, k) after up to `steps` passes, and the WCSS of the last measured.

    They move by `gpu_kmeans.distances.place_beyond`. Where it is not to be measured how they end,
    the last pass is left out: it moves nothing.
    """
    previous = np.float64(0)
    current, last = centroids, centroids
    for step in range(steps):
        if step == steps - 1 and not is_measured:
            return current, previous
        table = plain(layout, current)
        wcss = table[:, WCSS].sum()
        if step and previous - wcss <= still * wcss:
            return current, wcss
        previous, last = wcss, current
        current = current.copy()
        for c in range(current.shape[1]):
            if table[c, MASS] > 0:
                for j in range(4):
                    mean = table[c, j] / table[c, MASS]
                    current[j, c] = place_beyond(np.float64(last[j, c]), mean, is_integral)
    return last, previous


@no_type_check
def plain(layout, centroids):
    """Pass over all points, in one thread."""


@no_type_check
def _with_squares(layout, centroids):
    """Do likewise, and add up squares."""


@no_type_check
def _with_utility(layout, centroids):
    """Do likewise, and find out what each centroid is good for."""


def _is_whole(layout):
    """Tell the layout of whole numbers, which has one tuple for all passes, by its type."""
    return isinstance(layout[0], types.BaseTuple)


@overload(plain)
@no_type_check
def _plain_of(layout, centroids):
    if _is_whole(layout):
        return lambda layout, centroids: whole_kernels.assign(
            layout[0], centroids, (0, layout[0][1].shape[0]), np.empty(0, np.int32)
        )
    return lambda layout, centroids: kernels.assign(
        layout[0], layout[1], layout[2], layout[3], centroids, (0, layout[2].shape[2]),
        np.empty(0, np.int32), layout[4],
    )  # fmt: skip


@overload(_with_squares)
@no_type_check
def _with_squares_of(layout, centroids):
    if _is_whole(layout):
        return lambda layout, centroids: whole_kernels.assign_squares(
            layout[0], layout[1], centroids
        )
    return _in_detail


@overload(_with_utility)
@no_type_check
def _with_utility_of(layout, centroids):
    if _is_whole(layout):
        return lambda layout, centroids: whole_kernels.assign_utility(
            layout[0], layout[2], centroids
        )
    return _in_detail


@no_type_check
def _in_detail(layout, centroids):
    return kernels.assign_detail(
        layout[0], layout[1], layout[2], layout[3], centroids, (0, layout[2].shape[2]),
        np.empty(0, np.int32), layout[4],
    )  # fmt: skip


@njit(nogil=True, cache=True)
@no_type_check
def place_beyond(old, mean, is_integral):
    """Do as `gpu_kmeans.distances.place_beyond` for one coordinate."""
    step = mean - old
    beyond = mean + (step - step * 0.25)
    if not is_integral:
        return beyond
    beyond = np.floor(beyond + 0.5)
    is_too_far = abs(beyond - mean) > abs(step) or beyond < 0 or beyond > GRID
    return np.floor(mean + 0.5) if is_too_far else beyond


@njit(nogil=True, cache=True)
@no_type_check
def _split_widest(table, centroids, extra, luck, d, is_integral, reach):
    """Split the clusters that gain most; the other halves follow the centroids, moved to means."""
    k = centroids.shape[1]
    means, halves = np.zeros((k, 4)), np.zeros(k)
    coordinate, losses = np.zeros(k, np.int64), np.zeros(k)
    for c in range(k):
        mass = table[c, MASS]
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
        mass = table[c, MASS]
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
