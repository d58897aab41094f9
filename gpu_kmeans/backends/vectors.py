"""What numba's compiler does not find by itself: eight candidates compared in a few instructions.

Written once for every processor, in the compiler's own intermediate language: vectors of eight
numbers become whatever registers there are.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 8  # candidates in a block
BLOCK_SIZE = 3 * LANES  # int32 of a block: coordinates 0 and 1, 2 and 3, and the index, of each

_WORD = ir.IntType(32)
_WORDS = ir.VectorType(_WORD, LANES)
_WIDE = ir.VectorType(_WORD, 2 * LANES)
_HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)


@intrinsic
def nearest_of_block(_context, lists, first, pair01, pair23):
    """Return the squared distance to the nearest candidate of a block, times 256, plus its index.

    lists (n,) int32, the block's candidates from lists[first] on; pair01 and pair23 int32, the
    target as the block has its candidates: the coordinates 0 and 2 in the low half. Coordinates are
    whole, 0..2040, so that the whole, below 2^32, is exact. Of equals the lowest index.
    """
    signature = types.uint32(lists, types.int64, types.int32, types.int32)
    return signature, _compare_block


def _compare_block(context, builder, signature, arguments):
    lists, first, pair01, pair23 = arguments
    data = context.make_array(signature.args[0])(context, builder, lists).data

    def load(part):
        place = builder.add(first, ir.Constant(first.type, part * LANES))
        return builder.load(
            builder.bitcast(builder.gep(data, [place]), _WORDS.as_pointer()), align=4
        )

    squares = [_squares(builder, load(0), pair01), _squares(builder, load(1), pair23)]
    shifted = builder.shl(builder.add(*squares), _same(8))
    reduction = ir.FunctionType(_WORD, [_WORDS])
    least = cgutils.get_or_insert_function(
        builder.module, reduction, f"llvm.vector.reduce.umin.v{LANES}i32"
    )
    return builder.call(least, [builder.or_(shifted, load(2))])


def _squares(builder, pairs, pair):
    """Return (p - t)^2 + (q - s)^2 of the pairs (p, q) in each word and the target's (t, s)."""
    nothing = ir.Constant(_WORDS, ir.Undefined)
    target = builder.insert_element(nothing, pair, ir.Constant(_WORD, 0))
    target = builder.shuffle_vector(target, nothing, _same(0))
    missed = builder.sub(builder.bitcast(pairs, _HALVES), builder.bitcast(target, _HALVES))
    wide = builder.sext(missed, _WIDE)
    products = builder.mul(wide, wide)  # with the sum below one instruction, where there is one
    halves = (ir.Constant(_WORDS, [2 * lane + half for lane in range(LANES)]) for half in range(2))
    unused = ir.Constant(_WIDE, ir.Undefined)
    return builder.add(*(builder.shuffle_vector(products, unused, half) for half in halves))


def _same(value):
    return ir.Constant(_WORDS, [value] * LANES)
