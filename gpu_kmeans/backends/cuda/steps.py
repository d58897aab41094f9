"""What the last program of a pass over colours does: move, stop, split, drop, all on the device.

Each step reads the sums that the pass made, acts as `gpu_kmeans.lloyd` and `gpu_kmeans.refinement`
say, in the same float64 operations one by one (division and square root are correctly rounded on
the device as on the host), and clears the sums for the next pass.
"""

from typing import no_type_check

import triton
import triton.language as tl

from gpu_kmeans.color import GRID

LARGEST = tl.constexpr(GRID)

# What follows a pass.
NOTHING = tl.constexpr(0)
DESCEND = tl.constexpr(1)  # move, and stop by the rule of `descent.descend`
SETTLE = tl.constexpr(2)  # move, and stop by the rule of `Backend.settle`
SPLIT = tl.constexpr(3)  # `refinement.split_widest`
DROP = tl.constexpr(4)  # `refinement._drop_least_useful`
OVER_RELAXED = tl.constexpr(5)  # as DESCEND, by longer steps

# States of a problem.
GOES_ON = tl.constexpr(0)
RESTS = tl.constexpr(1)
LONELY = tl.constexpr(2)  # a centroid got nothing: the host finds it a far point
ENDED = tl.constexpr(3)  # has done all its iterations


@triton.jit
@no_type_check
def _column(table, rows, column: tl.constexpr, valid, COLUMNS: tl.constexpr):
    """Read a column of sums, past the first-level cache: other programs have just written it."""
    return tl.load(table + rows * COLUMNS + column, mask=valid, other=0, volatile=True)


@triton.jit
@no_type_check
def _clear(table, rows, valid, COLUMNS: tl.constexpr):
    for column in tl.static_range(COLUMNS):
        tl.store(table + rows * COLUMNS + column, tl.zeros_like(rows).to(tl.int64), mask=valid)


@triton.jit
@no_type_check
def _mean(table, rows, j: tl.constexpr, valid, mass, old, COLUMNS: tl.constexpr):
    """Return one coordinate of the means; who got nothing stays."""
    total = _column(table, rows, j, valid, COLUMNS).to(tl.float64)
    return tl.where(mass > 0, total / tl.where(mass > 0, mass, 1.0), old)


@triton.jit
@no_type_check
def _beyond(mean, old):
    """Do as `gpu_kmeans.distances.place_beyond`: its product is exact, fused or not."""
    step = mean - old
    beyond = tl.floor((mean + (step - step * 0.25)) + 0.5)
    is_too_far = (tl.abs(beyond - mean) > tl.abs(step)) | (beyond < 0) | (beyond > LARGEST)
    return tl.where(is_too_far, tl.floor(mean + 0.5), beyond)


@triton.jit
@no_type_check
def descend_step(
    b, first, count, rows, valid, centroids, table, status, wcss, n_iter, history, limits, still,
    depth, D: tl.constexpr, COLUMNS: tl.constexpr, OVER: tl.constexpr,
):  # fmt: skip
    """Move to the grid points nearest to the means; rest when the shift or the fall is small.

    Over-relaxed, move beyond the means.
    """
    mass = _column(table, rows, D, valid, COLUMNS).to(tl.float64)
    cost = tl.sum(_column(table, rows, D + 1, valid, COLUMNS), axis=0).to(tl.float64)
    if tl.sum((valid & (mass == 0)).to(tl.int32), axis=0) > 0:
        tl.store(status + b, LONELY)
    else:
        done = tl.load(n_iter + b)
        here = history + b.to(tl.int64) * depth + done
        previous = tl.load(here - 1, mask=done > 0, other=float("inf"))
        shift = tl.zeros((1,), dtype=tl.float64)
        for j in tl.static_range(D):
            old = tl.load(centroids + rows * D + j, mask=valid, other=0.0).to(tl.float64)
            mean = _mean(table, rows, j, valid, mass, old, COLUMNS)
            new = _beyond(mean, old) if OVER else tl.floor(mean + 0.5)
            tl.store(centroids + rows * D + j, new.to(tl.float32), mask=valid)
            moved = tl.where(valid, new - old, 0.0)
            shift += tl.sum(moved * moved, axis=0)
        tl.store(here, cost)
        tl.store(wcss + b, cost)
        tl.store(n_iter + b, done + 1)
        is_still = previous - cost < tl.load(still) * cost
        if is_still | (tl.sum(shift, axis=0) <= tl.load(limits + b)):
            tl.store(status + b, RESTS)
        elif done + 1 == depth:
            tl.store(status + b, ENDED)
    _clear(table, rows, valid, COLUMNS)


@triton.jit
@no_type_check
def settle_step(
    b, rows, valid, centroids, table, status, wcss, still, is_last,
    D: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Measure; then rest, or move beyond the means unless this was the last pass."""
    mass = _column(table, rows, D, valid, COLUMNS).to(tl.float64)
    cost = tl.sum(_column(table, rows, D + 1, valid, COLUMNS), axis=0).to(tl.float64)
    previous = tl.load(wcss + b)
    tl.store(wcss + b, cost)
    if previous - cost <= tl.load(still) * cost:
        tl.store(status + b, RESTS)
    elif is_last == 0:
        for j in tl.static_range(D):
            old = tl.load(centroids + rows * D + j, mask=valid, other=0.0).to(tl.float64)
            new = _beyond(_mean(table, rows, j, valid, mass, old, COLUMNS), old)
            tl.store(centroids + rows * D + j, new.to(tl.float32), mask=valid)
    _clear(table, rows, valid, COLUMNS)


@triton.jit
@no_type_check
def split_step(
    b, first, count, rows, valid, names, count_of, centroids, table, status, wcss, extra_of, luck,
    breath, depth, D: tl.constexpr, COLUMNS: tl.constexpr, REACH: tl.constexpr,
):  # fmt: skip
    """Split the clusters of largest gain along their widest coordinate, after moving to the means.

    `luck` is (problems, depth, width) with the width of the table of names: see `color_pass`.
    """
    K: tl.constexpr = names.shape[0]
    mass = _column(table, rows, D, valid, COLUMNS).to(tl.float64)
    divisor = tl.where(mass > 0, mass, 1.0)
    widest = tl.zeros((K,), dtype=tl.float64) - 1.0
    coordinate = tl.zeros((K,), dtype=tl.int32)
    for j in tl.static_range(D):
        mean = _column(table, rows, j, valid, COLUMNS).to(tl.float64) / divisor
        square = _column(table, rows, D + 2 + j, valid, COLUMNS).to(tl.float64) / divisor
        variance = square - mean * mean
        if j == 0:
            widest = variance
        else:
            coordinate = tl.where(variance > widest, j, coordinate)
            widest = tl.maximum(variance, widest)
    widest = tl.maximum(widest, 0.0)
    chance = luck + (b.to(tl.int64) * depth + breath) * K + names
    gain = mass * widest / tl.load(chance, mask=valid, other=1.0)
    extra = tl.load(extra_of + breath)
    rank = tl.zeros((K,), dtype=tl.int32) - 1
    for e in range(extra):
        rest = valid & (rank < 0)
        largest = tl.max(tl.where(rest, gain, -1.0), axis=0)
        c = tl.min(tl.where(rest & (gain == largest), names, K - 1), axis=0)
        rank = tl.where(names == c, e, rank)
    chosen = rank >= 0
    half = REACH * tl.sqrt(widest)
    for j in tl.static_range(D):
        old = tl.load(centroids + rows * D + j, mask=valid, other=0.0).to(tl.float64)
        mean = _mean(table, rows, j, valid, mass, old, COLUMNS)
        shift = tl.where(chosen & (coordinate == j), half, 0.0)
        one = tl.floor((mean + shift) + 0.5).to(tl.float32)
        other = tl.floor((mean - shift) + 0.5).to(tl.float32)
        tl.store(centroids + rows * D + j, one, mask=valid)
        tl.store(centroids + (first + count + rank) * D + j, other, mask=chosen)
    _clear(table, rows, valid, COLUMNS)
    tl.store(count_of + b, count + extra)
    tl.store(status + b, GOES_ON)
    tl.store(wcss + b, float("inf"))


@triton.jit
@no_type_check
def drop_step(
    b, first, count, rows, valid, names, count_of, centroids, table, status, wcss, extra_of,
    breath, D: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Remove the centroids missed least, move the others to their means.

    One beside another that has just gone is kept, unless all around need each other.
    """
    K: tl.constexpr = names.shape[0]
    mass = _column(table, rows, D, valid, COLUMNS).to(tl.float64)
    utility = _column(table, rows, 2 * D + 2, valid, COLUMNS).to(tl.float64)
    stays = valid
    free = valid
    extra = tl.load(extra_of + breath)
    for _ in range(extra):
        if tl.sum(free.to(tl.int32), axis=0) == 0:
            free = stays
        least = tl.min(tl.where(free, utility, float("inf")), axis=0)
        c = tl.min(tl.where(free & (utility == least), names, K - 1), axis=0)
        for j in tl.static_range(D):
            x = tl.load(centroids + rows * D + j, mask=valid, other=0.0)
            difference = x - tl.load(centroids + (first + c) * D + j)
            if j == 0:
                distance = difference * difference
            else:
                distance += difference * difference
        distance = tl.where(valid & (names != c), distance, float("inf"))
        nearest = tl.min(distance, axis=0)
        neighbor = tl.min(tl.where(distance == nearest, names, K - 1), axis=0)
        stays = stays & (names != c)
        free = free & (names != c) & (names != neighbor)
    place = first + tl.cumsum(stays.to(tl.int32), axis=0) - 1
    for j in tl.static_range(D):
        old = tl.load(centroids + rows * D + j, mask=valid, other=0.0).to(tl.float64)
        new = tl.floor(_mean(table, rows, j, valid, mass, old, COLUMNS) + 0.5)
        tl.debug_barrier()  # all are read before any is written: rows move up
        tl.store(centroids + place * D + j, new.to(tl.float32), mask=stays)
    _clear(table, rows, valid, COLUMNS)
    tl.store(count_of + b, count - extra)
    tl.store(status + b, GOES_ON)
    tl.store(wcss + b, float("inf"))


@triton.jit
@no_type_check
def keep_better(
    first_of,  # (problems,) int32
    count_of,  # (problems,) int32, written: all of them again
    kept_of,  # (problems,) int32: how many centroids a problem keeps
    centroids,  # (rows, D) float32: the candidates; written: the better ones
    wcss,  # (problems,) float64: theirs; written: infinite, for the next settling
    status,  # (problems,) int32, written
    best,  # (rows, D) float32: the best so far
    lowest,  # (problems,) float64: their WCSS
    LANES: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
):
    """Let LANES problems in a row go on from the best of their candidates, or from the best so far.

    They are the same problem, with the same best so far; of equal candidates the first is taken.
    """
    lane0 = tl.program_id(0) * LANES
    kept = tl.load(kept_of + lane0)
    least = tl.load(lowest + lane0)
    chosen = -1
    for lane in tl.static_range(LANES):
        found = tl.load(wcss + lane0 + lane)
        chosen = tl.where(found < least, lane, chosen)
        least = tl.minimum(found, least)
    names = tl.arange(0, K)
    own = tl.load(first_of + lane0) + names
    for j in tl.static_range(D):
        better = tl.load(best + own * D + j, mask=names < kept, other=0.0)
        for lane in tl.static_range(LANES):
            at = (tl.load(first_of + lane0 + lane) + names) * D + j
            new = tl.load(centroids + at, mask=names < kept, other=0.0)
            better = tl.where(chosen == lane, new, better)
        for lane in tl.static_range(LANES):
            at = (tl.load(first_of + lane0 + lane) + names) * D + j
            tl.store(centroids + at, better, mask=names < kept)
            tl.store(best + at, better, mask=names < kept)
    tl.debug_barrier()
    for lane in tl.static_range(LANES):
        tl.store(lowest + lane0 + lane, least)
        tl.store(count_of + lane0 + lane, kept)
        tl.store(status + lane0 + lane, GOES_ON)
        tl.store(wcss + lane0 + lane, float("inf"))
