"""Vectors for points of many dimensions, which numba's compiler does not find by itself.

In the compiler's own language, with `gpu_kmeans.backends.instructions`. Whether a score's product
and sum are rounded once or twice is left to the processor: scores only say who has to be looked at.
Distances are added up in the order written here, whatever is compiled or loaded.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from gpu_kmeans.backends.instructions import (
    LONG,
    WIDE,
    data_of,
    i32,
    i64,
    load,
    same,
    shuffled,
    splat,
    store,
)
from gpu_kmeans.backends.tile_vectors import TILE

CENTERS = 4  # side by side: with two vectors of points, as many sums as registers hold
_FLOATS = ir.VectorType(ir.FloatType(), 16)
_PART = 2 * _FLOATS.count  # points side by side
_HUGE = 3e38
_SIZES = (8, 4, 2, 1)  # of vectors of coordinates, float64


@intrinsic
def score(_context, columns, tile, depth, centers, halves, blocks, scores, best, second, names):
    """Write halves - x . c of each point x and centre c; least, second least and whose it is.

    columns (tiles * depth * TILE,) float32: of a tile a column after the other. centers
    (blocks * depth * CENTERS,) float32: a block's centres side by side, with the sign turned.
    halves (blocks * CENTERS,) and scores (blocks * CENTERS * TILE,) float32. best, second (TILE,)
    float32 and names (TILE,) int32.
    """
    integer = types.int64
    kinds = (columns, integer, integer, centers, halves, integer, scores, best, second, names)
    return types.void(*kinds), _score


def _score(context, builder, signature, arguments):
    arrays = data_of(context, builder, signature, arguments, (0, 3, 4, 6, 7, 8, 9))
    columns, centers, halves, scores, *found = arrays
    depth, blocks = arguments[2], arguments[5]
    tile = builder.gep(columns, [builder.mul(builder.mul(arguments[1], depth), i64(TILE))])
    for part in range(0, TILE, _PART):
        places = range(part, part + _PART, _FLOATS.count)
        starts = (same(_FLOATS, _HUGE), same(_FLOATS, _HUGE), same(WIDE, 0))
        kept = [[cgutils.alloca_once_value(builder, start) for start in starts] for _ in places]
        with cgutils.for_range(builder, blocks) as loop:
            block = builder.mul(loop.index, i64(CENTERS))
            first = builder.mul(block, depth)
            sums = _multiply(builder, tile, depth, centers, first, halves, block, places)
            for i in range(CENTERS):
                name = builder.add(block, i64(i))
                for column, place, own in zip(sums[i], places, kept, strict=True):
                    at = builder.add(builder.mul(name, i64(TILE)), i64(place))
                    store(builder, scores, at, column)
                    _keep(builder, column, builder.trunc(name, WIDE.element), *own)
        for place, own in zip(places, kept, strict=True):
            for data, one in zip(found, own, strict=True):
                store(builder, data, i64(place), builder.load(one))
    return context.get_dummy_value()


def _multiply(builder, tile, depth, centers, first, halves, block, places):
    """Return for each of a block's centres what each vector of points scores."""
    sums = []
    for i in range(CENTERS):
        half = builder.load(builder.gep(halves, [builder.add(block, i64(i))]))
        start = splat(builder, half, _FLOATS)
        sums.append([cgutils.alloca_once_value(builder, start) for _ in places])
        for one in sums[i]:
            builder.store(start, one)
    function = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    add = cgutils.get_or_insert_function(builder.module, function, "llvm.fmuladd.v16f32")
    with cgutils.for_range(builder, depth) as loop:
        row = builder.mul(loop.index, i64(TILE))
        points = [load(builder, tile, builder.add(row, i64(place)), _FLOATS) for place in places]
        column = builder.add(first, builder.mul(loop.index, i64(CENTERS)))
        for i in range(CENTERS):
            value = builder.load(builder.gep(centers, [builder.add(column, i64(i))]))
            center = splat(builder, value, _FLOATS)
            for point, one in zip(points, sums[i], strict=True):
                builder.store(builder.call(add, [point, center, builder.load(one)]), one)
    return [[builder.load(one) for one in row] for row in sums]


def _keep(builder, column, name, best, second, names):
    least = builder.load(best)
    is_less = builder.fcmp_ordered("<", column, least)
    above = builder.select(is_less, least, column)
    other = builder.load(second)
    nearer = builder.fcmp_ordered("<", above, other)
    builder.store(builder.select(nearer, above, other), second)
    builder.store(builder.select(is_less, column, least), best)
    builder.store(builder.select(is_less, splat(builder, name, WIDE), builder.load(names)), names)


@intrinsic
def may_be_nearer(_context, scores, name, squares, tile, margin, nearest):
    """Return who of a tile may be nearer to a centre than to what is nearest, a bit for each.

    scores as `score` writes them. squares (tiles * TILE,) float32, norms of the points; nearest
    likewise, float64, squared distances. That from the centre is at least the square and twice the
    score less the margin.
    """
    integer, real = types.int64, types.float64
    return types.int64(scores, integer, squares, integer, real, nearest), _may_be_nearer


def _may_be_nearer(context, builder, signature, arguments):
    scores, squares, nearest = data_of(context, builder, signature, arguments, (0, 2, 5))
    own, first = (builder.mul(arguments[i], i64(TILE)) for i in (1, 3))
    size, found = _SIZES[0], i64(0)
    margin = splat(builder, arguments[4], _doubles(size))
    for part in range(0, TILE, size):
        at, of = (builder.add(place, i64(part)) for place in (own, first))
        twice = _numbers(builder, scores, at, size)
        bound = builder.fadd(_numbers(builder, squares, of, size), builder.fadd(twice, twice))
        is_far = builder.fcmp_ordered(
            ">=", builder.fsub(bound, margin), _numbers(builder, nearest, of, size)
        )
        bits = builder.zext(builder.bitcast(builder.not_(is_far), ir.IntType(size)), LONG)
        found = builder.or_(found, builder.shl(bits, i64(part)))
    return found


@intrinsic
def sq_distance(_context, rows, row, centroids, name):
    """Return the squared distance of a row (n, d) from a centroid (k, d), float64."""
    return types.float64(rows, types.int64, centroids, types.int64), _sq_distance


def _sq_distance(context, builder, signature, arguments):
    rows, centroids = data_of(context, builder, signature, arguments, (0, 2))
    depth = _depth(context, builder, signature, arguments, 0)
    first, other = (builder.mul(arguments[i], depth) for i in (1, 3))
    sums = {size: cgutils.alloca_once_value(builder, _zeros(size)) for size in _SIZES}
    for size, one in sums.items():
        builder.store(_zeros(size), one)
        with _steps(builder, depth, size) as (j, _):
            at, of = (
                _numbers(builder, data, builder.add(place, j), size)
                for data, place in ((rows, first), (centroids, other))
            )
            missed = builder.fsub(at, of)
            square = builder.fmul(missed, missed)
            builder.store(builder.fadd(builder.load(one), square), one)
    total = builder.load(sums[_SIZES[0]])
    for size in _SIZES[1:]:
        halves = (shuffled(builder, total, total, range(a, a + size)) for a in (0, size))
        total = builder.fadd(builder.fadd(*halves), builder.load(sums[size]))
    return builder.extract_element(total, i32(0))


@intrinsic
def add_row(_context, table, name, rows, row, weight):
    """Add a row (n, d), times a weight, to the first numbers of a row of a table (k, m)."""
    kinds = (table, types.int64, rows, types.int64, types.float64)
    return types.void(*kinds), _add_row


def _add_row(context, builder, signature, arguments):
    table, rows = data_of(context, builder, signature, arguments, (0, 2))
    depth = _depth(context, builder, signature, arguments, 2)
    to = builder.mul(arguments[1], _depth(context, builder, signature, arguments, 0))
    first = builder.mul(arguments[3], depth)
    for size in _SIZES:
        weight = splat(builder, arguments[4], _doubles(size))
        with _steps(builder, depth, size) as (j, _):
            share = builder.fmul(weight, _numbers(builder, rows, builder.add(first, j), size))
            place = builder.add(to, j)
            store(builder, table, place, builder.fadd(_numbers(builder, table, place, size), share))
    return context.get_dummy_value()


def _steps(builder, depth, size):
    """Loop over the coordinates that vectors of a size take: as many as can be, of the largest."""
    done = i64(0) if size == _SIZES[0] else builder.and_(depth, i64(-2 * size))
    return cgutils.for_range_slice(builder, done, builder.and_(depth, i64(-size)), i64(size))


def _depth(context, builder, signature, arguments, which):
    array = context.make_array(signature.args[which])(context, builder, arguments[which])
    return builder.extract_value(array.shape, 1)


def _numbers(builder, data, place, size):
    """Load some numbers as float64."""
    found = load(builder, data, place, ir.VectorType(data.type.pointee, size))
    return found if found.type == _doubles(size) else builder.fpext(found, _doubles(size))


def _doubles(size):
    return ir.VectorType(ir.DoubleType(), size)


def _zeros(size):
    return same(_doubles(size), 0.0)
