"""Candidates compared in a few instructions, which numba's compiler does not find by itself.

In the compiler's own language, with `gpu_kmeans.backends.instructions`. A candidate's rank, squared
distance times 256 plus index, is one number, so that the least of several is found without
branching, of equals the lowest index. Coordinates are whole, 0..2040, so that it is below 2^32.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from gpu_kmeans.backends.instructions import (
    LANES,
    LONG,
    WIDE,
    WIDE_HALVES,
    WORD,
    WORDS,
    data_of,
    i32,
    i64,
    joined,
    lesser,
    load,
    pair_products,
    same,
    shuffled,
    splat_pair,
    store,
)

BLOCK = 2 * LANES  # candidates of a block
BLOCK_SIZE = 3 * BLOCK  # int32 of a block: coordinates 0 and 1, 2 and 3, and the index, of each
_PAIRS = ir.VectorType(WORD, 2)
_TURNS = (  # words of two vectors side by side, pairs, and halves: eight times eight are transposed
    ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]),
    ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]),
    ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]),
)


@intrinsic
def rank_blocks(_context, lists, first, blocks, targets, lane, ranks):
    """Write to ranks[lane] (n, 8) the least ranks of each eighth candidate of some blocks.

    lists (n,) int32, the blocks from lists[first] on; targets[0, lane] and targets[1, lane], int32,
    the target as the blocks have their candidates: the coordinates 0 and 2 in the low half.
    """
    given = (lists, types.int64, types.int64, targets, types.int64, ranks)
    return types.void(*given), _rank_blocks


def _rank_blocks(context, builder, signature, arguments):
    lists, targets, ranks = data_of(context, builder, signature, arguments, (0, 3, 5))
    array = context.make_array(signature.args[3])(context, builder, arguments[3])
    lanes, lane = builder.extract_value(array.shape, 1), arguments[4]
    places = (lane, builder.add(lane, lanes))
    words = [builder.load(builder.gep(targets, [at])) for at in places]
    target = [splat_pair(builder, word, WIDE) for word in words]
    least = cgutils.alloca_once_value(builder, _rank(builder, lists, arguments[1], target))
    with cgutils.for_range(builder, arguments[2], start=i64(1)) as loop:
        first = builder.add(arguments[1], builder.mul(loop.index, i64(BLOCK_SIZE)))
        found = _rank(builder, lists, first, target)
        builder.store(lesser(builder, found, builder.load(least)), least)
    least = builder.load(least)
    halves = (shuffled(builder, least, least, range(a, a + LANES)) for a in (0, LANES))
    store(builder, ranks, builder.mul(lane, i64(LANES)), lesser(builder, *halves))
    return context.get_dummy_value()


def _rank(builder, lists, first, target):
    places = (builder.add(first, i64(part * BLOCK)) for part in range(3))
    parts = [load(builder, lists, place, WIDE) for place in places]
    squares = []
    for pairs, pair in zip(parts[:2], target, strict=True):
        missed = builder.sub(builder.bitcast(pairs, WIDE_HALVES), pair)
        squares.append(pair_products(builder, missed, missed))
    shifted = builder.shl(builder.add(*squares), same(WIDE, 8))
    return builder.or_(shifted, parts[2])


def name_nearest(builder, ranks):
    """Return the indices of the least of each row of ranks (16, 8)."""
    rows = [load(builder, ranks, i64(lane * LANES), WORDS) for lane in range(2 * LANES)]
    for near, far in _TURNS:
        rows = [
            lesser(builder, *(shuffled(builder, a, b, order) for order in (near, far)))
            for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
    return builder.and_(joined(builder, *rows), same(WIDE, 255))


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
