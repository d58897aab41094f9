"""Indices that compress, pixel by pixel, compiled by numba; `gpu_kmeans.backends.thrift` says what.

Colours and entries come as rows of four int16, missing dimensions 0.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends.thrift import BUSY, REACH

_SCALE = BUSY**2


@njit(nogil=True, cache=True)
@no_type_check
def _add_row(table, inverse, y, sign, columns):
    """Add the colours of a row, and their squares, to the sums of the columns (4, w), or take."""
    for x in range(inverse.shape[1]):
        color, squares = inverse[y, x], np.int64(0)
        for j in range(3):
            value = np.int64(table[color, j])
            columns[j, x] += sign * value
            squares += value * value
        columns[3, x] += sign * squares


@njit(nogil=True, cache=True)
@no_type_check
def _is_own(color, entry):
    return (
        color[0] == entry[0]
        and color[1] == entry[1]
        and color[2] == entry[2]
        and color[3] == entry[3]
    )


@njit(nogil=True, cache=True)
@no_type_check
def find_prices(table, inverse, palette, labels, price, rows, prices):
    """Write the price at each pixel of the rows rows[0]..rows[1]; -1 where none is free to choose.

    Window sums move with the window: a row of columns comes and goes, then a column.
    """
    h, w = inverse.shape
    columns, sums = np.zeros((4, w), np.int64), np.empty(4, np.int64)
    for y in range(max(0, rows[0] - REACH), min(h, rows[0] + REACH)):
        _add_row(table, inverse, y, 1, columns)
    for y in range(rows[0], rows[1]):
        if y + REACH < h:
            _add_row(table, inverse, y + REACH, 1, columns)
        if y - REACH - 1 >= 0 and y > rows[0]:
            _add_row(table, inverse, y - REACH - 1, -1, columns)
        high = min(h, y + REACH + 1) - max(0, y - REACH)
        for j in range(4):
            sums[j] = columns[j, :REACH].sum()
        for x in range(w):
            if x + REACH < w:
                for j in range(4):
                    sums[j] += columns[j, x + REACH]
            if x - REACH - 1 >= 0:
                for j in range(4):
                    sums[j] -= columns[j, x - REACH - 1]
            if _is_own(table[inverse[y, x]], palette[labels[inverse[y, x]]]):
                prices[y, x] = -1
                continue
            size = high * (min(w, x + REACH + 1) - max(0, x - REACH))
            spread = size * sums[3]
            for j in range(3):
                spread -= sums[j] * sums[j]
            variance = np.float64(spread) / np.float64(size * size)
            prices[y, x] = np.int64(np.floor(price * (1 + variance / _SCALE) + 0.5))


@njit(nogil=True, cache=True)
@no_type_check
def economize(table, inverse, palette, near, prices, turn, chosen, changed, rows):
    """Let the pixels of one turn in the rows rows[0]..rows[1] choose.

    near (h, w) int16, the entries nearest to the pixels; chosen (h + 2, w + 2) int16, with a rim of
    -1; changed likewise uint8, the turn after which a pixel was last another: where none of the
    four beside one was in the turn before, it would choose what it has.
    """
    options = np.empty(4, np.int16)
    for y in range(rows[0], rows[1]):
        for x in range((y + turn) % 2, inverse.shape[1], 2):
            if turn > 1 and not (
                changed[y + 1, x] == turn
                or changed[y + 1, x + 2] == turn
                or changed[y, x + 1] == turn
                or changed[y + 2, x + 1] == turn
            ):
                continue
            left, right = chosen[y + 1, x], chosen[y + 1, x + 2]
            above, below = chosen[y, x + 1], chosen[y + 2, x + 1]
            own, best = chosen[y + 1, x + 1], near[y, x]
            if left == best and right == best and above == best and below == best:
                if own != best:
                    chosen[y + 1, x + 1], changed[y + 1, x + 1] = best, turn + 1
                continue
            price = prices[y, x]
            if price < 0:
                continue
            color = inverse[y, x]
            t0, t1 = np.int64(table[color, 0]), np.int64(table[color, 1])
            t2, t3 = np.int64(table[color, 2]), np.int64(table[color, 3])
            options[0], options[1], options[2], options[3] = left, right, above, below
            lowest = np.int64(1) << 62
            for q in range(-1, 4):
                option = near[y, x] if q < 0 else options[q]
                if option < 0 or (q >= 0 and option == near[y, x]):
                    continue
                d0, d1 = t0 - palette[option, 0], t1 - palette[option, 1]
                d2, d3 = t2 - palette[option, 2], t3 - palette[option, 3]
                same = (option == left) + (option == right) + (option == above) + (option == below)
                cost = d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3 - price * same
                if cost < lowest:
                    best, lowest = option, cost
            if own != best:
                chosen[y + 1, x + 1], changed[y + 1, x + 1] = best, turn + 1
