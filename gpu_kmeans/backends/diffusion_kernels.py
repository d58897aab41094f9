"""Error diffusion on the CPU, eight rows at once, compiled by numba.

All numbers are whole, so that no order of operations matters; `gpu_kmeans.backends.entry_lists`
says how they are laid out. Pixels that choose again afterwards (`dither_kernels`) go by thirds of a
row, every third pixel from the first, the second and the third on: planes (rows, 3, ..., places).
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends import DIFFUSION_ROWS
from gpu_kmeans.backends.entry_lists import list_candidates, nearest
from gpu_kmeans.backends.instructions import LANES
from gpu_kmeans.backends.wave_vectors import (
    BEHIND,
    COLOR,
    ENTRY,
    MISSED,
    OWN,
    PARTS,
    STATE,
    aim_wave,
    settle_wave,
)

_LATER = BEHIND * LANES  # steps that a wave takes beyond the pixels of a row


@njit(nogil=True, cache=True)
@no_type_check
def lay_out(values, rows, box):
    """Write whole numbers (n, d) as int16 (n, 4), missing dimensions 0, and their box (2, 4)."""
    n, d = values.shape
    for i in range(n):
        rows[i, 0] = np.int16(values[i, 0])
        rows[i, 1] = np.int16(values[i, 1]) if d > 1 else np.int16(0)
        rows[i, 2] = np.int16(values[i, 2]) if d > 2 else np.int16(0)  # noqa: PLR2004
        rows[i, 3] = np.int16(values[i, 3]) if d > 3 else np.int16(0)  # noqa: PLR2004
    low0 = high0 = rows[0, 0]
    low1 = high1 = rows[0, 1]
    low2 = high2 = rows[0, 2]
    low3 = high3 = rows[0, 3]
    for i in range(n):
        low0, high0 = min(low0, rows[i, 0]), max(high0, rows[i, 0])
        low1, high1 = min(low1, rows[i, 1]), max(high1, rows[i, 1])
        low2, high2 = min(low2, rows[i, 2]), max(high2, rows[i, 2])
        low3, high3 = min(low3, rows[i, 3]), max(high3, rows[i, 3])
    box[0, 0], box[0, 1], box[0, 2], box[0, 3] = low0, low1, low2, low3
    box[1, 0], box[1, 1], box[1, 2], box[1, 3] = high0, high1, high2, high3


@njit(nogil=True, cache=True)
@no_type_check
def diffuse(
    table, own, inverse, palette, limits, grid, share, rows, indices, planes, starts, lists, used
):
    """Write palette indices of the rows rows[0]..rows[1] with Floyd-Steinberg diffusion.

    planes is what `gpu_kmeans.backends.dither_kernels.reconsider` takes; it may have no rows.
    """
    w, words, entries = inverse.shape[1], table.view(np.int32), palette.view(np.int32)
    waves, state = np.empty((w + _LATER, PARTS, LANES), np.int32), np.empty(STATE, np.int32)
    passed, targets = np.empty((w + 2 * _LATER, 4), np.int32), np.empty((3, LANES), np.int32)
    chosen = np.empty(LANES, np.int32)
    for y in range(rows[0], rows[1], LANES):
        end = min(y + LANES, rows[1])
        if y % DIFFUSION_ROWS == 0:
            passed[:] = 0
        _fill(words, own, inverse, y, end, waves)
        state[:] = 0
        for step in range(w + _LATER):
            aim_wave(waves, step, state, passed, limits, grid, targets)
            for lane in range(LANES):
                cell, pair01, pair23 = targets[2, lane], targets[0, lane], targets[1, lane]
                start = starts[np.uint64(cell)]
                if start < 0:
                    start = list_candidates(pair01, pair23, palette, grid[1], lists, used)
                    starts[cell] = start
                chosen[lane] = nearest(start, pair01, pair23, lists)
            settle_wave(waves, step, state, targets, chosen, entries, share)
        if planes[1].size:
            _spread(waves, y, end, w, *planes)
        else:
            for lane in range(end - y):
                for x in range(w):
                    indices[y + lane, x] = waves[np.uint64(x + BEHIND * lane), ENTRY, lane]


@njit(nogil=True, cache=True)
@no_type_check
def _fill(words, own, inverse, first, end, waves):
    """Lay the colours of rows out in waves; beyond the picture no pixel is free to choose."""
    w = inverse.shape[1]
    for step in range(waves.shape[0]):
        for lane in range(LANES):
            x, y = step - BEHIND * lane, min(first + lane, end - 1)
            is_inside = 0 <= x < w and first + lane < end
            color = np.uint64(inverse[y, min(max(x, 0), w - 1)])
            waves[step, COLOR, lane] = words[color, 0]
            waves[step, COLOR + 1, lane] = words[color, 1]
            waves[step, OWN, lane] = own[color] if is_inside else 0


@njit(nogil=True, cache=True)
@no_type_check
def _spread(waves, first, end, w, misses, names, stays):
    """Write what waves have of their rows into the planes."""
    d = misses.shape[2]
    for lane in range(end - first):
        y = first + lane
        for third in range(3):
            for i in range((w - third + 2) // 3):
                step = np.uint64(3 * i + third + BEHIND * lane)
                names[y, third, i] = waves[step, ENTRY, lane]
                stays[y, third, i] = waves[step, OWN, lane] >= 0
            for j in range(d):
                shift = 16 * (j & 1)
                for i in range((w - third + 2) // 3):
                    step = np.uint64(3 * i + third + BEHIND * lane)
                    misses[y + 2, third, j, i + 1] = waves[step, MISSED + (j >> 1), lane] >> shift
