"""The loops of the CPU backend, compiled by numba; `gpu_kmeans.backends.cpu` says what they do.

Written for the vectorizer: a tile's points are copied into one scratch array and addressed there
by constant offsets, so that the compiler sees that nothing overlaps and how often each loop runs.
That alone made the pass over 4,000 points and 64 centroids six times faster (305 to 50 us).

Sums are float64. The compiler may neither reorder them nor contract them to fused multiply-adds:
of a function's copies, as it inlines them, each would add up in another order, and which copy runs
depends on what was compiled and what loaded. `gpu_kmeans.backends.sum_vectors` makes them fast.
Nor may it touch distances: they must come out the same here and in the reference. `huge` is the
largest number of the points' type.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends.sum_vectors import add_products, add_up
from gpu_kmeans.backends.tile_vectors import TILE

SUPER = 8  # tiles that share a first round of pruning
COLUMNS = 6
DETAIL_COLUMNS = 11
MASKED_CANDIDATES = 6  # up to so many, a masked sum for each beats scattering every point

COMPARE = {"nnan", "ninf", "nsz"}  # what minimum and maximum need to be vectorized


@njit(nogil=True, cache=True)
@no_type_check
def mark_colors(pixels, tables):
    """Return a bitmap of 2^24 bits, set where a Morton code occurs."""
    bitmap = np.zeros(1 << 18, np.uint64)
    for i in range(pixels.shape[0]):
        code = tables[0, pixels[i, 0]] | tables[1, pixels[i, 1]] | tables[2, pixels[i, 2]]
        bitmap[np.uint64(code >> 6)] |= np.uint64(1) << np.uint64(code & 63)
    return bitmap


@njit(nogil=True, cache=True)
@no_type_check
def rank_colors(bitmap):
    """Return each word beside how many bits are set before it, (words, 2), and how many in all."""
    ranked = np.empty((bitmap.size, 2), np.uint64)
    total = 0
    for i in range(bitmap.size):
        ranked[i, 0], ranked[i, 1] = bitmap[i], total
        total += np.int64(_popcount(bitmap[i]))
    return ranked, total


@njit(nogil=True, cache=True)
@no_type_check
def count_colors(pixels, tables, ranked, inverse, found):
    """Write each pixel's rank, and count in `found`, (total,) zeros, how often each comes.

    Word and running count lie side by side: what is looked up together is fetched together.
    """
    for i in range(pixels.shape[0]):
        code = tables[0, pixels[i, 0]] | tables[1, pixels[i, 1]] | tables[2, pixels[i, 2]]
        place = np.uint64(code >> 6)  # unsigned: nothing is counted from the end
        below = (np.uint64(1) << np.uint64(code & 63)) - np.uint64(1)
        rank = ranked[place, 1] + _popcount(ranked[place, 0] & below)
        inverse[i] = rank
        found[rank] += np.uint32(1)


@njit(nogil=True, cache=True)
@no_type_check
def list_colors(ranked, words, found, colors, counts):
    """Write colours and counts of the bitmap's words words[0]..words[1], whose rank is known.

    A colour is read off its place in the bitmap; its count is added up over all chunks of pixels.
    """
    within = np.empty((64, 3), np.uint8)  # what the lowest six bits say of each channel
    for bit in range(64):
        for j in range(3):
            within[bit, j] = _third_bits(bit, 2 - j)
    for i in range(words[0], words[1]):
        word, rank = ranked[i, 0], ranked[i, 1]
        r, g, b = _third_bits(i << 6, 2), _third_bits(i << 6, 1), _third_bits(i << 6, 0)
        while word:
            below = (word - np.uint64(1)) & ~word
            bit = _popcount(below)
            word &= word - np.uint64(1)
            colors[rank, 0] = r | within[bit, 0]
            colors[rank, 1] = g | within[bit, 1]
            colors[rank, 2] = b | within[bit, 2]
            count = np.int64(0)
            for chunk in range(found.shape[0]):
                count += np.int64(found[chunk, rank])
            counts[rank] = count
            rank += np.uint64(1)


@njit(nogil=True, cache=True)
@no_type_check
def _third_bits(code, first):
    """Gather every third bit of a code of 24, from the one numbered `first` up."""
    value = 0
    for j in range(8):
        value |= (code >> (3 * j + first) & 1) << j
    return value


@njit(nogil=True, cache=True)
@no_type_check
def _popcount(word):
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    pairs = np.uint64(0x3333333333333333)
    word = (word & pairs) + ((word >> np.uint64(2)) & pairs)
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(nogil=True, cache=True)
@no_type_check
def lay_out(rows, masses, is_integral, chunk, points, weights, boxes, sums):
    """Write the points of the tiles chunk[0]..chunk[1] as columns, their boxes and their sums.

    Missing dimensions are 0; what fills up the last tile is its last point, without weight.
    """
    n, d = rows.shape
    start, end = chunk[0] * TILE, chunk[1] * TILE
    for j in range(4):
        for i in range(start, min(end, n)):
            points[j, i] = rows[i, j] if j < d else 0
        for i in range(n, end):
            points[j, i] = points[j, n - 1]
    weights[start : min(end, n)] = masses[start : min(end, n)]
    weights[min(end, n) : end] = 0
    _box_tiles(points, weights, is_integral, chunk, boxes, sums)


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _box_tiles(points, weights, is_integral, chunk, boxes, sums):
    """Write each tile's box and origin (3, 4, tiles), and its sums about it (6, tiles)."""
    shifts, shares = np.empty(TILE), np.empty(TILE)
    for t in range(chunk[0], chunk[1]):
        start = t * TILE
        scatter = 0.0
        for j in range(4):
            low = high = points[j, start]
            for i in range(TILE):
                low, high = min(low, points[j, start + i]), max(high, points[j, start + i])
            origin = low + (high - low) / 2
            if is_integral:
                origin = np.floor(origin)
            boxes[0, j, t], boxes[1, j, t], boxes[2, j, t] = low, high, origin
            origin = boxes[2, j, t]
            for i in range(TILE):
                shifts[i] = np.float64(points[j, start + i]) - np.float64(origin)
                shares[i] = weights[start + i] * shifts[i]
            sums[j, t] = add_up(shares, 0)
            scatter += add_products(shares, 0, shifts, 0)
        sums[4, t], sums[5, t] = add_up(weights, start), scatter


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def box_bounds(low, high, centroids, count, near, far):
    """Write the squared distance from each centroid to the box's nearest and farthest point."""
    zero = low[0] - low[0]
    l0, l1, l2, l3 = low[0], low[1], low[2], low[3]
    h0, h1, h2, h3 = high[0], high[1], high[2], high[3]
    for q in range(count):
        a0, b0 = l0 - centroids[0, q], h0 - centroids[0, q]
        a1, b1 = l1 - centroids[1, q], h1 - centroids[1, q]
        a2, b2 = l2 - centroids[2, q], h2 - centroids[2, q]
        a3, b3 = l3 - centroids[3, q], h3 - centroids[3, q]
        n0, f0 = max(max(a0, -b0), zero), max(-a0, b0)
        n1, f1 = max(max(a1, -b1), zero), max(-a1, b1)
        n2, f2 = max(max(a2, -b2), zero), max(-a2, b2)
        n3, f3 = max(max(a3, -b3), zero), max(-a3, b3)
        near[q] = ((n0 * n0 + n1 * n1) + n2 * n2) + n3 * n3
        far[q] = ((f0 * f0 + f1 * f1) + f2 * f2) + f3 * f3


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def survivors(near, far, count, rank, kept, huge):
    """Keep, in order, who may be among the `rank` nearest of some point of the box."""
    first = second = huge
    for q in range(count):
        second = min(second, max(far[q], first))
        first = min(first, far[q])
    bound = first if rank == 1 else second
    left = 0
    for q in range(count):
        kept[left] = q
        left += near[q] <= bound
    if left:
        return left
    for q in range(count):  # every distance overflows: nobody can be told from another
        kept[q] = q
    return count


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def assign(points, weights, boxes, sums, centroids, chunk, labels, huge):
    """Return a table (k, COLUMNS) of sums (4), mass and WCSS of the tiles chunk[0]..chunk[1]."""
    k = centroids.shape[1]
    table = np.zeros((k, COLUMNS))
    near, far = np.empty(k, points.dtype), np.empty(k, points.dtype)
    outer, inner = np.empty(k + 1, np.int32), np.empty(k + 1, np.int32)
    packed = np.empty((4, k), points.dtype)
    scratch = np.empty(6 * TILE, points.dtype)  # x (4), smallest distance, its candidate
    shares = np.empty(TILE)
    low, high, origin = np.empty(4, points.dtype), np.empty(4, points.dtype), boxes[2, :, 0].copy()
    is_deep = _has_fourth(boxes, centroids, chunk)
    for first in range(chunk[0], chunk[1], SUPER):
        last = min(first + SUPER, chunk[1])
        around = _pack_candidates(boxes, first, last, centroids, 1, near, far, outer, packed, huge)
        for t in range(first, last):
            for j in range(4):
                low[j], high[j], origin[j] = boxes[0, j, t], boxes[1, j, t], boxes[2, j, t]
            box_bounds(low, high, packed, around, near, far)
            count = survivors(near, far, around, 1, inner, huge)
            start = t * TILE
            if count == 1:
                c = outer[inner[0]]
                _add_tile(table, c, sums, origin, centroids, t)
                if labels.size:
                    labels[start : start + TILE] = c
                continue
            _nearest(points, start, packed, inner, count, scratch, huge, is_deep)
            if count <= MASKED_CANDIDATES:
                _add_masked(table, outer, inner, count, scratch, weights, start, shares, is_deep)
            else:
                _add_scattered(table, outer, inner, scratch, weights, start)
            if labels.size:
                for i in range(TILE):
                    labels[start + i] = outer[inner[np.int32(scratch[5 * TILE + i])]]
    return table


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _pack_candidates(boxes, first, last, centroids, rank, near, far, outer, packed, huge):
    """Prune for several tiles at once; copy who is left side by side."""
    low, high = boxes[0, :, first].copy(), boxes[1, :, first].copy()
    for t in range(first + 1, last):
        for j in range(4):
            low[j], high[j] = min(low[j], boxes[0, j, t]), max(high[j], boxes[1, j, t])
    box_bounds(low, high, centroids, centroids.shape[1], near, far)
    count = survivors(near, far, centroids.shape[1], rank, outer, huge)
    for q in range(count):
        for j in range(4):
            packed[j, q] = centroids[j, outer[q]]
    return count


@njit(nogil=True, cache=True)
@no_type_check
def _has_fourth(boxes, centroids, chunk):
    """Say whether the fourth coordinate counts: that of points in three dimensions is 0."""
    if np.any(centroids[3] != 0):
        return True
    return np.any(boxes[:2, 3, chunk[0] : chunk[1]] != 0)


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _nearest(points, start, packed, inner, count, scratch, huge, is_deep):
    """Copy a tile's points into scratch and find each one's nearest candidate."""
    for i in range(TILE):
        scratch[i] = points[0, start + i]
        scratch[TILE + i] = points[1, start + i]
        scratch[2 * TILE + i] = points[2, start + i]
        scratch[3 * TILE + i] = points[3, start + i]
        scratch[4 * TILE + i] = huge
        scratch[5 * TILE + i] = 0
    for q in range(count):
        c = inner[q]
        c0, c1, c2, c3 = packed[0, c], packed[1, c], packed[2, c], packed[3, c]
        name = np.float32(q)
        if is_deep:
            for i in range(TILE):
                d0, d1 = scratch[i] - c0, scratch[TILE + i] - c1
                d2, d3 = scratch[2 * TILE + i] - c2, scratch[3 * TILE + i] - c3
                distance = ((d0 * d0 + d1 * d1) + d2 * d2) + d3 * d3
                best = scratch[4 * TILE + i]
                scratch[5 * TILE + i] = name if distance < best else scratch[5 * TILE + i]
                scratch[4 * TILE + i] = min(distance, best)
        else:
            for i in range(TILE):
                d0, d1 = scratch[i] - c0, scratch[TILE + i] - c1
                d2 = scratch[2 * TILE + i] - c2
                distance = (d0 * d0 + d1 * d1) + d2 * d2
                best = scratch[4 * TILE + i]
                scratch[5 * TILE + i] = name if distance < best else scratch[5 * TILE + i]
                scratch[4 * TILE + i] = min(distance, best)


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _add_tile(table, c, sums, origin, centroids, t):
    """Add a whole tile to centroid c, from its sums about its origin."""
    mass, wcss = sums[4, t], sums[5, t]
    for j in range(4):
        shift = np.float64(origin[j]) - np.float64(centroids[j, c])
        wcss += shift * (2 * sums[j, t] + mass * shift)
        table[c, j] += sums[j, t] + mass * np.float64(origin[j])
    table[c, 4] += mass
    table[c, 5] += wcss


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _add_masked(table, outer, inner, count, scratch, weights, start, shares, is_deep):
    """Add candidates' shares of a tile by masked sums: few candidates, no scattering.

    The WCSS of the whole tile goes to the first of them; `shares` (TILE,) is scratch.
    """
    table[outer[inner[0]], 5] += add_products(weights, start, scratch, 4 * TILE)
    for q in range(count):
        name = np.float32(q)
        for i in range(TILE):
            shares[i] = weights[start + i] if scratch[5 * TILE + i] == name else 0.0
        c = outer[inner[q]]
        for j in range(4 if is_deep else 3):
            table[c, j] += add_products(shares, 0, scratch, j * TILE)
        table[c, 4] += add_up(shares, 0)


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _add_scattered(table, outer, inner, scratch, weights, start):
    """Add each point of a tile to its candidate."""
    for i in range(TILE):
        c = outer[inner[np.int32(scratch[5 * TILE + i])]]
        weight = weights[start + i]
        for j in range(4):
            table[c, j] += weight * scratch[j * TILE + i]
        table[c, 4] += weight
        table[c, 5] += weight * scratch[4 * TILE + i]


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def assign_detail(points, weights, boxes, sums, centroids, chunk, labels, huge):
    """Return a table (k, DETAIL_COLUMNS): as `assign`, then sums of squares (4) and utility.

    The runner-up's distance is wanted too, so a candidate stays if it may come second.
    """
    k = centroids.shape[1]
    table = np.zeros((k, DETAIL_COLUMNS))
    near, far = np.empty(k, points.dtype), np.empty(k, points.dtype)
    outer, inner = np.empty(k + 1, np.int32), np.empty(k + 1, np.int32)
    packed = np.empty((4, k), points.dtype)
    scratch = np.empty(7 * TILE, points.dtype)  # x (4), smallest, its candidate, second smallest
    low, high = np.empty(4, points.dtype), np.empty(4, points.dtype)
    for first in range(chunk[0], chunk[1], SUPER):
        last = min(first + SUPER, chunk[1])
        around = _pack_candidates(boxes, first, last, centroids, 2, near, far, outer, packed, huge)
        for t in range(first, last):
            for j in range(4):
                low[j], high[j] = boxes[0, j, t], boxes[1, j, t]
            box_bounds(low, high, packed, around, near, far)
            count = survivors(near, far, around, 2, inner, huge)
            start = t * TILE
            _two_nearest(points, start, packed, inner, count, scratch, huge)
            for i in range(TILE):
                c = outer[inner[np.int32(scratch[5 * TILE + i])]]
                weight = weights[start + i]
                smallest = np.float64(scratch[4 * TILE + i])
                for j in range(4):
                    value = np.float64(scratch[j * TILE + i])
                    table[c, j] += weight * value
                    table[c, 6 + j] += weight * (value * value)
                table[c, 4] += weight
                table[c, 5] += weight * smallest
                if k > 1:
                    table[c, 10] += weight * (np.float64(scratch[6 * TILE + i]) - smallest)
                if labels.size:
                    labels[start + i] = c
    return table


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _two_nearest(points, start, packed, inner, count, scratch, huge):
    """Do as `_nearest`, and keep the second smallest distance."""
    for i in range(TILE):
        scratch[i] = points[0, start + i]
        scratch[TILE + i] = points[1, start + i]
        scratch[2 * TILE + i] = points[2, start + i]
        scratch[3 * TILE + i] = points[3, start + i]
        scratch[4 * TILE + i] = huge
        scratch[5 * TILE + i] = 0
        scratch[6 * TILE + i] = huge
    for q in range(count):
        c = inner[q]
        c0, c1, c2, c3 = packed[0, c], packed[1, c], packed[2, c], packed[3, c]
        name = np.float32(q)
        for i in range(TILE):
            d0, d1 = scratch[i] - c0, scratch[TILE + i] - c1
            d2, d3 = scratch[2 * TILE + i] - c2, scratch[3 * TILE + i] - c3
            distance = ((d0 * d0 + d1 * d1) + d2 * d2) + d3 * d3
            best = scratch[4 * TILE + i]
            scratch[5 * TILE + i] = name if distance < best else scratch[5 * TILE + i]
            scratch[6 * TILE + i] = min(scratch[6 * TILE + i], max(distance, best))
            scratch[4 * TILE + i] = min(distance, best)


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def greedy_seeds(points, weights, boxes, size, uniforms):
    """Return the rows chosen by greedy k-means++; see the reference for the rule.

    A tile whose points are all nearer to a seed than its box is to the new one does not change.
    """
    k, trials = uniforms.shape
    tiles = points.shape[1] // TILE
    nearest = np.ones(points.shape[1], points.dtype)
    potentials, widest = np.empty(tiles), np.empty(tiles, points.dtype)
    for t in range(tiles):
        potentials[t] = 0.0
        for i in range(t * TILE, t * TILE + TILE):
            potentials[t] += weights[i]
    chosen = np.empty(k, np.int64)
    chosen[0] = draw(weights, nearest, potentials, size, uniforms[0, 0])
    for t in range(tiles):
        potentials[t], widest[t] = _relax(points, weights, nearest, chosen[0], t, True)
    lowered = np.empty(TILE, points.dtype)
    gaps, best_gaps = np.empty(tiles, points.dtype), np.empty(tiles, points.dtype)
    for s in range(1, k):
        if not potentials.sum() > 0:
            return chosen[:s]
        best, lowest = np.int64(0), 1e308
        for trial in range(trials):
            row = draw(weights, nearest, potentials, size, uniforms[s, trial])
            _box_gaps(boxes, points[:, row].copy(), gaps)
            potential = 0.0
            for t in range(tiles):
                if gaps[t] < widest[t]:
                    potential += _potential(points, weights, nearest, row, t, lowered)
                else:
                    potential += potentials[t]
            if potential < lowest:
                best, lowest = row, potential
                gaps, best_gaps = best_gaps, gaps
        chosen[s] = best
        for t in range(tiles):
            if best_gaps[t] < widest[t]:
                potentials[t], widest[t] = _relax(points, weights, nearest, best, t, False)
    return chosen


@njit(nogil=True, cache=True)
@no_type_check
def draw(weights, nearest, by_tile, size, uniform):
    """Return the first row where the running potential exceeds uniform x total, or the last."""
    target = uniform * by_tile.sum()
    running = 0.0
    t = 0
    while t < by_tile.size - 1 and running + by_tile[t] <= target:
        running += by_tile[t]
        t += 1
    last = t * TILE
    for i in range(t * TILE, min(t * TILE + TILE, size)):
        potential = weights[i] * nearest[i]
        running += potential
        if potential > 0:
            last = i
            if running > target:
                return i
    while weights[last] * nearest[last] <= 0:  # rounding may put the target at the total itself
        last -= 1
    return last


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _relax(points, weights, nearest, row, t, is_first):
    """Lower a tile's distances to a new seed; return its potential and largest distance."""
    p0, p1, p2, p3 = points[0, row], points[1, row], points[2, row], points[3, row]
    largest = p0 - p0
    for i in range(t * TILE, t * TILE + TILE):
        d0, d1, d2, d3 = points[0, i] - p0, points[1, i] - p1, points[2, i] - p2, points[3, i] - p3
        distance = ((d0 * d0 + d1 * d1) + d2 * d2) + d3 * d3
        distance = distance if is_first else min(distance, nearest[i])
        nearest[i] = distance
        largest = max(largest, distance)
    return add_products(weights, t * TILE, nearest, t * TILE), largest


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _potential(points, weights, nearest, row, t, lowered):
    """Return what a tile's potential would be with a new seed; `lowered` (TILE,) is scratch."""
    p0, p1, p2, p3 = points[0, row], points[1, row], points[2, row], points[3, row]
    for i in range(t * TILE, t * TILE + TILE):
        d0, d1, d2, d3 = points[0, i] - p0, points[1, i] - p1, points[2, i] - p2, points[3, i] - p3
        distance = ((d0 * d0 + d1 * d1) + d2 * d2) + d3 * d3
        lowered[i - t * TILE] = min(distance, nearest[i])
    return add_products(weights, t * TILE, lowered, 0)


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def _box_gaps(boxes, point, gaps):
    """Write the squared distance from a point to each tile's box."""
    p0, p1, p2, p3 = point[0], point[1], point[2], point[3]
    zero = p0 - p0
    for t in range(gaps.size):
        g0 = max(max(boxes[0, 0, t] - p0, p0 - boxes[1, 0, t]), zero)
        g1 = max(max(boxes[0, 1, t] - p1, p1 - boxes[1, 1, t]), zero)
        g2 = max(max(boxes[0, 2, t] - p2, p2 - boxes[1, 2, t]), zero)
        g3 = max(max(boxes[0, 3, t] - p3, p3 - boxes[1, 3, t]), zero)
        gaps[t] = ((g0 * g0 + g1 * g1) + g2 * g2) + g3 * g3
