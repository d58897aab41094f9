"""What the palette's next move is computed from, compiled by numba: who lies about whom.

What is counted is whole, so that no order of operations matters. Colours come as rows of four
int16, missing dimensions 0.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends import BLUR

_FAR, _NEAR, _MIDDLE = (np.int32(BLUR[i]) for i in range(3))
_ABOUT = (sum(BLUR) ** 2 - BLUR[2] ** 2) // 2  # what half of a pixel's neighbours weigh
MANY_ENTRIES = 128  # beyond, four tables are too much for the first caches


@njit(nogil=True, cache=True)
@no_type_check
def count_meetings(indices, k, rows):
    """Return how much of each entry lies about each other (k, k), and the pixels of each (k,).

    Of each pair of pixels only one way is counted: the caller adds the transpose, but not of the
    diagonal of pixels with themselves, which is returned by itself. Up to 2^24 pixels. Some tables
    by turns, as in flat areas one sum would wait for the last. What lies about a pixel weighs the
    same for all, with what is nobody's beyond the edges, so it tells how many pixels there are.
    """
    h, w = indices.shape
    apart = 0 if k > MANY_ENTRIES else 2
    tables = np.zeros((2 + apart, k, k + 1), np.int32)
    lines = np.full((3, w + 4), k, np.int16)  # beyond the edges lies an entry that is nobody's
    here, below, lowest = lines[0], lines[1], lines[2]
    for y in range(rows[0], rows[1]):
        for v in range(3):
            lines[v, 2 : w + 2] = k
            if y + v < h:
                lines[v, 2 : w + 2] = indices[y + v]
        for x in range(np.uint64(w)):
            entry = np.uint64(here[x + 2])
            about, too = tables[x & 1, entry], tables[(x & 1) + apart, entry]
            about[np.uint64(here[x + 3])] += _MIDDLE * _NEAR
            too[np.uint64(here[x + 4])] += _MIDDLE * _FAR
            about[np.uint64(below[x])] += _NEAR * _FAR
            too[np.uint64(below[x + 1])] += _NEAR * _NEAR
            about[np.uint64(below[x + 2])] += _MIDDLE * _NEAR
            too[np.uint64(below[x + 3])] += _NEAR * _NEAR
            about[np.uint64(below[x + 4])] += _NEAR * _FAR
            too[np.uint64(lowest[x])] += _FAR * _FAR
            about[np.uint64(lowest[x + 1])] += _NEAR * _FAR
            too[np.uint64(lowest[x + 2])] += _MIDDLE * _FAR
            about[np.uint64(lowest[x + 3])] += _NEAR * _FAR
            too[np.uint64(lowest[x + 4])] += _FAR * _FAR
    found = tables.sum(axis=0).astype(np.int64)
    return found[:, :k], found.sum(axis=1) // _ABOUT


@njit(nogil=True, cache=True)
@no_type_check
def sum_blurred(table, inverse, indices, k, dimensions, rows):
    """Return the sums (k, d) of the blurred picture's colours at the pixels of each entry.

    Two tables by turns, for the same reason.
    """
    h, w = inverse.shape
    sums = np.zeros((2, k, 4), np.int64)
    recent = np.zeros((5, 4, w + 4), np.int16)  # rows, of which each is read once
    column, blurred = np.empty(w + 4, np.int32), np.zeros((4, w), np.int32)
    for y in range(rows[0] - 2, rows[1] + 2):
        newest = recent[y % 5]
        if not 0 <= y < h:
            newest[:] = 0
        else:
            line, a, b, c, d = inverse[y], newest[0], newest[1], newest[2], newest[3]
            for x in range(w):
                color = np.uint64(line[x])
                a[x + 2], b[x + 2] = table[color, 0], table[color, 1]
                c[x + 2], d[x + 2] = table[color, 2], table[color, 3]
        if y - 2 < rows[0]:
            continue
        for j in range(dimensions):
            a, b, c = recent[(y + 1) % 5, j], recent[(y + 2) % 5, j], recent[(y + 3) % 5, j]
            d, e, whole = recent[(y + 4) % 5, j], newest[j], blurred[j]
            for x in range(w + 4):
                far, near = np.int32(a[x]) + np.int32(e[x]), np.int32(b[x]) + np.int32(d[x])
                column[x] = _FAR * far + _NEAR * near + _MIDDLE * np.int32(c[x])
            for x in range(w):
                far, near = column[x] + column[x + 4], column[x + 1] + column[x + 3]
                whole[x] = _FAR * far + _NEAR * near + _MIDDLE * column[x + 2]
        entries = indices[y - 2]
        for x in range(np.uint64(w)):
            about = sums[x & 1, np.uint64(entries[x])]
            about[0] += blurred[0, x]
            about[1] += blurred[1, x]
            about[2] += blurred[2, x]
            about[3] += blurred[3, x]
    return (sums[0] + sums[1])[:, :dimensions].copy()


@njit(nogil=True, cache=True)
@no_type_check
def relax(entries, meetings, sums, kept, beyond, highest):
    """Minimize over one entry after the other, and beyond (successive over-relaxation), once.

    entries (k, d), of which the first `kept` stay, meetings (k, k) and sums (k, d) are float64.
    Once, as the indices change anyway. Each sum in the entries' order, on every machine; a
    library's solver would depend on its threads.
    """
    k, d = entries.shape
    for c in range(kept, k):
        if meetings[c, c] > 0:
            total = meetings[c, 0] * entries[0]
            for i in range(1, k):
                for j in range(d):
                    total[j] += meetings[c, i] * entries[i, j]
            for j in range(d):
                moved = entries[c, j] + beyond * ((sums[c, j] - total[j]) / meetings[c, c])
                entries[c, j] = min(max(moved, 0.0), highest)
