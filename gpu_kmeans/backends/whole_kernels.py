"""Passes over points that are whole numbers, as pictures' colours are; `kernels` has the others.

The same pruning by boxes, in int16 and eight candidates at a time (`tile_vectors`), and sums in
int64: exact, so that nothing depends on the order. A tile is laid out in one piece: its rows of 64
coordinates, of weights below 2^15, and where any is not, of what they have above that.

The squared distances are not added up: sum w |x - c|^2 = sum w |x|^2 - 2 c . sum w x + |c|^2 sum w.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends.kernels import COLUMNS, COMPARE, DETAIL_COLUMNS, SUPER
from gpu_kmeans.backends.tile_vectors import (
    BLOCK,
    FAR,
    TILE,
    add_named,
    add_row,
    bound_box,
    lowest_bit,
    move_named,
    name_nearest,
    name_two_nearest,
    near_enough,
    prune_block,
    undominated,
)

SUM = COMPARE | {"reassoc"}  # any order of adding up whole numbers below 2^53 gives the same
LIGHT_BITS = 15  # of a weight's lower part
MOST_WEIGHT = (1 << 2 * LIGHT_BITS) - 1
MOST_COORDINATE = 4096  # of a point and a centroid, either side of 0
SMALL_MASS = 1 << 19  # of a tile whose sums fit in 32 bits
# Of a tile: weighted coordinates 0 to 2, mass, coordinate 3, weighted squares, whether any weight
# is heavy, whether the mass is small and none is.
SUMS = 8
MASS, LAST, SQUARES, IS_HEAVY, IS_PLAIN = range(3, 8)
STRIDE, FOURTH, LIGHT, HEAVY = range(4)  # of the plan: where in a tile things are, -1 for nowhere


@njit(nogil=True, cache=True)
@no_type_check
def lay_out(rows, masses, chunk, plan, halves, boxes, supers, sums):
    """Write the tiles chunk[0]..chunk[1]; chunks begin where `SUPER` tiles do.

    boxes (tiles, 4) and supers, those of `SUPER` tiles, int32: low corner and high, in pairs. The
    last tile is filled up with its last point, without weight. Returns whether all fits.
    """
    n, d = rows.shape
    low, high = np.zeros(4, np.int64), np.zeros(4, np.int64)
    weights, values, fits = np.empty(TILE), np.empty(TILE, rows.dtype), True
    for t in range(chunk[0], chunk[1]):
        start, size = t * TILE, min(TILE, n - t * TILE)
        base = t * plan[STRIDE]
        sums[t] = 0
        weights[:size], weights[size:] = masses[start : start + size], 0
        mass, most = _lay_out_weights(weights, base, plan, halves)
        sums[t, MASS], sums[t, IS_HEAVY] = mass, most >= 1 << LIGHT_BITS
        sums[t, IS_PLAIN] = mass < SMALL_MASS and not sums[t, IS_HEAVY]
        for j in range(3 if plan[FOURTH] < 0 else 4):
            if j < d:
                for i in range(size):
                    values[i] = rows[start + i, j]
                values[size:] = values[size - 1]
            else:
                values[:] = 0
            low[j], high[j], moment, squares = _lay_out_values(
                values, weights, base + j * TILE, halves
            )
            sums[t, LAST if j == 3 else j] = moment  # noqa: PLR2004
            sums[t, SQUARES] += squares
            fits &= low[j] >= -MOST_COORDINATE and high[j] <= MOST_COORDINATE
        _write_box(boxes, t, low, high)
        if t % SUPER:
            _widen(supers, t // SUPER, low, high)
        else:
            _write_box(supers, t // SUPER, low, high)
    return fits


@njit(nogil=True, cache=True, fastmath=SUM)
@no_type_check
def _lay_out_weights(weights, base, plan, halves):
    mass = most = 0.0
    for i in range(TILE):
        mass += weights[i]
        most = max(most, weights[i])
        halves[base + plan[LIGHT] + i] = np.int32(weights[i]) & ((1 << LIGHT_BITS) - 1)
    if plan[HEAVY] >= 0:
        for i in range(TILE):
            halves[base + plan[HEAVY] + i] = np.int32(weights[i]) >> LIGHT_BITS
    return np.int64(mass), np.int64(most)


@njit(nogil=True, cache=True, fastmath=SUM)
@no_type_check
def _lay_out_values(values, weights, first, halves):
    """Write a coordinate of a tile; return least, most, weighted sum and weighted squares."""
    low = high = values[0]
    moment = squares = 0.0
    for i in range(TILE):
        value = values[i]
        low, high = min(low, value), max(high, value)
        weighted = weights[i] * np.float64(value)
        moment += weighted
        squares += weighted * np.float64(value)
        halves[first + i] = np.int16(value)
    return np.int64(low), np.int64(high), np.int64(moment), np.int64(squares)


@njit(nogil=True, cache=True)
@no_type_check
def _write_box(boxes, box, low, high):
    boxes[box, 0], boxes[box, 1] = _pair(low[0], low[1]), _pair(low[2], low[3])
    boxes[box, 2], boxes[box, 3] = _pair(high[0], high[1]), _pair(high[2], high[3])


@njit(nogil=True, cache=True)
@no_type_check
def _widen(boxes, box, low, high):
    for word in range(2):
        below, above = boxes[box, word], boxes[box, 2 + word]
        j = 2 * word
        low[j], low[j + 1] = min(low[j], _first_of(below)), min(low[j + 1], _second_of(below))
        high[j], high[j + 1] = max(high[j], _first_of(above)), max(high[j + 1], _second_of(above))
    _write_box(boxes, box, low, high)


@njit(nogil=True, cache=True)
@no_type_check
def _pair(a, b):
    return np.int32((np.int64(a) & 0xFFFF) | (np.int64(b) << 16))


@njit(nogil=True, cache=True)
@no_type_check
def _first_of(pair):
    return np.int64(np.int16(pair & 0xFFFF))


@njit(nogil=True, cache=True)
@no_type_check
def _second_of(pair):
    return np.int64(pair >> 16)


@njit(nogil=True, cache=True)
@no_type_check
def assign(layout, centroids, chunk, labels):
    """Return a table (k, COLUMNS) of sums (4), mass and WCSS of the tiles chunk[0]..chunk[1].

    All WCSS is in its first row. Chunks begin where `SUPER` tiles do.
    """
    halves, boxes, supers, sums, plan = layout
    k = centroids.shape[1]
    c01, c23, m01, m23, squares = _all_candidates(centroids)
    own01, own23, own_squares = np.empty(k, np.int32), np.empty(k, np.int32), np.empty(k, np.int32)
    p01, p23 = np.empty(c01.size, np.int32), np.empty(c01.size, np.int32)
    near, far = np.empty(c01.size, np.int32), np.empty(c01.size, np.int32)
    outer, inner = np.empty(k, np.int64), np.empty(k, np.int64)
    names, own = np.empty(TILE, np.int16), np.empty(5, np.int64)
    words = -(-c01.size // (4 * BLOCK))
    around, bits = np.empty(words, np.int64), np.empty((SUPER, words), np.int64)
    heavy, left = np.empty(5, np.int64), np.empty(5, np.int64)
    table, whole = np.zeros((k, SUMS), np.int64), np.int64(0)
    for first in range(chunk[0], chunk[1], SUPER):
        last = min(first + SUPER, chunk[1])
        prune(c01, c23, c01.size // BLOCK, supers, first // SUPER, near, far, around)
        blocks = _copy_listed(c01, c23, around, outer, p01, p23)
        for t in range(first, last):  # all at once: nothing waits for a branch upon the answer
            if blocks == 1:
                bits[t - first, 0] = prune_block(p01, p23, boxes, t)
            elif blocks:
                prune(p01, p23, blocks, boxes, t, near, far, bits[t - first])
            else:
                bits[t - first, 0] = 1
        for t in range(first, last):
            whole += sums[t, SQUARES]
            count = _list_bits(bits[t - first], max(blocks, 1), outer, inner)
            if count == 1:
                add_row(table, inner[0], sums, t)
                if labels.size:
                    labels[t * TILE : t * TILE + TILE] = inner[0]
                continue
            for q in range(count):
                c = inner[q]
                own01[q], own23[q], own_squares[q] = m01[c], m23[c], squares[c]
            _name(halves, plan, t, own01, own23, own_squares, count, names)
            _add(halves, sums, plan, t, names, inner, count, own, heavy, left, table)
            if labels.size:
                for i in range(TILE):
                    labels[t * TILE + i] = inner[names[i]]
    return _as_floats(table, centroids, whole)


@njit(nogil=True, cache=True)
@no_type_check
def _all_candidates(centroids):
    """Return pairs of coordinates, filled up to whole blocks, and what names are found with."""
    k = centroids.shape[1]
    size = -(-k // BLOCK) * BLOCK
    c01, c23 = np.full(size, _pair(FAR, FAR), np.int32), np.full(size, _pair(FAR, FAR), np.int32)
    m01, m23, squares = np.empty(k, np.int32), np.empty(k, np.int32), np.empty(k, np.int32)
    for c in range(k):
        a, b = np.int64(centroids[0, c]), np.int64(centroids[1, c])
        d, e = np.int64(centroids[2, c]), np.int64(centroids[3, c])
        c01[c], c23[c] = _pair(a, b), _pair(d, e)
        m01[c], m23[c] = _pair(-2 * a, -2 * b), _pair(-2 * d, -2 * e)
        squares[c] = a * a + b * b + d * d + e * e
    return c01, c23, m01, m23, squares


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _copy_listed(c01, c23, bits, outer, p01, p23):
    """Copy candidates side by side; return how many blocks, 0 where only one is left."""
    around = 0
    for word in range(bits.size):
        left = bits[word]
        while left:
            c = word * 4 * BLOCK + lowest_bit(left)
            left &= left - 1
            outer[around], p01[around], p23[around] = c, c01[c], c23[c]
            around += 1
    return _fill_up(around, p01, p23) if around > 1 else 0


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _copy_near(c01, c23, near, bound, blocks, outer, p01, p23):
    around = 0
    for block in range(blocks):
        bits = near_enough(near, block, bound)
        while bits:
            c = block * BLOCK + lowest_bit(bits)
            bits &= bits - 1
            outer[around], p01[around], p23[around] = c, c01[c], c23[c]
            around += 1
    return _fill_up(around, p01, p23)


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _fill_up(around, p01, p23):
    blocks = -(-around // BLOCK)
    for q in range(around, blocks * BLOCK):
        p01[q] = p23[q] = _pair(FAR, FAR)
    return blocks


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def prune(p01, p23, blocks, boxes, box, near, far, bits):
    """Set the bits of who may be nearest to some point of the box, four blocks to a word."""
    bound = bound_box(p01, p23, blocks, boxes, box, near, far)
    best = np.int64(0)
    for block in range(blocks - 1, -1, -1):  # who gives the bound is compared with all others
        those = near_enough(far, block, bound)
        best = block * BLOCK + lowest_bit(those) if those else best
    for word in range(-(-blocks // 4)):
        found = np.int64(0)
        for block in range(4 * word, min(4 * word + 4, blocks)):
            those = near_enough(near, block, bound)
            those &= undominated(p01, p23, block, best, boxes, box)
            found |= those << (block % 4 * BLOCK)
        bits[word] = found


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _list_bits(bits, blocks, outer, inner):
    """Write whom the bits that are set stand for; return how many."""
    count = 0
    for word in range(-(-blocks // 4)):
        left = bits[word]
        while left:
            inner[count] = outer[word * 4 * BLOCK + lowest_bit(left)]
            left &= left - 1
            count += 1
    return count


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _name(halves, plan, t, m01, m23, squares, count, names):
    base = t * plan[STRIDE]
    fourth = base + plan[FOURTH] if plan[FOURTH] >= 0 else np.int64(-1)
    name_nearest(halves, base, fourth, m01, m23, squares, count, names)


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _add(halves, sums, plan, t, names, inner, count, own, heavy, left, table):
    """Add a tile's points to those they are named after; the last gets what is left."""
    base = t * plan[STRIDE]
    fourth = base + plan[FOURTH] if plan[FOURTH] >= 0 else np.int64(-1)
    for j in range(5):
        left[j] = sums[t, j]
    q = 0
    while q < count - 1 and left[MASS]:
        if sums[t, IS_PLAIN]:
            move_named(halves, base, fourth, base + plan[LIGHT], names, q, left, table, inner[q])
        else:
            add_named(halves, base, fourth, base + plan[LIGHT], names, q, own)
            if sums[t, IS_HEAVY]:
                add_named(halves, base, fourth, base + plan[HEAVY], names, q, heavy)
                for j in range(5):
                    own[j] += heavy[j] << LIGHT_BITS
            for j in range(5):
                table[inner[q], j] += own[j]
                left[j] -= own[j]
        q += 1
    for j in range(5):
        table[inner[count - 1], j] += left[j]


@njit(nogil=True, cache=True)
@no_type_check
def assign_squares(layout, squares, centroids):
    """Return a table (k, DETAIL_COLUMNS): as `assign`, then weighted squares (4); no utility.

    squares (m, 4): what each point adds to these.
    """
    k, tiles = centroids.shape[1], layout[1].shape[0]
    labels, table = np.empty(tiles * TILE, np.int32), np.zeros((k, DETAIL_COLUMNS))
    table[:, :COLUMNS] = assign(layout, centroids, (0, tiles), labels)
    added = np.zeros((k, 4))
    for i in range(labels.size):
        c = labels[i]
        for j in range(4):
            added[c, j] += squares[i, j]
    table[:, COLUMNS : COLUMNS + 4] = added
    return table


@njit(nogil=True, cache=True)
@no_type_check
def assign_utility(layout, weights, centroids):
    """Return a table (k, DETAIL_COLUMNS): as `assign`, then utility, in the last column.

    The runner-up's distance is wanted too, so a candidate stays if it may come second.
    """
    halves, boxes, supers, sums, plan = layout
    k, tiles = centroids.shape[1], boxes.shape[0]
    table = np.zeros((k, DETAIL_COLUMNS))
    if k == 1:
        table[:, :COLUMNS] = assign(layout, centroids, (0, tiles), np.empty(0, np.int32))
        return table
    c01, c23, m01, m23, squares = _all_candidates(centroids)
    own01, own23, own_squares = np.empty(k, np.int32), np.empty(k, np.int32), np.empty(k, np.int32)
    p01, p23 = np.empty(c01.size, np.int32), np.empty(c01.size, np.int32)
    near, far = np.empty(c01.size, np.int32), np.empty(c01.size, np.int32)
    outer, inner = np.empty(k, np.int64), np.empty(k, np.int64)
    names, gaps = np.empty(TILE, np.int16), np.empty(TILE, np.int32)
    own, heavy, left = np.empty(5, np.int64), np.empty(5, np.int64), np.empty(5, np.int64)
    found, whole, utility = np.zeros((k, SUMS), np.int64), np.int64(0), np.zeros(k, np.int64)
    for first in range(0, tiles, SUPER):
        bound_box(c01, c23, c01.size // BLOCK, supers, first // SUPER, near, far)
        bound = _second(far, c01.size)
        blocks = _copy_near(c01, c23, near, bound, c01.size // BLOCK, outer, p01, p23)
        for t in range(first, min(first + SUPER, tiles)):
            whole += sums[t, SQUARES]
            bound_box(p01, p23, blocks, boxes, t, near, far)
            bound, count = _second(far, blocks * BLOCK), 0
            for block in range(blocks):
                those = near_enough(near, block, bound)
                while those:
                    c = outer[block * BLOCK + lowest_bit(those)]
                    those &= those - 1
                    inner[count] = c
                    own01[count], own23[count], own_squares[count] = m01[c], m23[c], squares[c]
                    count += 1
            base = t * plan[STRIDE]
            fourth = base + plan[FOURTH] if plan[FOURTH] >= 0 else np.int64(-1)
            name_two_nearest(halves, base, fourth, own01, own23, own_squares, count, names, gaps)
            _add(halves, sums, plan, t, names, inner, count, own, heavy, left, found)
            for i in range(TILE):
                utility[inner[names[i]]] += weights[t * TILE + i] * np.int64(gaps[i])
    table[:, :COLUMNS] = _as_floats(found, centroids, whole)
    table[:, DETAIL_COLUMNS - 1] = utility
    return table


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _second(values, count):
    """Return the second smallest of some values, at least two."""
    first = second = np.int32(2**31 - 1)
    for q in range(count):
        second = min(second, max(values[q], first))
        first = min(first, values[q])
    return second


@njit(nogil=True, cache=True)
@no_type_check
def _as_floats(table, centroids, whole):
    """Return mass and sums as `kernels.assign` does, and the WCSS that follows from them."""
    k = table.shape[0]
    found = np.zeros((k, COLUMNS))
    for c in range(k):
        for j in range(4):
            value = np.int64(centroids[j, c])
            moment = table[c, LAST if j == 3 else j]  # noqa: PLR2004
            whole += value * (value * table[c, MASS] - 2 * moment)
            found[c, j] = moment
        found[c, 4] = table[c, MASS]
    found[0, 5] = whole
    return found
