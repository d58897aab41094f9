"""Error diffusion on the CPU, sixteen rows at once, compiled by numba.

All numbers are whole, so that no order of operations matters; `gpu_kmeans.backends.entry_lists`
says how colours and entries are laid out, `gpu_kmeans.backends.wave_vectors` how rows are.
"""

import math
from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends import DIFFUSION_ROWS
from gpu_kmeans.backends.entry_lists import list_candidates, new_work
from gpu_kmeans.backends.line_kernels import LINE, on_a_line
from gpu_kmeans.backends.sweep_vectors import KEEPS
from gpu_kmeans.backends.vectors import name_listed
from gpu_kmeans.backends.wave_vectors import (
    BEHIND,
    LATER,
    NAME,
    OWN,
    PARTS,
    ROWS,
    STATE,
    TARGETS,
    TURNED,
    aim_wave,
    fill_step,
    settle_wave,
    spread_steps,
)

_SIDE = 8  # colours side by side, where their box is found
_LINE = LINE // 4
_STATES, _SECOND = 2 * math.prod(STATE), math.prod(TARGETS)
_ON_LINES = _STATES + 2 * _SECOND + _LINE


@njit(nogil=True, cache=True)
@no_type_check
def lay_out(values, rows, box):
    """Write whole numbers (n, d) as int16 (n, 4), missing dimensions 0, and their box (2, 4)."""
    n, d = values.shape
    if d == 3:  # noqa: PLR2004
        for i in range(n):
            rows[i, 0], rows[i, 1] = np.int16(values[i, 0]), np.int16(values[i, 1])
            rows[i, 2], rows[i, 3] = np.int16(values[i, 2]), 0
    else:
        rows[:, d:] = 0
        for i in range(n):
            for j in range(d):
                rows[i, j] = np.int16(values[i, j])
    low, high = np.empty(4 * _SIDE, np.int16), np.empty(4 * _SIDE, np.int16)
    for j in range(4 * _SIDE):
        low[j] = high[j] = rows[0, j % 4]
    flat, some = rows.reshape(-1), 4 * _SIDE
    whole = flat.size // some * some
    for first in range(0, whole, some):
        for j in range(some):
            low[j], high[j] = min(low[j], flat[first + j]), max(high[j], flat[first + j])
    for i in range(whole, flat.size):
        j = i - whole
        low[j], high[j] = min(low[j], flat[i]), max(high[j], flat[i])
    for j in range(4):
        box[0, j], box[1, j] = low[j::4].min(), high[j::4].max()


@njit(nogil=True, cache=True)
@no_type_check
def diffuse(
    table, own, inverse, palette, limits, grid, share, rows, indices, planes, starts, lists, used
):
    """Write palette indices of the rows rows[0]..rows[1], whole bands, diffusing errors.

    Where planes, as `gpu_kmeans.backends.dither_kernels.reconsider` takes them, are any, names and
    what pixels miss go there instead.
    """
    w, words, entries = inverse.shape[1], table.view(np.int32), palette.view(np.int32)
    misses, names = planes
    steps = -(-(w + LATER) // TURNED) * TURNED
    stride, lines = steps + LATER, on_a_line(np.zeros(_ON_LINES, np.int32))
    waves = on_a_line(np.empty(2 * stride * PARTS * ROWS + _LINE, np.int32))
    waves, passed = waves.reshape((2, stride, PARTS, ROWS)), np.empty((2, stride, 4), np.int32)
    state, targets = lines[:_STATES].reshape((2, *STATE)), lines[_STATES:].reshape((2, *TARGETS))
    waves[:, w + LATER :, :NAME], waves[:, w + LATER :, NAME] = 0, KEEPS
    k, listing, dimensions = entries.shape[0], new_work(entries), 3 + (limits[3, 1] > 0)
    for first in range(rows[0], rows[1], 2 * DIFFUSION_ROWS):
        passed[:] = 0
        for y in range(first, min(first + DIFFUSION_ROWS, rows[1]), ROWS):
            both = y + DIFFUSION_ROWS < rows[1]
            for band in range(1 + both):
                _fill(words, own, inverse, y + band * DIFFUSION_ROWS, rows[1], waves[band])
            state[:] = 0
            for step in range(w + LATER):  # by turns, and not in loops, or one band does wait
                other = step + stride
                aim_wave(waves, step, 0, state, passed, limits, grid, targets, dimensions)
                if both:
                    aim_wave(waves, other, 1, state, passed, limits, grid, targets, dimensions)
                while name_listed(starts, lists, targets, 0) < 0:
                    list_candidates(targets[0], k, listing, grid[1], starts, lists, used)
                while both and name_listed(starts, lists, targets, _SECOND) < 0:
                    list_candidates(targets[1], k, listing, grid[1], starts, lists, used)
                settle_wave(waves, step, 0, state, targets, entries, share, dimensions)
                if both:
                    settle_wave(waves, other, 1, state, targets, entries, share, dimensions)
            for band in range(1 + both):
                top = y + band * DIFFUSION_ROWS
                if names.size:
                    _spread(waves[band, :steps], top, misses, names)
                else:
                    _name(waves[band], indices[top : min(top + ROWS, rows[1])])


@njit(nogil=True, cache=True)
@no_type_check
def _fill(words, own, inverse, first, end, waves):
    """Lay the colours of rows out in waves; beyond the end no pixel is free to choose."""
    w = inverse.shape[1]
    for step in range(w + LATER):
        if LATER <= step < w and first + ROWS <= end:
            fill_step(words, own, inverse, first, w, step, waves)
            continue
        for lane in range(ROWS):
            x, y = step - BEHIND * lane, min(first + lane, end - 1)
            is_inside = 0 <= x < w and first + lane < end
            color = np.uint64(inverse[y, min(max(x, 0), w - 1)])
            waves[step, 0, lane], waves[step, 1, lane] = words[color, 0], words[color, 1]
            waves[step, OWN, lane] = own[color] if is_inside else 0


@njit(nogil=True, cache=True)
@no_type_check
def _spread(waves, first, misses, names):
    """Write what waves have into the planes; the steps after the last have nothing."""
    for step in range(0, waves.shape[0], TURNED):
        for more in range(3):
            spread_steps(waves, step + more, first, misses, names)


@njit(nogil=True, cache=True)
@no_type_check
def _name(waves, indices):
    """Write the entries that waves have into rows of the picture."""
    for lane in range(indices.shape[0]):
        for x in range(indices.shape[1]):
            indices[lane, x] = waves[np.uint64(x + BEHIND * lane), NAME, lane]
