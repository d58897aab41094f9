"""Pixels that choose again on the CPU, knowing what all their neighbours miss; compiled by numba.

All numbers are whole, so that no order of operations matters; `gpu_kmeans.backends.entry_lists`
says how colours and entries are laid out, `gpu_kmeans.backends.sweep_vectors` how a row is, of
which every third pixel is in one line, so that those of one turn lie side by side. The planes are
misses (h + 4, 3, 2, pitch), entry minus colour, with a rim of nothing; names (h, 3, pitch), of
which those beyond the picture keep entry 0.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends import BLUR
from gpu_kmeans.backends.entry_lists import list_candidates, new_work
from gpu_kmeans.backends.line_kernels import LINE, on_a_line
from gpu_kmeans.backends.sweep_vectors import GROUP, RIM, aim_group, settle_group
from gpu_kmeans.backends.vectors import name_listed

_FAR, _NEAR, _MIDDLE = (np.int16(BLUR[i]) for i in range(3))
_LINE = LINE // 4


@njit(nogil=True, cache=True)
@no_type_check
def _sum_columns(misses, y, columns):
    """Add up what a row's pixels and those above and below miss, blurred: up to 2^15."""
    a, b, c = misses[y].reshape(-1), misses[y + 1].reshape(-1), misses[y + 2].reshape(-1)
    d, e, whole = misses[y + 3].reshape(-1), misses[y + 4].reshape(-1), columns.reshape(-1)
    for i in range(whole.size):
        far, near = np.int16(a[i] + e[i]), np.int16(b[i] + d[i])
        whole[i] = np.int16(far + np.int16(_NEAR * near) + np.int16(_MIDDLE * c[i]))


@njit(nogil=True, cache=True)
@no_type_check
def reconsider(palette, limits, grid, share, phase, rows, w, planes, starts, lists, used):
    """Choose again for every third row, every third pixel at a time, with what others miss in view.

    What the rows above and below miss does not change meanwhile.
    """
    misses, names = planes
    entries, halves = palette.view(np.int32), misses.view(np.int16)
    columns = on_a_line(np.empty(misses[0].size + _LINE, np.int32)).reshape(misses.shape[1:])
    work = on_a_line(np.zeros(8 * GROUP + _LINE, np.int32)).reshape((8, GROUP))
    k, listing, dimensions = entries.shape[0], new_work(entries), 3 + (limits[3, 1] > 0)
    for y in range(rows[0] + (phase - rows[0]) % 3, rows[1], 3):
        _sum_columns(halves, y, columns.view(np.int16))
        line, kept = misses[y + 2], names[y]
        for third in range(3):
            for place in range(RIM, RIM + (w - third + 2) // 3, GROUP):
                aim_group(
                    columns,
                    line,
                    kept,
                    entries,
                    third,
                    place,
                    limits,
                    grid,
                    share,
                    work,
                    dimensions,
                )
                while name_listed(starts, lists, work, 0) < 0:
                    list_candidates(work, k, listing, grid[1], starts, lists, used)
                settle_group(columns, line, kept, entries, third, place, work)


@njit(nogil=True, cache=True)
@no_type_check
def interleave(names, indices):
    """Write the entries of the thirds of each row into the picture."""
    h, w = indices.shape
    for y in range(h):
        for third in range(3):
            line, row = names[y, third, RIM:], indices[y, third:]
            for i in range((w - third + 2) // 3):
                row[np.uint64(3 * i)] = line[i]
