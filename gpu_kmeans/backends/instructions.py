"""Vectors in the compiler's own language (LLVM's), for any processor: what our loops share.

Words have 32 bits, halves 16. Nothing needs more alignment than its elements do.
"""

from llvmlite import ir
from numba.core import cgutils

LANES = 8  # words side by side

HALF, WORD, LONG = ir.IntType(16), ir.IntType(32), ir.IntType(64)
WORDS = ir.VectorType(WORD, LANES)
WIDE = ir.VectorType(WORD, 2 * LANES)
HALVES = ir.VectorType(HALF, 2 * LANES)
WIDE_HALVES = ir.VectorType(HALF, 4 * LANES)


def data_of(context, builder, signature, arguments, which):
    """Return where the arrays among the arguments begin."""
    return [
        context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in which
    ]


def load(builder, data, first, kind):
    """Load a vector from an element on."""
    place = builder.bitcast(builder.gep(data, [first]), kind.as_pointer())
    return builder.load(place, align=_size(kind.element))


def store(builder, data, first, vector):
    """Store a vector from an element on."""
    place = builder.bitcast(builder.gep(data, [first]), vector.type.as_pointer())
    builder.store(vector, place, align=_size(vector.type.element))


def _size(kind):
    """Return how many bytes a number of a kind takes."""
    if isinstance(kind, ir.IntType):
        return kind.width // 8
    return {ir.FloatType(): 4, ir.DoubleType(): 8}[kind]


def pair_products(builder, a, b):
    """Return the sums of the products of pairs: one instruction, where there is one."""
    count = a.type.count // 2
    kind, wide = ir.VectorType(WORD, count), ir.VectorType(WORD, 2 * count)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    halves = (ir.Constant(kind, [2 * lane + half for lane in range(count)]) for half in range(2))
    return builder.add(
        *(builder.shuffle_vector(products, undefined(wide), half) for half in halves)
    )


def for_dimensions(builder, dimensions, write):
    """Write instructions for three dimensions and for four, of which one is taken."""
    with builder.if_else(builder.icmp_signed("==", dimensions, i64(3))) as (three, four):
        with three:
            write(3)
        with four:
            write(4)


def larger(builder, a, b):
    """Return the larger of each two."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def smaller(builder, a, b):
    """Return the smaller of each two."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def lesser(builder, a, b):
    """Return the smaller of each two, taken without sign."""
    return builder.select(builder.icmp_unsigned("<", a, b), a, b)


def reduce_lanes(builder, operation, vector):
    """Return the sum ("add"), the least ("smin", "umin") and so on of a vector's elements."""
    kind = vector.type
    letter = f"v{kind.count}i{kind.element.width}"
    function = ir.FunctionType(kind.element, [kind])
    name = f"llvm.vector.reduce.{operation}.{letter}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [vector])


def shuffled(builder, a, b, order):
    """Return elements of two vectors, those of the second being numbered on."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(WORD, len(order)), [*order]))


def joined(builder, a, b):
    """Return two vectors in a row."""
    return shuffled(builder, a, b, range(2 * a.type.count))


def half_of(builder, pairs, j):
    """Return the lower (0) or the higher half of each word, with its sign."""
    by = same(pairs.type, 16)
    return builder.ashr(pairs if j else builder.shl(pairs, by), by)


def splat(builder, word, kind=WORDS):
    """Return a vector of one element, over and over."""
    one = builder.insert_element(undefined(kind), word, i32(0))
    return builder.shuffle_vector(one, one, same(ir.VectorType(WORD, kind.count), 0))


def splat_pair(builder, word, kind=WORDS):
    """Return a vector of a word's two halves, over and over."""
    pairs = ir.VectorType(HALF, 2 * kind.count)
    return builder.bitcast(splat(builder, word, kind), pairs)


def same(kind, value):
    """Return a constant vector of one number."""
    return ir.Constant(kind, [value] * kind.count)


def undefined(kind):
    """Return a vector of anything."""
    return ir.Constant(kind, ir.Undefined)


def i32(value):
    """Return a constant word."""
    return ir.Constant(WORD, value)


def i64(value):
    """Return a constant of 64 bits, as places in arrays are."""
    return ir.Constant(LONG, value)
