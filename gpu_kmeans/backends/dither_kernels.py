"""Pixels that choose again on the CPU, knowing what all their neighbours miss; compiled by numba.

All numbers are whole, so that no order of operations matters; `gpu_kmeans.backends.entry_lists`
says how they are laid out. Every third pixel of a row is in one plane, so that those of one turn
lie side by side: the planes are misses (h + 4, 3, d, n + 2) int16, entry minus colour, with a rim
of nothing; names (h, 3, n) uint8, the entries; stays (h, 3, n), who keeps its entry. n is a third
of the width, rounded up.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends import SHARE_BITS
from gpu_kmeans.backends.entry_lists import list_candidates, nearest

_HALF = np.int32(1 << SHARE_BITS - 1)


@njit(nogil=True, cache=True)
@no_type_check
def _sum_columns(misses, y, others, columns):
    """Add up what a row's pixels and those above and below miss, blurred; and without the row."""
    for third in range(3):
        for j in range(others.shape[1]):
            a, b = misses[y, third, j], misses[y + 1, third, j]
            c, d = misses[y + 3, third, j], misses[y + 4, third, j]
            line, without, whole = misses[y + 2, third, j], others[third, j], columns[third, j]
            for i in range(a.size):
                near, far = np.int32(b[i]) + np.int32(c[i]), np.int32(a[i]) + np.int32(d[i])
                without[i] = far + np.int32(4) * near
                whole[i] = without[i] + np.int32(6) * np.int32(line[i])


@njit(nogil=True, cache=True)
@no_type_check
def _aim(colors, others, columns, third, limits, grid, share, targets):
    """Write for each pixel of a third of a row the target, 01 and 23, and its cell."""
    d, n = colors.shape
    targets[:2] = 0
    targets[2] = -grid[0]
    right, right2 = (third + 1) % 3, (third + 2) % 3  # thirds of the next pixel, and the one after
    shift, share = np.int32(grid[1]), np.int32(share)
    for j in range(d):
        low, high, step = limits[j, 0], limits[j, 1], limits[j, 2]
        a, b = columns[right, j, third >= 2 :], columns[right2, j, third >= 1 :]  # noqa: PLR2004
        c, d_ = columns[right, j, 1 + (third >= 2) :], columns[right2, j, 1 + (third >= 1) :]  # noqa: PLR2004
        color, middle, words = colors[j], others[third, j, 1:], targets[j >> 1]
        cells, place = targets[2], np.int32(16 * (j & 1))
        for i in range(n):
            outer, inner = a[i] + d_[i], b[i] + c[i]
            missed = outer + np.int32(4) * inner + np.int32(6) * middle[i]
            value = np.int32(color[i]) - ((missed * share + _HALF) >> np.int32(SHARE_BITS))
            value = min(max(value, low), high)
            words[i] |= value << place
            cells[i] += (value >> shift) * step


@njit(nogil=True, cache=True)
@no_type_check
def reconsider(palette, limits, grid, share, phase, rows, w, planes, starts, lists, used):
    """Choose again for every third row, every third pixel at a time, with what others miss in view.

    What the rows above and below miss does not change meanwhile.
    """
    misses, names, stays = planes
    d, n = misses.shape[2], names.shape[2]
    colors = np.zeros((d, n), np.int16)
    others, columns = np.empty((3, d, n + 2), np.int32), np.empty((3, d, n + 2), np.int32)
    targets, chosen = np.empty((3, n), np.int32), np.empty(n, np.uint8)
    pairs01, pairs23, cells = targets[0], targets[1], targets[2]
    for y in range(rows[0] + (phase - rows[0]) % 3, rows[1], 3):
        _sum_columns(misses, y, others, columns)
        for third in range(3):
            m = (w - third + 2) // 3  # the last place may be beyond the row
            for j in range(d):
                line = misses[y + 2, third, j]
                for i in range(m):
                    colors[j, i] = palette[np.uint64(names[y, third, i]), j] - line[i + 1]
            _aim(colors, others, columns, third, limits, grid, share, targets)
            for i in range(m):
                start = starts[np.uint64(cells[i])]
                if start < 0:
                    start = list_candidates(pairs01[i], pairs23[i], palette, grid[1], lists, used)
                    starts[cells[i]] = start
                best = nearest(start, pairs01[i], pairs23[i], lists)
                chosen[i] = names[y, third, i] if stays[y, third, i] else best
            for i in range(m):
                names[y, third, i] = chosen[i]
            for j in range(d):
                color, line = colors[j], misses[y + 2, third, j]
                without, whole = others[third, j], columns[third, j]
                for i in range(m):
                    line[i + 1] = palette[np.uint64(chosen[i]), j] - color[i]
                for i in range(n + 2):
                    whole[i] = without[i] + np.int32(6) * np.int32(line[i])


@njit(nogil=True, cache=True)
@no_type_check
def interleave(names, indices):
    """Write the entries of the thirds of each row into the picture."""
    h, w = indices.shape
    for y in range(h):
        for third in range(3):
            for i in range((w - third + 2) // 3):
                indices[y, np.uint64(3 * i + third)] = names[y, third, i]
