"""Sums over a tile of any numbers, whose order of additions is written down here.

Left to the compiler, it is another in every copy of a function, and so are the last bits: then a
process that compiles differs from those that load. So, as vectors in the compiler's own language:
`SIDE` sums side by side, which are then added up by halves. All arrays are contiguous.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gpu_kmeans.backends.instructions import WORD, data_of, i32, i64, undefined
from gpu_kmeans.backends.tile_vectors import TILE

SIDE = 16
_STEPS = range(0, TILE, SIDE)
_SUMS = ir.VectorType(ir.DoubleType(), SIDE)


@intrinsic
def add_up(_context, values, first):
    """Return the sum of a tile of values (n,), float32 or float64, from a place on; float64."""
    return types.float64(values, types.int64), _add_up


def _add_up(context, builder, signature, arguments):
    (values,) = data_of(context, builder, signature, arguments, (0,))
    return _total(builder, [_load(builder, values, arguments[1], step) for step in _STEPS])


@intrinsic
def add_products(_context, weights, start, values, first):
    """Return the sum of a tile of weights (m,) from a place on, times values, as in `add_up`."""
    return types.float64(weights, types.int64, values, types.int64), _add_products


def _add_products(context, builder, signature, arguments):
    weights, values = data_of(context, builder, signature, arguments, (0, 2))
    products = []
    for step in _STEPS:
        weight = _load(builder, weights, arguments[1], step)
        products.append(builder.fmul(weight, _load(builder, values, arguments[3], step)))
    return _total(builder, products)


def _load(builder, values, first, step):
    kind = ir.VectorType(values.type.pointee, SIDE)
    place = builder.gep(values, [builder.add(first, i64(step))])
    found = builder.load(builder.bitcast(place, kind.as_pointer()), align=4)
    return found if kind == _SUMS else builder.fpext(found, _SUMS)


def _total(builder, parts):
    total, *others = parts
    for part in others:
        total = builder.fadd(total, part)
    while total.type.count > 1:
        size = total.type.count // 2
        halves = (
            ir.Constant(ir.VectorType(WORD, size), [*range(first, first + size)])
            for first in (0, size)
        )
        nothing = undefined(total.type)
        total = builder.fadd(*(builder.shuffle_vector(total, nothing, half) for half in halves))
    return builder.extract_element(total, i32(0))
