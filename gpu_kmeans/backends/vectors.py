"""Eight candidates compared in a few instructions, which numba's compiler does not find by itself.

In the compiler's own language, with `gpu_kmeans.backends.instructions`.
"""

from numba.core import types
from numba.extending import intrinsic

from gpu_kmeans.backends.instructions import (
    HALVES,
    LANES,
    WORDS,
    data_of,
    i64,
    load,
    pair_products,
    reduce_lanes,
    same,
    splat_pair,
)

BLOCK_SIZE = 3 * LANES  # int32 of a block: coordinates 0 and 1, 2 and 3, and the index, of each


@intrinsic
def nearest_of_block(_context, lists, first, pair01, pair23):
    """Return the squared distance to the nearest candidate of a block, times 256, plus its index.

    lists (n,) int32, the block's candidates from lists[first] on; pair01 and pair23 int32, the
    target as the block has its candidates: the coordinates 0 and 2 in the low half. Coordinates are
    whole, 0..2040, so that the whole, below 2^32, is exact. Of equals the lowest index.
    """
    signature = types.uint32(lists, types.int64, types.int32, types.int32)
    return signature, _nearest_of_block


def _nearest_of_block(context, builder, signature, arguments):
    (lists,) = data_of(context, builder, signature, arguments, (0,))
    places = (builder.add(arguments[1], i64(part * LANES)) for part in range(3))
    parts = [load(builder, lists, place, WORDS) for place in places]
    squares = []
    for pairs, target in zip(parts[:2], arguments[2:], strict=True):
        missed = builder.sub(builder.bitcast(pairs, HALVES), splat_pair(builder, target))
        squares.append(pair_products(builder, missed, missed))
    shifted = builder.shl(builder.add(*squares), same(WORDS, 8))
    return reduce_lanes(builder, "umin", builder.or_(shifted, parts[2]))
