"""Kernels of greedy k-means++: two launches a seed for all problems, none waited for.

`relax` lowers every point's distance to the seed chosen last and draws the next candidates;
`evaluate` adds up what each candidate would leave, and chooses the best. In both the program that
finishes last draws or chooses. Sums are float64 in a fixed order: those of each tile first, then
over the tiles. On pictures they are whole numbers, and the seeds the reference's.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _sum_in_order(parts, count, BLOCK: tl.constexpr):
    """Add float64 numbers that other programs wrote, in an order that depends on nothing else."""
    total = tl.zeros((BLOCK,), dtype=tl.float64)
    for start in range(0, count, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(parts + at, mask=at < count, other=0.0, volatile=True)
    return tl.sum(total, axis=0)


@triton.jit
@no_type_check
def _sq_distance(points, size, at, row, dimensions, D: tl.constexpr):
    """Return squared distances of points from one of them; D is 0 where `dimensions` says it."""
    difference = tl.load(points + at) - tl.load(points + row)
    distance = difference * difference
    if D > 0:
        for j in tl.static_range(1, D):
            difference = tl.load(points + j * size + at) - tl.load(points + j * size + row)
            distance += difference * difference
    else:
        column = points + size
        for _ in range(1, dimensions):
            difference = tl.load(column + at) - tl.load(column + row)
            distance += difference * difference
            column += size
    return distance


@triton.jit
@no_type_check
def _draw(
    potentials, first, count, weights, nearest, t0, target, TILE: tl.constexpr, BLOCK: tl.constexpr
):
    """Return the first point at which the running potential exceeds a target, or the last with any.

    The tile first, by the sums of the tiles before it, then the point within the tile.
    """
    running = tl.zeros((1,), dtype=tl.float64)
    before = tl.zeros((1,), dtype=tl.float64)
    tile = tl.zeros((1,), dtype=tl.int32) - 1
    last = tl.zeros((1,), dtype=tl.int32)
    start_of_last = tl.zeros((1,), dtype=tl.float64)
    for start in range(0, count, BLOCK):
        names = start + tl.arange(0, BLOCK)
        mass = tl.load(potentials + first + names, mask=names < count, other=0.0, volatile=True)
        ends = running + tl.cumsum(mass, axis=0)
        has_mass = mass > 0
        found = tl.min(tl.where(has_mass & (ends > target), names, count), axis=0)
        here = tl.sum(tl.where(names == found, ends - mass, 0.0), axis=0)
        before = tl.where((tile < 0) & (found < count), here, before)
        tile = tl.where((tile < 0) & (found < count), found, tile)
        end = tl.max(tl.where(has_mass, names, -1), axis=0)
        start_of_end = tl.sum(tl.where(names == end, ends - mass, 0.0), axis=0)
        start_of_last = tl.where(end >= 0, start_of_end, start_of_last)
        last = tl.where(end >= 0, end, last)
        running += tl.sum(mass, axis=0)
    before = tl.where(tile < 0, start_of_last, before)  # rounding put the target at the total
    tile = tl.where(tile < 0, last, tile)
    lane = tl.arange(0, TILE)
    at = (t0 + tl.sum(tile, axis=0)) * TILE + lane
    mass = tl.load(weights + at) * tl.load(nearest + at, volatile=True).to(tl.float64)
    ends = before + tl.cumsum(mass, axis=0)
    point = tl.min(tl.where((mass > 0) & (ends > target), lane, TILE), axis=0)
    final = tl.max(tl.where(mass > 0, lane, 0), axis=0)
    return (t0 + tl.sum(tile, axis=0)) * TILE + tl.where(point == TILE, final, point)


@triton.jit(do_not_specialize=["dimensions", "step", "draws", "most"])
@no_type_check
def relax(
    points,  # (dimensions, size) float32 or float64
    weights,  # (size,) float64
    size,
    dimensions,
    first_tile_of,  # (problems,) int32
    tiles_of,  # (problems,) int32
    problem_of,  # (tiles,) int32
    nearest,  # (size,) as the points: squared distance to the nearest seed
    potentials,  # (tiles,) float64, written: weight x that, of each tile
    tickets,  # (problems,) int32; zeros
    seeds,  # (problems, most) int32: the point of each
    counts,  # (problems,) int32: seeds so far
    wanted,  # (problems,) int32: how many are wanted; written: fewer, where there are no more
    uniforms,  # (problems, most, draws) float64
    trials,  # (problems, draws) int32, written: the next candidates
    step,  # seeds chosen before; 0 draws the first by weight alone
    draws,
    most,
    D: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Take the last seed into account, then draw candidates for the next."""
    t = tl.program_id(0)
    b = tl.load(problem_of + t)
    if step >= tl.load(wanted + b):
        return
    at = t * TILE + tl.arange(0, TILE)
    weight = tl.load(weights + at)
    if step == 0:
        x = tl.load(points + at)
        distance = tl.full(x.shape, 1.0, x.dtype)
    else:
        row = tl.load(seeds + b * most + step - 1)
        distance = _sq_distance(points, size, at, row, dimensions, D)
        if step > 1:
            distance = tl.minimum(distance, tl.load(nearest + at))
    tl.store(nearest + at, distance)
    tl.store(potentials + t, tl.sum(weight * distance.to(tl.float64), axis=0))
    tl.debug_barrier()
    ticket = tl.atomic_add(tickets + b, 1, sem="acq_rel", scope="gpu")
    count = tl.load(tiles_of + b)
    if ticket == count - 1:
        tl.store(tickets + b, 0)
        t0 = tl.load(first_tile_of + b)
        total = _sum_in_order(potentials + t0, count, BLOCK)
        if total > 0:
            for q in range(draws):
                u = tl.load(uniforms + (b * most + step).to(tl.int64) * draws + q)
                row = _draw(potentials, t0, count, weights, nearest, t0, u * total, TILE, BLOCK)
                tl.store(trials + b * draws + q, row)
                if step == 0:
                    if q == 0:
                        tl.store(seeds + b * most, row)
                        tl.store(counts + b, 1)
        else:
            tl.store(wanted + b, step)


@triton.jit(do_not_specialize=["dimensions", "step", "draws", "most", "tiles"])
@no_type_check
def evaluate(
    points,
    weights,
    size,
    dimensions,
    first_tile_of,
    tiles_of,
    problem_of,
    nearest,
    left,  # (draws, tiles) float64, written: potential of each tile with each candidate
    tickets,
    seeds,
    counts,
    wanted,
    trials,
    step,  # seeds chosen before
    draws,
    most,
    tiles,
    D: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Choose the candidate that leaves least, the first of equals. Arguments as of `relax`."""
    t = tl.program_id(0)
    b = tl.load(problem_of + t)
    if step >= tl.load(wanted + b):
        return
    at = t * TILE + tl.arange(0, TILE)
    weight = tl.load(weights + at)
    so_far = tl.load(nearest + at)
    for q in range(draws):
        row = tl.load(trials + b * draws + q)
        distance = tl.minimum(_sq_distance(points, size, at, row, dimensions, D), so_far)
        tl.store(left + q * tiles + t, tl.sum(weight * distance.to(tl.float64), axis=0))
    tl.debug_barrier()
    ticket = tl.atomic_add(tickets + b, 1, sem="acq_rel", scope="gpu")
    count = tl.load(tiles_of + b)
    if ticket == count - 1:
        tl.store(tickets + b, 0)
        t0 = tl.load(first_tile_of + b)
        lowest = _sum_in_order(left + t0, count, BLOCK)
        best = 0
        for q in range(1, draws):
            found = _sum_in_order(left + q * tiles + t0, count, BLOCK)
            best = tl.where(found < lowest, q, best)
            lowest = tl.minimum(found, lowest)
        tl.store(seeds + b * most + step, tl.load(trials + b * draws + best))
        tl.store(counts + b, step + 1)
