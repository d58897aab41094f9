"""Candidates compared in a few instructions, which numba's compiler does not find by itself.

In the compiler's own language, with `gpu_kmeans.backends.instructions`. A candidate's rank, squared
distance times 256 plus index, is one number, so that the least of several is found without
branching, of equals the lowest index. Coordinates are whole, 0..2040, so that it is below 2^32.

|t - e|^2 = |t|^2 - 2 t e + |e|^2, and |t|^2 is the same for all. So where a cell has a single block
of candidates, what they are ranked by is two products for each pair of coordinates, added to what
is known of e. So that it fits, t and e are taken from a place near the cell, a multiple of 256: t
is what is left of it, from -128 to 127, and comes times 256, e comes times -2; and MOST_LEFT is
added, as |t|^2 may be as much.
"""

import functools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from gpu_kmeans.backends.instructions import (
    LANES,
    LONG,
    WIDE,
    WIDE_HALVES,
    WORD,
    data_of,
    i32,
    i64,
    joined,
    lesser,
    load,
    pair_products,
    reduce_lanes,
    same,
    shuffled,
    splat_pair,
    store,
)

BLOCK = 2 * LANES  # candidates of a block
BLOCK_SIZE = 3 * BLOCK  # int32 of a block: coordinates 0 and 1, 2 and 3, and the index, of each
LEFT_BITS = 8  # of what is left of a coordinate
MOST_LEFT = 4 << 2 * (LEFT_BITS - 1)
MORE_BLOCKS = 15  # of a start: how many blocks more than one
_PAIRS = ir.VectorType(WORD, 2)
_CELLS, _NAMES, _LEFT = 2 * BLOCK, 3 * BLOCK, 4 * BLOCK  # where in the targets
_TURNS = (  # words of two vectors side by side, pairs, and halves: eight times eight are transposed
    ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]),
    ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]),
    ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]),
)
_HALVINGS = tuple(  # likewise sixteen times sixteen: words, pairs, and fours twice
    (order, [lane + off for lane in order])
    for order, off in (
        ([0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29], 2),
        ([0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29], 2),
        ([0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27], 4),
        ([0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27], 4),
    )
)


@intrinsic
def name_listed(_context, starts, lists, targets, first):
    """Name the entries nearest to sixteen targets, if all are listed; return less than 0 if not.

    targets, from the first element on, (6 or more, 16) int32: coordinates 0 and 1, the first in the
    low half, 2 and 3, cells, room for names, and what is left of coordinates. starts (cells,)
    int32: where in lists (n,) int32 the blocks of each cell begin, a multiple of 16, plus how many
    there are more than one; below 0 where nowhere yet. A single block has, of each candidate, its
    coordinates as said above, and (|e|^2 + MOST_LEFT) times 256 plus the index.
    """
    return types.int32(starts, lists, targets, types.int64), _name_listed


def _name_listed(context, builder, signature, arguments):
    starts, lists, targets = data_of(context, builder, signature, arguments, (0, 1, 2))
    targets = builder.gep(targets, [arguments[3]])
    own = []
    for lane in range(BLOCK):
        cell = builder.load(builder.gep(targets, [i64(_CELLS + lane)]))
        own.append(builder.load(builder.gep(starts, [builder.zext(cell, LONG)])))
    odd = builder.and_(functools.reduce(builder.or_, own), i32(MORE_BLOCKS | -(1 << 31)))
    with builder.if_then(builder.icmp_signed(">=", odd, i32(0))):
        ranks = [
            _rank_in_place(builder, lists, builder.zext(start, LONG), targets, i64(lane))
            for lane, start in enumerate(own)
        ]
        names = builder.and_(_least_of_each(builder, ranks), same(WIDE, 255))
        store(builder, targets, i64(_NAMES), names)
        count = builder.select(builder.icmp_signed(">", odd, i32(0)), i64(BLOCK), i64(0))
        with cgutils.for_range(builder, count) as loop:
            cell = builder.load(builder.gep(targets, [builder.add(loop.index, i64(_CELLS))]))
            start = builder.load(builder.gep(starts, [builder.zext(cell, LONG)]))
            more = builder.and_(start, i32(MORE_BLOCKS))
            with builder.if_then(builder.icmp_signed(">", more, i32(0))):
                first = builder.zext(builder.sub(start, more), LONG)
                _name_in_blocks(builder, lists, first, more, targets, loop.index)
    return odd


def _rank_in_place(builder, lists, first, targets, lane):
    """Rank the candidates of a single block by what is left of a target."""
    words = _target(builder, targets, builder.add(lane, i64(_LEFT)))
    places = (builder.add(first, i64(part * BLOCK)) for part in range(3))
    *pairs, rank = (load(builder, lists, place, WIDE) for place in places)
    for candidates, left in zip(pairs, words, strict=True):
        products = pair_products(builder, builder.bitcast(candidates, WIDE_HALVES), left)
        rank = builder.add(rank, products)
    return rank


def _name_in_blocks(builder, lists, first, more, targets, lane):
    """Name the entry nearest to one target, which has several blocks."""
    target = _target(builder, targets, lane)
    least = cgutils.alloca_once_value(builder, _rank(builder, lists, first, target))
    with cgutils.for_range(builder, builder.zext(more, LONG)) as loop:
        past = builder.mul(builder.add(loop.index, i64(1)), i64(BLOCK_SIZE))
        found = _rank(builder, lists, builder.add(first, past), target)
        builder.store(lesser(builder, found, builder.load(least)), least)
    name = builder.and_(reduce_lanes(builder, "umin", builder.load(least)), i32(255))
    builder.store(name, builder.gep(targets, [builder.add(lane, i64(_NAMES))]))


def _target(builder, targets, lane):
    words = (
        builder.load(builder.gep(targets, [builder.add(lane, i64(part * BLOCK))]))
        for part in range(2)
    )
    return [splat_pair(builder, word, WIDE) for word in words]


def _rank(builder, lists, first, target):
    places = (builder.add(first, i64(part * BLOCK)) for part in range(3))
    parts = [load(builder, lists, place, WIDE) for place in places]
    squares = []
    for pairs, pair in zip(parts[:2], target, strict=True):
        missed = builder.sub(builder.bitcast(pairs, WIDE_HALVES), pair)
        squares.append(pair_products(builder, missed, missed))
    shifted = builder.shl(builder.add(*squares), same(WIDE, 8))
    return builder.or_(shifted, parts[2])


def _least_of_each(builder, rows):
    """Return the least of each of sixteen rows."""
    for near, far in _HALVINGS:
        rows = [
            lesser(builder, *(shuffled(builder, a, b, order) for order in (near, far)))
            for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
    return rows[0]


def left_of(builder, pairs):
    """Return what is left of coordinates in pairs, times 256, as `name_listed` takes it."""
    halves = builder.bitcast(pairs, WIDE_HALVES)
    shifted = builder.shl(halves, same(WIDE_HALVES, 16 - LEFT_BITS))
    return builder.bitcast(shifted, WIDE)


def transposed(builder, rows):
    """Return the columns of eight vectors of eight words."""
    groups = [rows]
    for turn in _TURNS:
        groups = [
            [shuffled(builder, a, b, order) for a, b in zip(of[::2], of[1::2], strict=True)]
            for of in groups
            for order in turn
        ]
    columns = [column for (column,) in groups]
    return columns[::2] + columns[1::2]


def gather(builder, rows, names):
    """Return those of the rows (n, 2) that are named, as two vectors of pairs."""
    found = []
    for lane in range(names.type.count):
        name = builder.zext(builder.extract_element(names, i32(lane)), LONG)
        found.append(load(builder, rows, builder.mul(name, i64(2)), _PAIRS))
    while len(found) > 1:
        found = [joined(builder, a, b) for a, b in zip(found[::2], found[1::2], strict=True)]
    (both,) = found
    return [shuffled(builder, both, both, range(pair, both.type.count, 2)) for pair in range(2)]
