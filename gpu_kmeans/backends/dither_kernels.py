"""The loops of the CPU backend that choose entries pixel by pixel, compiled by numba.

All numbers are whole, so that no order of operations matters. Colours and entries come as rows of
four int16, missing dimensions 0. Who may be nearest to a target is found once for each cell of the
colour space: `starts` says where in `lists` a cell's candidates are, in blocks as
`gpu_kmeans.backends.vectors` compares them, and how many blocks; `used[0]` how many are taken. The
first blocks are all entries, for the cells that come when there is no room. These belong to one
thread and outlive a call. Targets stay in a box about the picture's colours, `box` being its low
and high corner; `grid` says how its cells are numbered: what a step to the next counts in each
dimension, the number of the cell at 0, and the shift from grid steps to cells.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends import DIFFUSION_ROWS, SHARE_BITS
from gpu_kmeans.backends.kernels import COMPARE, box_bounds, survivors
from gpu_kmeans.backends.vectors import BLOCK_SIZE, LANES, nearest_of_block

FINEST_SHIFT = 6  # cells of 64 grid steps, larger where that would make too many
MOST_CELLS = 1 << 18
_COUNT_BITS = 6  # of a start: how many blocks; the rest is which is the first
_HUGE = np.float32(3e38)
_HALF = 1 << SHARE_BITS - 1


@njit(nogil=True, cache=True)
@no_type_check
def _add_blocks(palette, kept, count, lists, used):
    """Append a list of candidates, the last block filled up with its first; return its start."""
    blocks = -(-count // LANES)
    for q in range(blocks * LANES):
        c = kept[q if q < count else q - q % LANES]
        at = (used[0] + q // LANES) * BLOCK_SIZE + q % LANES
        lists[at] = palette[c, 0] | palette[c, 1] << 16
        lists[at + LANES] = palette[c, 2] | palette[c, 3] << 16
        lists[at + 2 * LANES] = c
    used[0] += blocks
    return (used[0] - blocks) << _COUNT_BITS | blocks


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _list_candidates(t0, t1, t2, t3, palette, shift, lists, used):
    """Find who may be nearest in the cell of a target; all of them where there is no room."""
    k = palette.shape[0]
    if not used[0]:
        _add_blocks(palette, np.arange(k), k, lists, used)
    if (used[0] * LANES + k + LANES) * BLOCK_SIZE > lists.size * LANES:
        return -(-k // LANES)
    corner, across = np.empty(4, np.float32), np.empty((4, k), np.float32)
    corner[0], corner[1] = t0 >> shift << shift, t1 >> shift << shift
    corner[2], corner[3] = t2 >> shift << shift, t3 >> shift << shift
    width = np.float32((1 << shift) - 1)
    for j in range(4):
        for c in range(k):
            across[j, c] = palette[c, j]
    near, far = np.empty(k, np.float32), np.empty(k, np.float32)
    kept = np.empty(k + 1, np.int32)
    box_bounds(corner, corner + width, across, k, near, far)
    return _add_blocks(palette, kept, survivors(near, far, k, 1, kept, _HUGE), lists, used)


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _nearest(start, pair01, pair23, lists):
    """Return the first of the entries nearest to a target, of those in its cell's list.

    Distance and index are one number, so that the least of several is found without branching.
    """
    first, blocks = start >> _COUNT_BITS, start & ((1 << _COUNT_BITS) - 1)
    best = np.int64(nearest_of_block(lists, first * BLOCK_SIZE, pair01, pair23))
    for block in range(first + 1, first + blocks):
        best = min(best, np.int64(nearest_of_block(lists, block * BLOCK_SIZE, pair01, pair23)))
    return best & 255


@njit(nogil=True, cache=True)
@no_type_check
def diffuse(
    table, own, inverse, palette, box, grid, share, rows, indices, misses, starts, lists, used
):
    """Write palette indices of the rows rows[0]..rows[1] with Floyd-Steinberg diffusion.

    misses (h + 4, d, w + 4) int16 gets entry minus colour of each pixel, where it is not empty.
    """
    w, d, is_measured = inverse.shape[1], misses.shape[1], misses.shape[0] > 0
    passed = np.zeros((2, w + 2, 4), np.int32)  # errors on their way down, in sixteenths
    values, fixed = np.empty((w, 4), np.int16), np.empty(w, np.int16)
    for y in range(rows[0], rows[1]):
        here, below = passed[y % 2], passed[(y + 1) % 2]
        if y % DIFFUSION_ROWS == 0:
            here[:] = 0
        line = indices[y]
        for x in range(w):  # beforehand, as nothing waits for it: in the loop below all would
            color = inverse[y, x]
            fixed[x] = own[color]
            for j in range(4):
                values[x, j] = table[color, j]
        a0 = a1 = a2 = a3 = np.int32(0)  # on its way to the pixel right of the last
        b0 = b1 = b2 = b3 = np.int32(0)  # to the pixel below the last, complete but for the next
        c0 = c1 = c2 = c3 = np.int32(0)  # to the one right of that
        for x in range(w):
            e0 = e1 = e2 = e3 = np.int32(0)
            if fixed[x] >= 0:
                line[x] = fixed[x]
            else:
                t0 = values[x, 0] + ((here[x + 1, 0] + a0 + 8) >> 4)
                t1 = values[x, 1] + ((here[x + 1, 1] + a1 + 8) >> 4)
                t2 = values[x, 2] + ((here[x + 1, 2] + a2 + 8) >> 4)
                t3 = values[x, 3] + ((here[x + 1, 3] + a3 + 8) >> 4)
                t0 = np.int32(min(max(t0, box[0, 0]), box[1, 0]))
                t1 = np.int32(min(max(t1, box[0, 1]), box[1, 1]))
                t2 = np.int32(min(max(t2, box[0, 2]), box[1, 2]))
                t3 = np.int32(min(max(t3, box[0, 3]), box[1, 3]))
                cell = (
                    (t0 >> grid[5]) * grid[0]
                    + (t1 >> grid[5]) * grid[1]
                    + (t2 >> grid[5]) * grid[2]
                    + (t3 >> grid[5]) * grid[3]
                ) - grid[4]
                start = starts[cell]
                if start < 0:
                    start = starts[cell] = _list_candidates(
                        t0, t1, t2, t3, palette, grid[5], lists, used
                    )
                best = _nearest(start, t0 | t1 << 16, t2 | t3 << 16, lists)
                line[x] = best
                e0 = np.int32(((t0 - palette[best, 0]) * share + _HALF) >> SHARE_BITS)
                e1 = np.int32(((t1 - palette[best, 1]) * share + _HALF) >> SHARE_BITS)
                e2 = np.int32(((t2 - palette[best, 2]) * share + _HALF) >> SHARE_BITS)
                e3 = np.int32(((t3 - palette[best, 3]) * share + _HALF) >> SHARE_BITS)
                if is_measured:
                    for j in range(d):
                        misses[y + 2, j, x + 2] = palette[best, j] - values[x, j]
            below[x, 0], below[x, 1] = b0 + 3 * e0, b1 + 3 * e1
            below[x, 2], below[x, 3] = b2 + 3 * e2, b3 + 3 * e3
            b0, b1, b2, b3 = c0 + 5 * e0, c1 + 5 * e1, c2 + 5 * e2, c3 + 5 * e3
            c0, c1, c2, c3 = e0, e1, e2, e3
            a0, a1, a2, a3 = 7 * e0, 7 * e1, 7 * e2, 7 * e3
        below[w, 0], below[w, 1], below[w, 2], below[w, 3] = b0, b1, b2, b3


@njit(nogil=True, cache=True)
@no_type_check
def _blur_about(misses, y, about, others):
    """Write what the two rows above and below a row miss, blurred, at each of its pixels."""
    w = others.shape[1]
    for j in range(others.shape[0]):
        a, b, c, d = misses[y, j], misses[y + 1, j], misses[y + 3, j], misses[y + 4, j]
        for x in range(w + 4):
            about[x] = np.int32(a[x]) + np.int32(d[x]) + 4 * (np.int32(b[x]) + np.int32(c[x]))
        for x in range(w):
            outer, inner = about[x] + about[x + 4], about[x + 1] + about[x + 3]
            others[j, x] = outer + 4 * inner + 6 * about[x + 2]


@njit(nogil=True, cache=True)
@no_type_check
def _aim(values, others, line, box, grid, share, targets, cells):
    """Write for each pixel of a row the target, and its cell, given what its neighbours miss."""
    d, w = values.shape
    cells[:] = -grid[4]
    shift = grid[5]
    for j in range(d):
        low, high, step = np.int32(box[0, j]), np.int32(box[1, j]), np.int32(grid[j])
        at, there, beside = values[j], others[j], line[j]
        out = targets[j]
        for x in range(w):
            outer = np.int32(beside[x]) + np.int32(beside[x + 4])
            inner = np.int32(beside[x + 1]) + np.int32(beside[x + 3])
            missed = there[x] + 6 * outer + 24 * inner
            value = at[x] - np.int32((np.int32(missed * share) + np.int32(_HALF)) >> SHARE_BITS)
            value = min(max(value, low), high)
            out[x] = value
            cells[x] += (value >> shift) * step


@njit(nogil=True, cache=True)
@no_type_check
def reconsider(
    own, inverse, palette, box, grid, share, phase, rows, indices, misses, starts, lists, used
):
    """Choose again for every third row, every third pixel at a time, with what others miss in view.

    What the rows above and below miss does not change meanwhile. Who has an entry of its own misses
    nothing, so that only where nothing is missed it has to be looked up.
    """
    w, d = indices.shape[1], misses.shape[1]
    about, cells = np.empty(w + 4, np.int32), np.empty(w, np.int32)
    others, values = np.empty((d, w), np.int32), np.empty((d, w), np.int32)
    targets, stays = np.zeros((4, w), np.int32), np.empty(w, np.bool_)
    share = np.int32(share)
    for y in range(rows[0] + (phase - rows[0]) % 3, rows[1], 3):
        _blur_about(misses, y, about, others)
        line = misses[y + 2]
        for x in range(w):
            entry, missed = indices[y, x], 0
            for j in range(d):
                values[j, x] = palette[entry, j] - line[j, x + 2]
                missed |= line[j, x + 2]
            stays[x] = missed == 0 and own[inverse[y, x]] >= 0
        for first in range(3):
            _aim(values, others, line, box, grid, share, targets, cells)
            for x in range(first, w, 3):
                if stays[x]:
                    continue
                t0, t1, t2, t3 = targets[0, x], targets[1, x], targets[2, x], targets[3, x]
                start = starts[cells[x]]
                if start < 0:
                    start = starts[cells[x]] = _list_candidates(
                        t0, t1, t2, t3, palette, grid[5], lists, used
                    )
                best = _nearest(start, t0 | t1 << 16, t2 | t3 << 16, lists)
                if best != indices[y, x]:
                    indices[y, x] = best
                    for j in range(d):
                        line[j, x + 2] = palette[best, j] - values[j, x]


@njit(nogil=True, cache=True)
@no_type_check
def count_meetings(indices, k, blur, rows):
    """Return how much of each entry lies about each other (k, k), and the pixels of each (k,).

    Of each pair of pixels only one way is counted: the caller adds the transpose, but not of the
    diagonal of pixels with themselves, which is returned by itself. Up to 2^24 pixels.
    """
    h, w = indices.shape
    meetings, counts = np.zeros((k, k + 1), np.int32), np.zeros(k, np.int64)
    there = np.full(w + 4, k, np.int32)  # beyond the edges lies an entry that is nobody's
    for y in range(rows[0], rows[1]):
        for v in range(min(3, h - y)):
            there[2 : w + 2] = indices[y + v]
            near, next_ = np.int32(blur[v + 2] * blur[2]), np.int32(blur[v + 2] * blur[3])
            far = np.int32(blur[v + 2] * blur[4])
            for x in range(w):
                about = meetings[indices[y, x]]
                about[there[x + 3]] += next_
                about[there[x + 4]] += far
                if v:
                    about[there[x]] += far
                    about[there[x + 1]] += next_
                    about[there[x + 2]] += near
                else:
                    counts[indices[y, x]] += 1
    return meetings[:, :k].astype(np.int64), counts


@njit(nogil=True, cache=True)
@no_type_check
def sum_blurred(table, inverse, indices, k, blur, dimensions, rows):
    """Return the sums (k, d) of the blurred picture's colours at the pixels of each entry."""
    h, w = inverse.shape
    sums = np.zeros((k, dimensions), np.int64)
    recent = np.empty((5, dimensions, w + 4), np.int32)  # rows, of which each is read once
    column, blurred = np.empty(w + 4, np.int32), np.empty((dimensions, w), np.int32)
    for y in range(rows[0] - 2, rows[1] + 2):
        recent[y % 5] = 0
        if 0 <= y < h:
            for x in range(w):
                color = inverse[y, x]
                for j in range(dimensions):
                    recent[y % 5, j, x + 2] = table[color, j]
        middle = y - 2
        if middle < rows[0]:
            continue
        for j in range(dimensions):
            column[:] = 0
            for v in range(5):
                line, weight = recent[(middle + v - 2) % 5, j], np.int32(blur[v])
                for x in range(w + 4):
                    column[x] += weight * line[x]
            blurred[j] = 0
            for u in range(5):
                weight = np.int32(blur[u])
                for x in range(w):
                    blurred[j, x] += weight * column[x + u]
        for x in range(w):
            entry = indices[middle, x]
            for j in range(dimensions):
                sums[entry, j] += blurred[j, x]
    return sums
