"""The loops that count colours of four channels, compiled by numba: by sorting.

A bitmap of all of them would take 512 MB. A key is a pixel's Morton code above its place, so that
numpy sorts whole numbers, which it does with vector instructions, and equal colours are in a row.
"""

from typing import no_type_check

import numpy as np
from numba import njit

__all__ = ["count_runs", "list_runs", "make_keys"]

PLACE_BITS = 32


@njit(nogil=True, cache=True)
@no_type_check
def make_keys(pixels, tables, rows, keys):
    """Write the keys of the pixels rows[0]..rows[1] - 1."""
    for i in range(rows[0], rows[1]):
        code = tables[0, pixels[i, 0]] | tables[1, pixels[i, 1]]
        code |= tables[2, pixels[i, 2]] | tables[3, pixels[i, 3]]
        keys[i] = np.uint64(code) << np.uint64(PLACE_BITS) | np.uint64(i)


@njit(nogil=True, cache=True)
@no_type_check
def count_runs(keys):
    """Return how many codes there are in sorted keys."""
    total = np.int64(keys.size > 0)
    for i in range(1, keys.size):
        total += np.int64((keys[i] ^ keys[i - 1]) >> np.uint64(PLACE_BITS) != 0)
    return total


@njit(nogil=True, cache=True)
@no_type_check
def list_runs(keys, pixels, colors, counts, inverse):
    """Write each code's colour and count, and the rank of each pixel's code, of sorted keys."""
    rank, begin = np.int64(-1), 0
    for i in range(keys.size):
        place = keys[i] & np.uint64((1 << PLACE_BITS) - 1)
        if i == 0 or (keys[i] ^ keys[i - 1]) >> np.uint64(PLACE_BITS) != 0:
            if i:
                counts[rank] = i - begin
            rank, begin = rank + 1, i
            for j in range(4):
                colors[rank, j] = pixels[place, j]
        inverse[place] = rank
    if keys.size:
        counts[rank] = keys.size - begin
