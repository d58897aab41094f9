"""Kernels of one pass over the points: who is nearest to whom, and what that adds up to.

`color_pass` does everything for pictures in one launch. One program owns one tile of `TILE` points:
it drops the centroids that cannot win in the tile's box, compares the rest, adds each one's share
up within the tile, and adds that to the sums of the problem by integer atomics: exact, so the order
they come in is of no consequence. The program that finishes last takes the step that follows (see
`steps`): a Lloyd iteration is one launch, and the host need not know how it went.

Other points have no exact sums. `nearest_in_boxes` or `nearest_of_all` writes labels, then
`add_up` adds fixed chunks of points in their order, without atomics.

What makes it right on a GPU, beyond what the interpreter shows: the last program sees what others
added since a barrier orders its own program's atomics before the ticket, the ticket is acquired and
released at the scope of the GPU, and sums are read past the first-level cache (`volatile`). Integer
products are below 2^24 where float32 multiplies, so contraction to fused multiply-adds changes
nothing; kernels whose rounding matters are launched with `enable_fp_fusion=False`.
"""

from typing import no_type_check

import triton
import triton.language as tl

from gpu_kmeans.backends.cuda.steps import (
    DESCEND,
    DROP,
    NOTHING,
    OVER_RELAXED,
    SETTLE,
    SPLIT,
    descend_step,
    drop_step,
    settle_step,
    split_step,
)

TILE = 128  # points: four to a lane of the one warp that owns them
WIDEST = 512  # centroids that are pruned at once, in registers


@triton.jit
@no_type_check
def _box_bounds(boxes, tiles, t, centroids, rows, valid, D: tl.constexpr):
    """Return the squared distance of each centroid from the box's nearest and farthest point.

    By the same operations in the same order as a distance, so that rounding, being monotonic,
    cannot put a bound on the wrong side of one. A row that is not valid is infinitely far.
    """
    for j in tl.static_range(D):
        c = tl.load(centroids + rows * D + j, mask=valid, other=0.0)
        low = tl.load(boxes + j * tiles + t) - c
        high = tl.load(boxes + (D + j) * tiles + t) - c
        inside = tl.maximum(tl.maximum(low, -high), 0.0)
        outside = tl.maximum(-low, high)
        if j == 0:
            near = inside * inside
            far = outside * outside
        else:
            near += inside * inside
            far += outside * outside
    infinite = float("inf")
    return tl.where(valid, near, infinite), tl.where(valid, far, infinite)


@triton.jit
@no_type_check
def _undominated(boxes, tiles, t, centroids, first, rows, kept, names, D: tl.constexpr):
    """Drop who loses to the one nearest the box's middle at every corner. Exact on whole numbers.

    Only that corner matters which lies in the direction from the winner to the loser.
    """
    for j in tl.static_range(D):
        c = tl.load(centroids + rows * D + j, mask=kept, other=0.0)
        middle = (tl.load(boxes + j * tiles + t) + tl.load(boxes + (D + j) * tiles + t)) * 0.5
        if j == 0:
            distance = (c - middle) * (c - middle)
        else:
            distance += (c - middle) * (c - middle)
    distance = tl.where(kept, distance, float("inf"))
    smallest = tl.min(distance, axis=0)
    best = tl.min(tl.where(distance == smallest, names, names.shape[0] - 1), axis=0)
    for j in tl.static_range(D):
        c = tl.load(centroids + rows * D + j, mask=kept, other=0.0)
        b = tl.load(centroids + (first + best) * D + j)
        low = tl.load(boxes + j * tiles + t)
        high = tl.load(boxes + (D + j) * tiles + t)
        corner = tl.where(c > b, high, low)
        if j == 0:
            own = (c - corner) * (c - corner)
            other = (b - corner) * (b - corner)
        else:
            own += (c - corner) * (c - corner)
            other += (b - corner) * (b - corner)
    return kept & (own <= other)


@triton.jit
@no_type_check
def _candidates(
    boxes,
    tiles,
    t,
    centroids,
    first,
    rows,
    valid,
    names,
    D: tl.constexpr,
    SECOND: tl.constexpr,
    EXACT: tl.constexpr,
):
    """Return which centroids may be nearest, or second nearest, of some point of the tile."""
    near, far = _box_bounds(boxes, tiles, t, centroids, rows, valid, D)
    bound = tl.min(far, axis=0)
    if SECOND:
        who = tl.min(tl.where(far == bound, names, names.shape[0] - 1), axis=0)
        bound = tl.min(tl.where(names == who, float("inf"), far), axis=0)
    kept = valid & (near <= bound)
    if EXACT and not SECOND:
        kept = _undominated(boxes, tiles, t, centroids, first, rows, kept, names, D)
    return kept


@triton.jit
@no_type_check
def _nearest(
    points,
    size,
    at,
    centroids,
    first,
    kept,
    names,
    D: tl.constexpr,
    SECOND: tl.constexpr,
):
    """Return each point's nearest candidate, and the smallest and second smallest distance.

    Candidates come in rising order and only a smaller distance wins: ties go to the lowest.
    """
    x0 = tl.load(points + at)
    if D > 1:
        x1 = tl.load(points + size + at)
    if D > 2:
        x2 = tl.load(points + 2 * size + at)
    if D > 3:
        x3 = tl.load(points + 3 * size + at)
    smallest = tl.full(x0.shape, float("inf"), x0.dtype)
    second = smallest
    label = tl.zeros_like(at)
    rest = kept
    for _ in range(tl.sum(kept.to(tl.int32), axis=0)):
        c = tl.min(tl.where(rest, names, names.shape[0] - 1), axis=0)
        rest = rest & (names != c)
        row = centroids + (first + c) * D
        difference = x0 - tl.load(row)
        distance = difference * difference
        if D > 1:
            difference = x1 - tl.load(row + 1)
            distance += difference * difference
        if D > 2:
            difference = x2 - tl.load(row + 2)
            distance += difference * difference
        if D > 3:
            difference = x3 - tl.load(row + 3)
            distance += difference * difference
        if SECOND:
            second = tl.minimum(second, tl.maximum(distance, smallest))
        label = tl.where(distance < smallest, c, label)
        smallest = tl.minimum(distance, smallest)
    return label, smallest, second


@triton.jit
@no_type_check
def _add_tile(
    points,
    weights,
    size,
    at,
    table,
    first,
    kept,
    names,
    label,
    smallest,
    second,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    DETAIL: tl.constexpr,
):
    """Add each candidate's share of the tile to its row of the table, in whole numbers."""
    weight = tl.load(weights + at)
    cost = weight * smallest.to(tl.int64)
    x0 = tl.load(points + at).to(tl.int64)
    if D > 1:
        x1 = tl.load(points + size + at).to(tl.int64)
    if D > 2:
        x2 = tl.load(points + 2 * size + at).to(tl.int64)
    if D > 3:
        x3 = tl.load(points + 3 * size + at).to(tl.int64)
    if DETAIL:
        gap = tl.where(second == float("inf"), 0.0, second - smallest).to(tl.int64) * weight
    rest = kept
    for _ in range(tl.sum(kept.to(tl.int32), axis=0)):
        c = tl.min(tl.where(rest, names, names.shape[0] - 1), axis=0)
        rest = rest & (names != c)
        own = tl.where(label == c, weight, 0)
        mass = tl.sum(own, axis=0)
        row = table + (first + c) * COLUMNS
        if mass > 0:
            tl.atomic_add(row, tl.sum(own * x0, axis=0), sem="relaxed")
            if D > 1:
                tl.atomic_add(row + 1, tl.sum(own * x1, axis=0), sem="relaxed")
            if D > 2:
                tl.atomic_add(row + 2, tl.sum(own * x2, axis=0), sem="relaxed")
            if D > 3:
                tl.atomic_add(row + 3, tl.sum(own * x3, axis=0), sem="relaxed")
            tl.atomic_add(row + D, mass, sem="relaxed")
            share = tl.sum(tl.where(label == c, cost, 0), axis=0)
            tl.atomic_add(row + D + 1, share, sem="relaxed")
            if DETAIL:
                tl.atomic_add(row + D + 2, tl.sum(own * (x0 * x0), axis=0), sem="relaxed")
                if D > 1:
                    tl.atomic_add(row + D + 3, tl.sum(own * (x1 * x1), axis=0), sem="relaxed")
                if D > 2:
                    tl.atomic_add(row + D + 4, tl.sum(own * (x2 * x2), axis=0), sem="relaxed")
                if D > 3:
                    tl.atomic_add(row + D + 5, tl.sum(own * (x3 * x3), axis=0), sem="relaxed")
                missed = tl.sum(tl.where(label == c, gap, 0), axis=0)
                tl.atomic_add(row + 2 * D + 2, missed, sem="relaxed")


@triton.jit(do_not_specialize=["tiles", "is_last", "limit", "breath"])
@no_type_check
def color_pass(
    points,  # (D, size) float32: whole numbers below 2^11, whole tiles of each problem in a row
    weights,  # (size,) int64, 0 where a tile is filled up
    size,
    boxes,  # (2, D, tiles) float32: low and high corner of each tile
    tiles,
    problem_of,  # (tiles,) int32: whose tile it is; one program to each
    tiles_of,  # (problems,) int32
    first_of,  # (problems,) int32: the first row of its centroids and of its table
    count_of,  # (problems,) int32: how many centroids it has now
    centroids,  # (rows, D) float32: whole numbers
    table,  # (rows, COLUMNS) int64, zeros: sums (D), mass, cost, squares (D) and utility
    labels,  # (size,) int32, written with LABELS
    tickets,  # (problems,) int32: programs done; zeros
    status,  # (problems,) int32: 0 where it goes on, see `steps`
    wcss,  # (problems,) float64: of the last pass
    n_iter,  # (problems,) int32
    history,  # (problems, limit) float64: WCSS of each iteration
    limits,  # (problems,) float64: the shift at which DESCEND rests
    still,  # (1,) float64: the relative fall of the WCSS at which a b rests
    extra_of,  # (breaths,) int32: how many clusters SPLIT splits and DROP drops
    luck,  # (problems, breaths, k) float64: what SPLIT divides gains by
    breath,  # which row of these
    is_last,  # 1 in the last pass of SETTLE: measure, do not move
    limit,
    D: tl.constexpr,
    K: tl.constexpr,  # a power of two, at least every count
    COLUMNS: tl.constexpr,
    DETAIL: tl.constexpr,
    LABELS: tl.constexpr,
    STEP: tl.constexpr,
    REACH: tl.constexpr,
    TILE: tl.constexpr,
):
    """Give each point of a tile its nearest centroid and add it up; the last program steps on."""
    t = tl.program_id(0)
    b = tl.load(problem_of + t)
    if STEP != SPLIT and STEP != DROP:
        if tl.load(status + b) != 0:
            return
    first = tl.load(first_of + b)
    count = tl.load(count_of + b)
    names = tl.arange(0, K)
    valid = names < count
    rows = first + names
    kept = _candidates(
        boxes, tiles, t, centroids, first, rows, valid, names, D, SECOND=DETAIL, EXACT=True
    )
    at = t * TILE + tl.arange(0, TILE)
    label, smallest, second = _nearest(
        points, size, at, centroids, first, kept, names, D, SECOND=DETAIL
    )
    if LABELS:
        tl.store(labels + at, label)
    _add_tile(
        points, weights, size, at, table, first, kept, names, label, smallest, second,
        D, COLUMNS, DETAIL,
    )  # fmt: skip
    if STEP != NOTHING:
        tl.debug_barrier()
        ticket = tl.atomic_add(tickets + b, 1, sem="acq_rel", scope="gpu")
        if ticket == tl.load(tiles_of + b) - 1:
            tl.store(tickets + b, 0)
            if STEP == DESCEND or STEP == OVER_RELAXED:  # noqa: SIM109 - Triton has no `in`
                descend_step(
                    b, first, count, rows, valid, centroids, table, status, wcss, n_iter,
                    history, limits, still, limit, D, COLUMNS, OVER=STEP == OVER_RELAXED,
                )  # fmt: skip
            elif STEP == SETTLE:
                settle_step(
                    b, rows, valid, centroids, table, status, wcss, still, is_last, D, COLUMNS
                )
            elif STEP == SPLIT:
                split_step(
                    b, first, count, rows, valid, names, count_of, centroids, table, status, wcss,
                    extra_of, luck, breath, limit, D, COLUMNS, REACH,
                )  # fmt: skip
            elif STEP == DROP:
                drop_step(
                    b, first, count, rows, valid, names, count_of, centroids, table, status, wcss,
                    extra_of, breath, D, COLUMNS,
                )  # fmt: skip


@triton.jit(do_not_specialize=["tiles"])
@no_type_check
def nearest_in_boxes(
    points,  # (D, size) float32 or float64
    size,
    boxes,  # (2, D, tiles), likewise
    tiles,
    problem_of,  # (tiles,) int32
    status,  # (problems,) int32: 0 where the problem is to be served
    first_of,  # (problems,) int32
    count_of,  # (problems,) int32
    centroids,  # (rows, D), likewise
    labels,  # (size,) int32, written
    smallest_out,  # (size,) as the points, written: squared distance to the nearest
    second_out,  # likewise, to the second nearest, with SECOND
    D: tl.constexpr,
    K: tl.constexpr,
    SECOND: tl.constexpr,
    TILE: tl.constexpr,
):
    """Find the nearest of up to K centroids for each point of a tile of up to four dimensions."""
    t = tl.program_id(0)
    b = tl.load(problem_of + t)
    if tl.load(status + b) != 0:
        return
    first = tl.load(first_of + b)
    names = tl.arange(0, K)
    valid = names < tl.load(count_of + b)
    rows = first + names
    kept = _candidates(
        boxes, tiles, t, centroids, first, rows, valid, names, D, SECOND=SECOND, EXACT=False
    )
    at = t * TILE + tl.arange(0, TILE)
    label, smallest, second = _nearest(points, size, at, centroids, first, kept, names, D, SECOND)
    tl.store(labels + at, label)
    tl.store(smallest_out + at, smallest)
    if SECOND:
        tl.store(second_out + at, second)


@triton.jit(do_not_specialize=["dimensions"])
@no_type_check
def nearest_of_all(
    points,  # (dimensions, size) float32 or float64
    size,
    dimensions,
    problem_of,  # (tiles,) int32
    status,  # (problems,) int32: 0 where the problem is to be served
    first_of,  # (problems,) int32
    count_of,  # (problems,) int32
    centroids,  # (rows, dimensions), likewise
    labels,  # (size,) int32, written
    smallest_out,  # (size,) as the points, written
    second_out,  # likewise, with SECOND
    SECOND: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,  # centroids compared at once
):
    """Find the nearest centroid for each point of a tile: any dimension, any number of centroids.

    Differences are squared and added dimension by dimension, as the reference does: the same bits.
    """
    t = tl.program_id(0)
    b = tl.load(problem_of + t)
    if tl.load(status + b) != 0:
        return
    first = tl.load(first_of + b)
    count = tl.load(count_of + b)
    at = t * TILE + tl.arange(0, TILE)
    x = tl.load(points + at)
    smallest = tl.full(x.shape, float("inf"), x.dtype)
    second = smallest
    label = tl.zeros_like(at)
    for start in range(0, count, BLOCK):
        names = start + tl.arange(0, BLOCK)
        valid = names < count
        row = centroids + (first + names).to(tl.int64) * dimensions
        column = points + at
        distance = tl.zeros((TILE, BLOCK), dtype=smallest.dtype)
        for j in range(dimensions):
            x = tl.load(column)
            c = tl.load(row + j, mask=valid, other=0.0)
            difference = x[:, None] - c[None, :]
            distance += difference * difference
            column += size
        distance = tl.where(valid[None, :], distance, float("inf"))
        here = tl.min(distance, axis=1)
        who = tl.min(tl.where(distance == here[:, None], names[None, :], start + BLOCK), axis=1)
        if SECOND:
            others = tl.where(names[None, :] == who[:, None], float("inf"), distance)
            second = tl.minimum(second, tl.min(others, axis=1))
            second = tl.minimum(second, tl.maximum(here, smallest))
        label = tl.where(here < smallest, who, label)
        smallest = tl.minimum(here, smallest)
    tl.store(labels + at, label)
    tl.store(smallest_out + at, smallest)
    if SECOND:
        tl.store(second_out + at, second)


@triton.jit(do_not_specialize=["dimensions", "programs"])
@no_type_check
def add_up(
    points,  # (dimensions, size) float32 or float64
    weights,  # (size,) float64
    size,
    dimensions,
    labels,  # (size,) int32
    smallest,  # (size,) as the points
    second,  # likewise; read with DETAIL
    chunks,  # (3, programs) int32: problem, first tile, one past the last
    programs,
    count_of,  # (problems,) int32
    slab_of,  # (programs,) int64: where each chunk's slab (columns, count) begins
    slabs,  # float64, written
    DETAIL: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add one column of one chunk up by label, in the order of the points.

    Columns: sums (dimensions), mass, cost, with DETAIL squares (dimensions) and utility.
    """
    chunk = tl.program_id(0)
    column = tl.program_id(1)
    count = tl.load(count_of + tl.load(chunks + chunk))
    names = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    begin = tl.load(chunks + programs + chunk)
    end = tl.load(chunks + 2 * programs + chunk)
    total = tl.zeros((BLOCK,), dtype=tl.float64)
    for t in range(begin, end):
        at = t * TILE + tl.arange(0, TILE)
        weight = tl.load(weights + at)
        value = weight
        if column < dimensions:
            value = weight * tl.load(points + column.to(tl.int64) * size + at).to(tl.float64)
        elif column == dimensions + 1:
            value = weight * tl.load(smallest + at).to(tl.float64)
        if DETAIL:
            if column > dimensions + 1:
                if column < 2 * dimensions + 2:
                    j = (column - dimensions - 2).to(tl.int64)
                    x = tl.load(points + j * size + at).to(tl.float64)
                    value = weight * (x * x)
                else:
                    nearest = tl.load(smallest + at)
                    gap = tl.where(count > 1, tl.load(second + at) - nearest, nearest * 0.0)
                    value = weight * gap.to(tl.float64)
        mine = tl.load(labels + at)[:, None] == names[None, :]
        total += tl.sum(tl.where(mine, value[:, None], 0.0), axis=0)
    out = slabs + tl.load(slab_of + chunk) + column.to(tl.int64) * count + names
    tl.store(out, total, mask=names < count)
