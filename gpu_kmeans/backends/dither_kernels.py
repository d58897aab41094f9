"""The loops of the CPU backend that choose entries pixel by pixel, compiled by numba.

All numbers are whole, so that no order of operations matters. Colours and entries come as rows of
four int16, one cache line for each. Who may be nearest to a target is found once for each cell of
the colour space: `starts` says where in `lists` a cell's candidates are (how many, then which),
`used[0]` how much of it is taken. These belong to one thread and outlive a call. Targets stay in a
box about the picture's colours, `box` being its low and high corner; `grid` says how its cells are
numbered: what a step to the next counts in each dimension, the number of the cell at 0, and the
shift from grid steps to cells.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends.kernels import COMPARE, box_bounds, survivors

FINEST_SHIFT = 5  # cells of 32 grid steps, larger where that would make too many
MOST_CELLS = 1 << 18
BLOCK = 4  # candidates that are compared without a branch; lists are padded to it with the first
_HUGE = np.float32(3e38)


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _list_candidates(target, palette, shift, cell, starts, lists, used):
    """Find who may be nearest in the cell of a target; no list where there is no room for it."""
    k = palette.shape[0]
    if used[0] + k + BLOCK + 1 > lists.size:
        return
    corner, across = np.zeros(4, np.float32), np.empty((4, k), np.float32)
    width = np.float32((1 << shift) - 1)
    for j in range(4):
        corner[j] = target[j] >> shift << shift
        for c in range(k):
            across[j, c] = palette[c, j]
    near, far = np.empty(k, np.float32), np.empty(k, np.float32)
    kept = np.empty(k + BLOCK, np.int32)
    box_bounds(corner, corner + width, across, k, near, far)
    count = survivors(near, far, k, 1, kept, _HUGE)
    while count % BLOCK:
        kept[count] = kept[0]
        count += 1
    first = used[0]
    starts[cell], lists[first] = first, count
    lists[first + 1 : first + 1 + count] = kept[:count]
    used[0] += count + 1


@njit(nogil=True, cache=True)
@no_type_check
def _nearest(target, palette, grid, starts, lists, used):
    """Return the first of the entries nearest to a target on the grid.

    Distance and index are one number, so that the least of several is found without branching.
    """
    shift, cell = grid[5], -grid[4]
    for j in range(4):
        cell += (target[j] >> shift) * grid[j]
    if starts[cell] < 0:
        _list_candidates(target, palette, shift, cell, starts, lists, used)
    first, best = starts[cell], np.int64(1) << 62
    t0, t1, t2, t3 = target[0], target[1], target[2], target[3]
    if first < 0:
        for c in range(palette.shape[0]):
            d0, d1, d2, d3 = (
                t0 - palette[c, 0],
                t1 - palette[c, 1],
                t2 - palette[c, 2],
                t3 - palette[c, 3],
            )
            best = min(best, (d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3) << 8 | c)
        return best & 255
    for q in range(first + 1, first + 1 + lists[first], BLOCK):
        for r in range(BLOCK):  # unrolled by the compiler: mostly there is one block, no guessing
            c = np.int64(lists[q + r])
            d0, d1, d2, d3 = (
                t0 - palette[c, 0],
                t1 - palette[c, 1],
                t2 - palette[c, 2],
                t3 - palette[c, 3],
            )
            best = min(best, (d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3) << 8 | c)
    return best & 255


@njit(nogil=True, cache=True)
@no_type_check
def diffuse(
    table,
    inverse,
    palette,
    box,
    grid,
    strength,
    dimensions,
    own,
    rows,
    indices,
    starts,
    lists,
    used,
):
    """Write palette indices of the rows rows[0]..rows[1] with Floyd-Steinberg diffusion.

    table (n, 4) and palette (k, 4): missing dimensions 0.
    """
    w = inverse.shape[1]
    passed = np.zeros((2, w + 2, 4), np.int32)  # errors on their way down, in sixteenths
    target = np.zeros(4, np.int64)
    for y in range(rows[0], rows[1]):
        here, below = passed[y % 2], passed[(y + 1) % 2]
        below[:] = 0
        for x in range(w):
            color = inverse[y, x]
            if own[color] >= 0:
                indices[y, x] = own[color]
                continue
            for j in range(dimensions):
                value = table[color, j] + ((here[x + 1, j] + 8) >> 4)
                target[j] = min(max(value, box[0, j]), box[1, j])
            best = _nearest(target, palette, grid, starts, lists, used)
            indices[y, x] = best
            for j in range(dimensions):
                missed = np.float64(target[j] - palette[best, j])
                error = np.int32(np.floor(missed * strength + 0.5))
                here[x + 2, j] += 7 * error
                below[x, j] += 3 * error
                below[x + 1, j] += 5 * error
                below[x + 2, j] += error


@njit(nogil=True, cache=True)
@no_type_check
def measure_misses(table, inverse, palette, indices, dimensions, rows, misses):
    """Write entry minus colour of each pixel; misses (h + 4, d, w + 4) has a rim of zeros."""
    for y in range(rows[0], rows[1]):
        for x in range(inverse.shape[1]):
            color, entry = inverse[y, x], indices[y, x]
            for j in range(dimensions):
                misses[y + 2, j, x + 2] = palette[entry, j] - table[color, j]


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _blur_about(misses, y, about, others):
    """Write what the two rows above and below a row miss, blurred, at each of its pixels."""
    four, six = np.float32(4), np.float32(6)
    w = others.shape[1]
    for j in range(others.shape[0]):
        a, b, c, d = misses[y, j], misses[y + 1, j], misses[y + 3, j], misses[y + 4, j]
        for x in range(w + 4):
            outer = np.float32(a[x]) + np.float32(d[x])
            about[x] = outer + four * (np.float32(b[x]) + np.float32(c[x]))
        for x in range(w):
            outer, inner = about[x] + about[x + 4], about[x + 1] + about[x + 3]
            others[j, x] = outer + four * inner + six * about[x + 2]


@njit(nogil=True, cache=True)
@no_type_check
def reconsider(
    table,
    inverse,
    palette,
    box,
    grid,
    share,
    dimensions,
    own,
    phase,
    rows,
    indices,
    misses,
    starts,
    lists,
    used,
):
    """Choose again for every third row, every third pixel at a time, with what others miss in view.

    What the rows above and below miss does not change meanwhile.
    """
    w = inverse.shape[1]
    about = np.empty(w + 4, np.float32)
    others = np.empty((dimensions, w), np.float32)
    target = np.zeros(4, np.int64)
    for y in range(rows[0] + (phase - rows[0]) % 3, rows[1], 3):
        _blur_about(misses, y, about, others)
        line = misses[y + 2]
        for first in range(3):
            for x in range(first, w, 3):
                color = inverse[y, x]
                if own[color] >= 0:
                    continue
                for j in range(dimensions):
                    beside = line[j, x] + line[j, x + 4] + 4 * (line[j, x + 1] + line[j, x + 3])
                    missed = np.float64(others[j, x]) + 6 * beside
                    value = table[color, j] - np.int64(np.floor(missed * share + 0.5))
                    target[j] = min(max(value, box[0, j]), box[1, j])
                best = _nearest(target, palette, grid, starts, lists, used)
                if best != indices[y, x]:
                    indices[y, x] = best
                    for j in range(dimensions):
                        line[j, x + 2] = palette[best, j] - table[color, j]


@njit(nogil=True, cache=True)
@no_type_check
def blurred_moments(table, inverse, indices, k, blur, dimensions, rows):
    """Return what lies about each entry: other entries (k, k), the picture's colours (k, d).

    Of each pair of pixels only one way is counted: the caller adds the transpose, but not of the
    diagonal of pixels with themselves, which is returned by itself.
    """
    h, w = inverse.shape
    meetings, counts = np.zeros((k, k), np.int64), np.zeros(k, np.int64)
    sums = np.zeros((k, dimensions), np.int64)
    column = np.zeros(w + 4, np.int64)
    for y in range(rows[0], rows[1]):
        for x in range(w):
            entry = indices[y, x]
            counts[entry] += 1
            for v in range(min(3, h - y)):
                for u in range(max(-2, -x) if v else 1, min(3, w - x)):
                    meetings[entry, indices[y + v, x + u]] += blur[v + 2] * blur[u + 2]
        for j in range(dimensions):
            for x in range(w):
                column[x + 2] = 0
            for v in range(max(0, y - 2), min(h, y + 3)):
                for x in range(w):
                    column[x + 2] += blur[v - y + 2] * table[inverse[v, x], j]
            for x in range(w):
                total = column[x] + column[x + 4] + 4 * (column[x + 1] + column[x + 3])
                sums[indices[y, x], j] += total + 6 * column[x + 2]
    return meetings, counts, sums
