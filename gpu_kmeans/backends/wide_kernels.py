"""Passes over points of more than four dimensions, compiled by numba.

Boxes prune nothing there. Where it is not known from the pass before that no other centroid can
have come nearer (`_name_moved`), every one is compared, in two steps. Scores |c|^2 / 2 - x . c in
float32, about the points' middle and in units of their spread, take one instruction for sixteen
coordinates; where the least is below the next by more than twice the most that rounding can have
done to either, it is settled whose the point is. For the others the distances themselves decide, as
the reference computes them. So labels are the reference's, and what a score is rounded to is part
of no answer.

How far a score may be off: with u = 2^-24, |x| the norm of a point and |c| of a centre, u |x| and
u |c| by their own rounding, and u (d + 2) (|c|^2 / 2 + |x| |c|) by adding up; the distance in the
points' own type, with v for u, v (d + 3) (|x| + |c|)^2 / 2; and what vanishes below the least
number of either type. Together less than `share` (|x| + |c|)^2 + `least`, see `_margin`.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends.descent_kernels import GOES_ON, LONELY, RESTS
from gpu_kmeans.backends.kernels import draw as draw_row
from gpu_kmeans.backends.search_kernels import place_beyond
from gpu_kmeans.backends.tile_vectors import TILE, lowest_bit
from gpu_kmeans.backends.wide_vectors import CENTERS, add_row, may_be_nearer, score, sq_distance

_SAFE = 0.6  # a half, and some more for the rounding of the bound itself
_MORE = 2.0**-40  # share by which bounds are widened for the rounding of their own
BLOCK = 8  # tiles whose open points are gathered
_MANY = 24  # open points of a tile, above which it is scored as it lies
_FAR = 1e18  # what has a norm above it may overflow when it is squared in float32


@njit(nogil=True, cache=True)
@no_type_check
def survey(rows, first, last):
    """Return sum, minimum and maximum of each coordinate of rows first..last, (3, d) float64."""
    d = rows.shape[1]
    found = np.zeros((3, d))
    for j in range(d):
        found[1, j] = found[2, j] = rows[first, j]
    for i in range(first, last):
        for j in range(d):
            value = np.float64(rows[i, j])
            found[0, j] += value
            found[1, j] = min(found[1, j], value)
            found[2, j] = max(found[2, j], value)
    return found


@njit(nogil=True, cache=True)
@no_type_check
def lay_out(rows, origin, scale, columns, squares, norms, start, stop):
    """Write the points of the tiles start..stop as `score` takes them; and their squared norms.

    About the origin and times the scale. norms (tiles,) float64 are the largest of a tile, not
    squared. What fills up the last tile is 0.
    """
    n, d = rows.shape
    exact = np.empty(TILE)
    for t in range(start, stop):
        size, first = np.uint64(min(TILE, n - t * TILE)), np.uint64(t * TILE)
        exact[:] = 0.0
        for j in range(np.uint64(d)):
            base = first * np.uint64(d) + j * np.uint64(TILE)
            for i in range(size):
                shift = (np.float64(rows[first + i, j]) - origin[j]) * scale
                columns[base + i] = shift
                exact[i] += shift * shift
            for i in range(size, np.uint64(TILE)):
                columns[base + i] = 0
        for i in range(np.uint64(TILE)):
            squares[first + i] = exact[i]
        norms[t] = np.sqrt(exact.max())


@njit(nogil=True, cache=True)
@no_type_check
def aim(centroids, origin, scale):
    """Return centres as `score` takes them, halves of their squared norms, and the largest norm."""
    k, d = centroids.shape
    blocks = -(-k // CENTERS)
    centers = np.zeros(blocks * d * CENTERS, np.float32)
    halves = np.full(blocks * CENTERS, np.float32(3e38))  # of those that fill up: never the least
    farthest = 0.0
    for c in range(k):
        first, square = c // CENTERS * d * CENTERS + c % CENTERS, 0.0
        for j in range(d):
            value = (np.float64(centroids[c, j]) - origin[j]) * scale
            centers[first + j * CENTERS] = -value
            square += value * value
        halves[c] = square / 2
        farthest = max(farthest, square)
    return centers, halves, np.sqrt(farthest)


@njit(nogil=True, cache=True)
@no_type_check
def drift(before, after, scale):
    """Return (k,) the farthest that any other centroid has moved, rounded up."""
    k, d = before.shape
    first = second = 0.0
    farthest = -1
    for c in range(k):
        square = 0.0
        for j in range(d):
            moved = np.float64(after[c, j]) - np.float64(before[c, j])
            square += moved * moved
        moved = np.sqrt(square)
        if moved > first:
            first, second, farthest = moved, first, c
        else:
            second = max(second, moved)
    moved = np.full(k, first)
    if farthest >= 0:
        moved[farthest] = second
    return moved * scale * (1 + _MORE)


@njit(nogil=True, cache=True)
@no_type_check
def _margin(norm, farthest, depth, frame):
    """Return twice the most that a score of a tile may be off; infinite where nothing is known."""
    _, scale, (own_unit, own_least, own_most) = frame
    reach = norm + farthest
    distance = reach / scale
    if not (reach < _FAR and distance * distance * 4 < own_most):
        return np.inf
    share = _SAFE * (2.0**-24 * (depth + 4) + own_unit * (depth + 3))
    least = depth * (own_least * scale * scale + 1e-40)
    return 2 * (share * reach * reach + least)


@njit(nogil=True, cache=True)
@no_type_check
def assign(points, frame, aimed, known, start, stop):
    """Return a table (k, d + 2) of sums (d), mass and WCSS of the tiles start..stop.

    points: rows (n, d), weights (n,), and what `lay_out` writes. frame: origin (d,), scale, and of
    the points' type the rounding, the least and the largest number. aimed: centroids (k, d) and
    what `aim` returns of them. known: of each point whose it was, int32, and how near any other
    centroid may have been, float32, both of which are brought up to date, and what `drift` returns,
    empty where nothing was known. All WCSS is in the first row.
    """
    rows, weights = points[:2]
    centroids, names, drifts = aimed[0], known[0], known[2]
    n, d = rows.shape
    work = _new_work(d, len(aimed[2]))
    distances = np.full(BLOCK * TILE, -1.0)
    table, cost = np.zeros((len(centroids), d + 2)), 0.0
    looked, opened, bearable = 0, 0, _bearable(len(centroids), d)
    for block in range(start, stop, BLOCK):
        last = min(block + BLOCK, stop)
        first, end = np.uint64(block * TILE), np.uint64(min(last * TILE, n))
        if drifts.size and opened <= bearable * looked:
            opened += _name_moved(points, frame, aimed, known, block, last, work, distances)
            looked += end - first
        else:
            _name_tiles(points, frame, aimed, known, block, last, work)
            distances[:] = -1.0
        for row in range(first, end):
            c, weight = np.uint64(names[row]), weights[row]
            distance = distances[row - first]
            if distance < 0:
                distance = sq_distance(rows, row, centroids, c)
            add_row(table, c, rows, row, weight)
            table[c, d] += weight
            cost += weight * distance
    table[0, d + 1] = cost
    return table


@njit(nogil=True, cache=True)
@no_type_check
def _bearable(k, depth):
    """Return the share of points that are looked at in vain below which looking pays.

    Counted in cycles: of a look, and of naming a point at once.
    """
    return 1 - (depth / 4 + 20) / (depth * k / 32 + depth / 2 + 30)


@njit(nogil=True, cache=True)
@no_type_check
def _new_work(depth, k):
    """Return room for scores, whose a tile's points are, second least and least scores.

    And for a tile of points from all over, and their squared norms.
    """
    scores, names = np.empty(k * TILE, np.float32), np.empty(TILE, np.int32)
    second, best = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    tile, squares = np.zeros(depth * TILE, np.float32), np.zeros(TILE, np.float32)
    return scores, names, second, best, tile, squares


@njit(nogil=True, cache=True)
@no_type_check
def _name_moved(points, frame, aimed, known, block, last, work, distances):
    """Bring up to date whose the points of some tiles are; write distances, -1 where not known.

    A point stays with its centroid if that is nearer than any other can have come. Returns how many
    points were open.
    """
    rows, _, _, squares, norms = points
    names, lower, drifts = known
    n, d = rows.shape
    scale, (unit, least, _) = frame[1:]
    more = 1 + 2 * (d + 4) * (unit + 2.0**-53)
    lost = 2 * np.sqrt(d * least) * scale
    opened, count = np.empty(2 * TILE, np.int64), 0
    waiting, norm, start = 0, 0.0, np.uint64(block * TILE)
    for t in range(block, last):
        before, end = waiting, np.uint64(min(t * TILE + TILE, n))
        for row in range(np.uint64(t * TILE), end):
            c = np.uint64(names[row])
            distance = sq_distance(rows, row, aimed[0], c)
            room = lower[row] * (1 - _MORE) - drifts[c]
            if np.sqrt(distance) * scale * more + lost < room:
                distances[row - start] = distance
                lower[row] = room * (1 - 2.0**-22)
            else:
                distances[row - start] = -1.0
                opened[np.uint64(waiting)] = row
                waiting += 1
        count += waiting - before
        if waiting - before > _MANY:
            _name_tiles(points, frame, aimed, known, t, t + 1, work)
            waiting = before
            continue
        norm = max(norm, norms[t])
        if waiting >= TILE:
            _name_rows(rows, squares, frame, aimed, known, opened[:TILE], norm, work)
            waiting -= TILE
            opened[:waiting] = opened[TILE : TILE + waiting]
    if waiting:
        _name_rows(rows, squares, frame, aimed, known, opened[:waiting], norm, work)
    return count


@njit(nogil=True, cache=True)
@no_type_check
def _name_tiles(points, frame, aimed, known, start, stop, work):
    """Name the points of tiles as they lie. Arrays are taken out of their tuples but once."""
    rows, _, columns, squares, norms = points
    centroids, centers, halves, farthest = aimed
    names, lower, _ = known
    scores, found, second, best, _, _ = work
    n, d = rows.shape
    for t in range(start, stop):
        score(columns, t, d, centers, halves, len(halves) // CENTERS, scores, best, second, found)
        size = min(TILE, n - t * TILE)
        if _bound(squares, t * TILE, _margin(norms[t], farthest, d, frame), best, second):
            _name_exactly(rows, t * TILE, size, centroids, scores, best, second, found)
        first = np.uint64(t * TILE)  # unsigned: nothing is counted from the end
        for i in range(np.uint64(size)):
            names[first + i], lower[first + i] = found[i], second[i]


@njit(nogil=True, cache=True)
@no_type_check
def _name_rows(rows, squares, frame, aimed, known, opened, norm, work):
    """Name rows from all over, as a tile of their own."""
    origin, scale, _ = frame
    centroids, centers, halves, farthest = aimed
    names, lower, _ = known
    scores, found, second, best, tile, own_squares = work
    d = len(origin)
    for i in range(len(opened)):
        row = opened[i]
        own_squares[i] = squares[row]
        for j in range(d):
            value = (np.float64(rows[row, j]) - origin[j]) * scale
            tile[j * TILE + i] = np.float32(value)
    score(tile, 0, d, centers, halves, len(halves) // CENTERS, scores, best, second, found)
    _bound(own_squares, 0, _margin(norm, farthest, d, frame), best, second)
    for i in range(len(opened)):
        row = opened[i]
        if second[i] == 0:
            found[i] = _two_nearest(rows[row], centroids, scores, i, best[i])[0]
        names[row], lower[row] = found[i], second[i]


@njit(nogil=True, cache=True)
@no_type_check
def _bound(squares, first, margin, best, second):
    """Turn second least scores into how near any but the nearest may be; 0 where none is surely so.

    And least scores into what others may score that are as near. Returns whether any is not sure.
    """
    unsure, start = 0, np.uint64(first)
    for i in range(np.uint64(TILE)):
        limit = best[i] + margin
        square = squares[start + i] + 2 * np.float64(second[i]) - 3 * margin
        is_sure = second[i] > limit and square > 0
        second[i] = np.sqrt(square) * (1 - 2.0**-22) if is_sure else 0.0
        best[i] = limit
        unsure += not is_sure
    return unsure > 0


@njit(nogil=True, cache=True)
@no_type_check
def _name_exactly(rows, first, size, centroids, scores, limits, bounds, names):
    for i in range(size):
        if bounds[i] == 0:
            names[i] = _two_nearest(rows[first + i], centroids, scores, i, limits[i])[0]


@njit(nogil=True, cache=True)
@no_type_check
def _two_nearest(point, centroids, scores, i, limit):
    """Return the first of the nearest of those that score no more than the limit.

    And its distance, and that of the next one, infinite where there is none.
    """
    nearest, next_one, name = np.inf, np.inf, 0
    for c in range(len(centroids)):
        if not scores[c * TILE + i] > limit:
            distance = np.float64(_distance(point, centroids[c]))
            if distance < nearest:
                nearest, next_one, name = distance, nearest, c
            else:
                next_one = min(next_one, distance)
    return name, nearest, next_one


@njit(nogil=True, cache=True)
@no_type_check
def _distance(point, centroid):
    """Return the squared distance, rounded as the reference does."""
    total = point[0] - point[0]
    for j in range(len(point)):
        missed = point[j] - centroid[j]
        total += missed * missed
    return total


@njit(nogil=True, cache=True)
@no_type_check
def assign_detail(points, frame, aimed, labels, start, stop):
    """Return a table (k, 2 d + 3): as `assign`, then sums of squares (d) and utility.

    Writes labels where there is room.
    """
    rows, weights, columns, _, norms = points
    centroids, centers, halves, farthest = aimed
    (n, d), k = rows.shape, len(centroids)
    scores, found, second, best, _, _ = _new_work(d, len(halves))
    others, counts = np.empty(TILE, np.int32), np.empty(TILE, np.int32)
    table = np.zeros((k, 2 * d + 3))
    for t in range(start, stop):
        score(columns, t, d, centers, halves, len(halves) // CENTERS, scores, best, second, found)
        margin = _margin(norms[t], farthest, d, frame)
        for i in range(TILE):
            best[i], second[i] = best[i] + margin, second[i] + margin
        _find_others(scores, k, found, second, others, counts)
        for i in range(min(TILE, n - t * TILE)):
            row = t * TILE + i
            if counts[i] == 2 and second[i] > best[i] + margin:  # noqa: PLR2004
                c = found[i]
                nearest = sq_distance(rows, row, centroids, c)
                next_one = sq_distance(rows, row, centroids, others[i])
            else:
                c, nearest, next_one = _two_nearest(rows[row], centroids, scores, i, second[i])
            weight = weights[row]
            add_row(table, c, rows, row, weight)
            for j in range(d):
                value = np.float64(rows[row, j])
                table[c, d + 2 + j] += weight * (value * value)
            table[c, d] += weight
            table[c, d + 1] += weight * nearest
            if k > 1:
                table[c, 2 * d + 2] += weight * (next_one - nearest)
            if labels.size:
                labels[row] = c
    return table


@njit(nogil=True, cache=True)
@no_type_check
def _find_others(scores, k, found, limits, others, counts):
    """Count, of each of a tile's points, who scores no more than its limit; name one not found."""
    others[:], counts[:] = 0, 0
    for c in range(k):
        for i in range(TILE):
            is_near = not scores[c * TILE + i] > limits[i]
            counts[i] += is_near
            others[i] = c if is_near and c != found[i] else others[i]


@njit(nogil=True, cache=True)
@no_type_check
def move(table, centroids, previous, limit, still, over_relaxed):
    """Do as `descent_kernels.move`, for centroids (k, d) that are not on a grid."""
    k, d = centroids.shape
    wcss, shift, moved = table[0, d + 1], 0.0, np.empty_like(centroids)
    for c in range(k):
        mass = table[c, d]
        if mass == 0:
            return centroids, wcss, LONELY
        for j in range(d):
            old, new = np.float64(centroids[c, j]), table[c, j] / mass
            moved[c, j] = place_beyond(old, new, False) if over_relaxed else new
            shift += (np.float64(moved[c, j]) - old) ** 2
    rests = previous - wcss < still * wcss or shift <= limit
    return moved, wcss, RESTS if rests else GOES_ON


@njit(nogil=True, cache=True)
@no_type_check
def draw(weights, nearest, potentials, uniforms):
    """Draw a row for each number, as `kernels.draw` does."""
    rows = np.empty(len(uniforms), np.int64)
    for i in range(len(uniforms)):
        rows[i] = draw_row(weights, nearest, potentials, len(weights), uniforms[i])
    return rows


@njit(nogil=True, cache=True)
@no_type_check
def weigh(points, frame, nearest, potentials, aimed, tried, start, stop):
    """Write each tile's potential with one more seed, for each aimed at: tried (seeds, tiles).

    nearest (tiles * TILE,) are squared distances from the seeds, in units of the scale; for what
    fills up the last tile less than any.
    """
    rows, weights, columns, squares, norms = points
    seeds, centers, halves, farthest = aimed
    d, unit = rows.shape[1], frame[1] * frame[1]
    scores, names, second, best, _, _ = _new_work(d, len(halves))
    for t in range(start, stop):
        score(columns, t, d, centers, halves, len(halves) // CENTERS, scores, best, second, names)
        margin = 3 * _margin(norms[t], farthest, d, frame)
        first = np.uint64(t * TILE)
        for p in range(len(seeds)):
            gain, bits = 0.0, may_be_nearer(scores, p, squares, t, margin, nearest)
            while bits:
                row = first + np.uint64(lowest_bit(bits))
                bits &= bits - 1
                distance = sq_distance(rows, row, seeds, p) * unit
                if distance < nearest[row]:
                    gain += weights[row] * (nearest[row] - distance)
            tried[p, t] = potentials[t] - gain


@njit(nogil=True, cache=True)
@no_type_check
def relax(points, frame, nearest, potentials, aimed, start, stop):
    """Lower the distances to the seed that is aimed at, and write each tile's potential."""
    rows, weights, columns, squares, norms = points
    seeds, centers, halves, farthest = aimed
    (n, d), unit = rows.shape, frame[1] * frame[1]
    scores, names, second, best, _, _ = _new_work(d, len(halves))
    for t in range(start, stop):
        score(columns, t, d, centers, halves, len(halves) // CENTERS, scores, best, second, names)
        margin = 3 * _margin(norms[t], farthest, d, frame)
        first, size = np.uint64(t * TILE), np.uint64(min(TILE, n - t * TILE))
        bits = may_be_nearer(scores, 0, squares, t, margin, nearest)
        if not bits:
            continue
        while bits:
            row = first + np.uint64(lowest_bit(bits))
            bits &= bits - 1
            nearest[row] = min(nearest[row], sq_distance(rows, row, seeds, 0) * unit)
        total = 0.0
        for i in range(size):
            total += weights[first + i] * nearest[first + i]
        potentials[t] = total
