"""The loops that compare two pictures, compiled by numba: both are looked at once."""

from typing import no_type_check

import numpy as np
from numba import njit

__all__ = ["block_moments", "squared_error"]


@njit(nogil=True, cache=True)
@no_type_check
def squared_error(before, inverse, after, indices, rows):
    """Return the sum of squared differences in the rows rows[0]..rows[1]."""
    total, channels = np.int64(0), before.shape[1]
    for y in range(rows[0], rows[1]):
        for x in range(inverse.shape[1]):
            a, b = np.uint64(inverse[y, x]), np.uint64(indices[y, x])  # unsigned: none from the end
            for j in range(channels):
                missed = np.int64(before[a, j]) - np.int64(after[b, j])
                total += missed * missed
    return total


@njit(nogil=True, cache=True)
@no_type_check
def block_moments(before, inverse, after, indices, block):
    """Return what `Backend.block_moments` does, of the picture and of its half."""
    h, w = inverse.shape
    unit = 2 * block
    rows, columns = max(2, (h + unit - 1) // unit), max(2, (w + unit - 1) // unit)
    whole = np.zeros((2 * rows, 2 * columns, 12), np.int64)
    half = np.zeros((rows, columns, 12), np.int64)
    xs, ys = before.astype(np.int32), after.astype(np.int32)
    x, y = np.zeros((columns * block, 3), np.int64), np.zeros((columns * block, 3), np.int64)
    for v in range(rows * block):  # pairs of rows
        x[:] = 0
        y[:] = 0
        for t in range(2 * v, 2 * v + 2):
            t_in = min(t, h - 1)
            for s in range(columns * unit):
                s_in = min(s, w - 1)
                a, b = inverse[t_in, s_in], indices[t_in, s_in]
                a0, a1, a2 = np.int64(xs[a, 0]), np.int64(xs[a, 1]), np.int64(xs[a, 2])
                b0, b1, b2 = np.int64(ys[b, 0]), np.int64(ys[b, 1]), np.int64(ys[b, 2])
                _add(whole[t // block, s // block], a0, a1, a2, b0, b1, b2)
                p = s // 2
                x[p, 0] += a0
                x[p, 1] += a1
                x[p, 2] += a2
                y[p, 0] += b0
                y[p, 1] += b1
                y[p, 2] += b2
        for p in range(columns * block):
            sums = half[v // block, p // block]
            _add(sums, x[p, 0], x[p, 1], x[p, 2], y[p, 0], y[p, 1], y[p, 2])
    return whole.transpose(2, 0, 1).copy(), half.transpose(2, 0, 1).copy()


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _add(sums, a0, a1, a2, b0, b1, b2):
    sums[0] += a0
    sums[1] += a1
    sums[2] += a2
    sums[3] += b0
    sums[4] += b1
    sums[5] += b2
    sums[6] += a0 * a0
    sums[7] += b0 * b0
    sums[8] += a0 * b0
    sums[9] += a1 * a1 + a2 * a2
    sums[10] += b1 * b1 + b2 * b2
    sums[11] += a1 * b1 + a2 * b2
