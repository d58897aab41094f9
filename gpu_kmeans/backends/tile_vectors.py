"""Vectors for passes over tiles of whole numbers, which numba's compiler does not find by itself.

Coordinates are int16 and come in pairs, as words: of two products and their sum many processors
make one instruction. Like `gpu_kmeans.backends.vectors`, in the compiler's own language, for any
processor. Words of 32 bits: c01 holds coordinates 0 and 1, c23 the others, the first in the low
half. All arrays are contiguous.
"""

import functools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from gpu_kmeans.backends.instructions import (
    HALF,
    HALVES,
    LANES,
    LONG,
    WIDE,
    WORD,
    WORDS,
    data_of,
    i32,
    i64,
    larger,
    load,
    pair_products,
    reduce_lanes,
    same,
    shuffled,
    smaller,
    splat,
    splat_pair,
    store,
    undefined,
)

TILE = 64
BLOCK = 16  # candidates side by side
FAR = 16_000  # coordinate of candidates that fill up a block: they never win and bound nothing

_BLOCK, _BLOCK_PAIRS = ir.VectorType(WORD, BLOCK), ir.VectorType(HALF, 2 * BLOCK)
_LONGS, _FOUR = ir.VectorType(LONG, LANES), ir.VectorType(LONG, 4)
_LOW = [0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27]  # as processors interleave
_HIGH = [lane + 4 for lane in _LOW]
_IN_ORDER = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]  # of _LOW's, then _HIGH's points


@intrinsic
def bound_box(_context, c01, c23, blocks, boxes, box, near, far):
    """Write squared distances from candidates to a box's nearest and farthest point.

    c01, c23, near, far (BLOCK * blocks,) int32; boxes (m, 4) int32: low corner 01, 23, high 01, 23.
    Returns the least of far.
    """
    return types.int32(c01, c23, types.int64, boxes, types.int64, near, far), _bound_box


def _bound_box(context, builder, signature, arguments):
    c01, c23, boxes, near, far = data_of(context, builder, signature, arguments, (0, 1, 3, 5, 6))
    corners = _corners(builder, boxes, arguments[4])
    least = cgutils.alloca_once_value(builder, same(_BLOCK, 2**31 - 1))
    with cgutils.for_range(builder, arguments[2]) as loop:
        first = builder.mul(loop.index, i64(BLOCK))
        shorter, longer = _bounds(builder, c01, c23, first, corners)
        store(builder, near, first, shorter)
        store(builder, far, first, longer)
        builder.store(smaller(builder, longer, builder.load(least)), least)
    return reduce_lanes(builder, "smin", builder.load(least))


def _bounds(builder, c01, c23, first, corners):
    low01, low23, high01, high23 = corners
    shorter, longer = [], []
    for c, low, high in ((c01, low01, high01), (c23, low23, high23)):
        at = _load_pairs(builder, c, first)
        below, above = builder.sub(low, at), builder.sub(at, high)
        nothing = same(_BLOCK_PAIRS, 0)
        outside = larger(builder, larger(builder, below, above), nothing)
        across = smaller(builder, below, above)  # its sign is of no consequence
        shorter.append(pair_products(builder, outside, outside))
        longer.append(pair_products(builder, across, across))
    return builder.add(*shorter), builder.add(*longer)


@intrinsic
def near_enough(_context, near, block, bound):
    """Return which of a block's candidates are within the bound, a bit for each."""
    return types.int64(near, types.int64, types.int32), _near_enough


def _near_enough(context, builder, signature, arguments):
    (near,) = data_of(context, builder, signature, arguments, (0,))
    found = load(builder, near, builder.mul(arguments[1], i64(BLOCK)), _BLOCK)
    bound = splat(builder, arguments[2], _BLOCK)
    return _bits(builder, builder.icmp_signed("<=", found, bound))


@intrinsic
def undominated(_context, c01, c23, block, best, boxes, box):
    """Return which of a block are no farther than candidate `best` from some point of the box."""
    return types.int64(c01, c23, types.int64, types.int64, boxes, types.int64), _undominated


def _undominated(context, builder, signature, arguments):
    c01, c23, boxes = data_of(context, builder, signature, arguments, (0, 1, 4))
    first, corners = builder.mul(arguments[2], i64(BLOCK)), _corners(builder, boxes, arguments[5])
    return _bits(builder, _competes(builder, c01, c23, first, arguments[3], corners))


def _competes(builder, c01, c23, first, best, corners):
    """Only that corner v matters which lies in the direction from the best, b, to a candidate, c.

    |c - v|^2 less |b - v|^2 is the product of c - b and c + b - 2 v.
    """
    low01, low23, high01, high23 = corners
    parts = []
    for c, low, high in ((c01, low01, high01), (c23, low23, high23)):
        at = _load_pairs(builder, c, first)
        other = splat_pair(builder, builder.load(builder.gep(c, [best])), _BLOCK)
        apart = builder.sub(at, other)
        is_above = builder.icmp_signed(">", apart, same(_BLOCK_PAIRS, 0))
        corner = builder.select(is_above, high, low)
        both = builder.sub(builder.add(at, other), builder.add(corner, corner))
        parts.append(pair_products(builder, apart, both))
    return builder.icmp_signed("<=", builder.add(*parts), same(_BLOCK, 0))


@intrinsic
def prune_block(_context, c01, c23, boxes, box):
    """Return which of a single block may be nearest somewhere in a box, a bit for each."""
    return types.int64(c01, c23, boxes, types.int64), _prune_block


def _prune_block(context, builder, signature, arguments):
    c01, c23, boxes = data_of(context, builder, signature, arguments, (0, 1, 2))
    corners, first = _corners(builder, boxes, arguments[3]), i64(0)
    near, far = _bounds(builder, c01, c23, first, corners)
    bound = splat(builder, reduce_lanes(builder, "smin", far), _BLOCK)
    best = _count_zeros(builder, _bits(builder, builder.icmp_signed("<=", far, bound)))
    competes = _competes(builder, c01, c23, first, best, corners)
    return _bits(builder, builder.and_(competes, builder.icmp_signed("<=", near, bound)))


@intrinsic
def lowest_bit(_context, bits):
    """Return the number of the lowest bit that is set."""
    return types.int64(types.int64), _lowest_bit


def _lowest_bit(_context, builder, _signature, arguments):
    return _count_zeros(builder, arguments[0])


@intrinsic
def name_nearest(_context, halves, tile, fourth, m01, m23, squares, count, names):
    """Write which candidate is nearest to each of a tile's points, the first of equals.

    halves: int16, the tile's rows of coordinates from `tile` on, the fourth from `fourth` on, if
    that is not negative. m01, m23, squares: int32, each candidate's -2 c, and |c|^2: what |x - c|^2
    is but for |x|^2. names (64,) int16, which one of the `count`, at least one.
    """
    given = (halves, types.int64, types.int64, m01, m23, squares, types.int64, names)
    return types.void(*given), _name_nearest


def _name_nearest(context, builder, signature, arguments):
    _compare(context, builder, signature, arguments, None)
    return context.get_dummy_value()


@intrinsic
def name_two_nearest(_context, halves, tile, fourth, m01, m23, squares, count, names, gaps):
    """Do as `name_nearest`, and write (64,) int32 how much farther the second is, squared."""
    given = (halves, types.int64, types.int64, m01, m23, squares, types.int64, names, gaps)
    return types.void(*given), _name_two_nearest


def _name_two_nearest(context, builder, signature, arguments):
    (gaps,) = data_of(context, builder, signature, arguments, (8,))
    _compare(context, builder, signature, arguments, gaps)
    return context.get_dummy_value()


def _compare(context, builder, signature, arguments, gaps):
    """Sixteen points at a time, in two vectors; all candidates for these, one after the other."""
    tile, fourth, count = arguments[1], arguments[2], arguments[6]
    arrays = data_of(context, builder, signature, arguments, (0, 3, 4, 5, 7))
    halves, m01, m23, squares, names = arrays
    most = same(WORDS, 2**31 - 1)
    kept = [
        [cgutils.alloca_once(builder, WORDS) for _ in range(3)] for _ in range(2)
    ]  # smallest, its name, second
    for group in range(0, TILE, 2 * LANES):
        x, y, z, u = _coordinates(builder, halves, tile, fourth, group)
        pairs = []
        for order, own in zip((_LOW, _HIGH), kept, strict=True):
            pairs.append((shuffled(builder, x, y, order), shuffled(builder, z, u, order)))
            builder.store(most, own[0])
            builder.store(same(WORDS, 0), own[1])
            builder.store(most, own[2])
        with cgutils.for_range(builder, count) as loop:
            q = loop.index
            p01 = splat_pair(builder, builder.load(builder.gep(m01, [q])))
            p23 = splat_pair(builder, builder.load(builder.gep(m23, [q])))
            square = splat(builder, builder.load(builder.gep(squares, [q])))
            name = splat(builder, builder.trunc(q, WORD))
            for (v01, v23), (smallest, nearest, second) in zip(pairs, kept, strict=True):
                products = builder.add(
                    pair_products(builder, v01, p01), pair_products(builder, v23, p23)
                )
                distance, least = builder.add(products, square), builder.load(smallest)
                is_less = builder.icmp_signed("<", distance, least)
                if gaps is not None:
                    next_one = builder.select(is_less, least, distance)
                    so_far = builder.load(second)
                    is_next = builder.icmp_signed("<", next_one, so_far)
                    builder.store(builder.select(is_next, next_one, so_far), second)
                builder.store(builder.select(is_less, distance, least), smallest)
                builder.store(builder.select(is_less, name, builder.load(nearest)), nearest)
        both = (builder.load(own[1]) for own in kept)
        found = builder.trunc(shuffled(builder, *both, _IN_ORDER), HALVES)
        store(builder, names, i64(group), found)
        if gaps is not None:
            apart = [builder.sub(builder.load(own[2]), builder.load(own[0])) for own in kept]
            whole = shuffled(builder, *apart, _IN_ORDER)
            store(builder, gaps, i64(group), whole)


@intrinsic
def add_named(_context, halves, tile, fourth, weights, names, name, added):
    """Write what the points of a name add up to: added (5,) int64, as a row of sums.

    weights: where in halves the tile's weights are, below 2^15.
    """
    given = (halves, types.int64, types.int64, types.int64, names, types.int64, added)
    return types.void(*given), _add_named


def _add_named(context, builder, signature, arguments):
    halves, names, added = data_of(context, builder, signature, arguments, (0, 4, 6))
    is_own = _are_named(builder, names, arguments[5])
    totals = _sum_named(builder, halves, arguments[1], arguments[2], arguments[3], is_own)
    for j, total in enumerate(totals):
        whole = reduce_lanes(builder, "add", builder.sext(total, _LONGS))
        builder.store(whole, builder.gep(added, [i64(j)]))
    return context.get_dummy_value()


@intrinsic
def move_named(_context, halves, tile, fourth, weights, names, name, left, table, row):
    """Take the points of a name from `left` (5,) and add them to a row of a table (m, 8), int64.

    Rows of sums: weighted coordinates 0 to 2, mass, coordinate 3. The mass is below 2^19.
    """
    given = (halves, types.int64, types.int64, types.int64, names, types.int64, left, table)
    return types.void(*given, types.int64), _move_named


def _move_named(context, builder, signature, arguments):
    tile, fourth, row = arguments[1], arguments[2], builder.mul(arguments[8], i64(8))
    halves, names, left, table = data_of(context, builder, signature, arguments, (0, 4, 6, 7))
    is_own = _are_named(builder, names, arguments[5])
    flags = functools.reduce(builder.or_, is_own)
    has_any = builder.icmp_unsigned("!=", builder.bitcast(flags, HALF), ir.Constant(HALF, 0))
    with builder.if_then(has_any):
        *four, fifth = _sum_named(builder, halves, tile, fourth, arguments[3], is_own)
        pairs = [_added_pairs(builder, *four[:2]), _added_pairs(builder, *four[2:])]
        both = _added_pairs(builder, *pairs)  # each column twice: of the low lanes, of the high
        ends = (
            builder.shuffle_vector(both, both, ir.Constant(ir.VectorType(WORD, 4), list(lanes)))
            for lanes in (range(4), range(4, 8))
        )
        moved = builder.sext(builder.add(*ends), _FOUR)
        _change(builder, table, row, moved, builder.add)
        _change(builder, left, i64(0), moved, builder.sub)
        with builder.if_then(builder.icmp_signed(">=", fourth, i64(0))):
            last = builder.sext(reduce_lanes(builder, "add", fifth), LONG)
            for data, at, change in ((table, row, builder.add), (left, i64(0), builder.sub)):
                place = builder.gep(data, [builder.add(at, i64(4))])
                builder.store(change(builder.load(place), last), place)
    return context.get_dummy_value()


@intrinsic
def add_row(_context, table, row, sums, tile):
    """Add a row of sums (n, 8) to a row of a table (m, 8), int64."""
    return types.void(table, types.int64, sums, types.int64), _add_row


def _add_row(context, builder, signature, arguments):
    table, sums = data_of(context, builder, signature, arguments, (0, 2))
    to, of = (builder.mul(arguments[i], i64(8)) for i in (1, 3))
    _change(builder, table, to, load(builder, sums, of, _FOUR), builder.add)
    place = builder.gep(table, [builder.add(to, i64(4))])
    last = builder.load(builder.gep(sums, [builder.add(of, i64(4))]))
    builder.store(builder.add(builder.load(place), last), place)
    return context.get_dummy_value()


def _are_named(builder, names, name):
    wanted = builder.insert_element(undefined(HALVES), builder.trunc(name, HALF), i32(0))
    wanted = builder.shuffle_vector(wanted, wanted, same(WIDE, 0))
    groups = range(0, TILE, 2 * LANES)
    return [
        builder.icmp_signed("==", load(builder, names, i64(group), HALVES), wanted)
        for group in groups
    ]


def _sum_named(builder, halves, tile, fourth, weights, is_own):
    """Return weighted sums of coordinates 0 to 2, mass, coordinate 3, each in eight parts."""
    totals = [same(WORDS, 0)] * 5
    for own, group in zip(is_own, range(0, TILE, 2 * LANES), strict=True):
        weight = load(builder, halves, builder.add(weights, i64(group)), HALVES)
        weight = builder.select(own, weight, same(HALVES, 0))
        x, y, z, u = _coordinates(builder, halves, tile, fourth, group)
        for j, column in enumerate((x, y, z, same(HALVES, 1), u)):
            totals[j] = builder.add(totals[j], pair_products(builder, column, weight))
    return totals


def _added_pairs(builder, a, b):
    """Return sums of neighbours, a's and b's by turns of two, as processors add them."""
    even = [0, 2, 8, 10, 4, 6, 12, 14]
    sides = (shuffled(builder, a, b, [lane + odd for lane in even]) for odd in range(2))
    return builder.add(*sides)


def _change(builder, data, first, vector, operation):
    store(builder, data, first, operation(load(builder, data, first, vector.type), vector))


def _coordinates(builder, halves, tile, fourth, group):
    """Return four vectors of sixteen coordinates; nothing is read where there is no fourth."""
    rows = [
        load(builder, halves, builder.add(tile, i64(row * TILE + group)), HALVES)
        for row in range(3)
    ]
    has_fourth = builder.icmp_signed(">=", fourth, i64(0))
    at = builder.add(builder.select(has_fourth, fourth, tile), i64(group))
    row = load(builder, halves, at, HALVES)
    return (*rows, builder.select(has_fourth, row, same(HALVES, 0)))


def _corners(builder, boxes, box):
    """Return the low corner's pairs and the high corner's, each in every lane."""
    first = builder.mul(box, i64(4))
    words = (builder.load(builder.gep(boxes, [builder.add(first, i64(i))])) for i in range(4))
    return [splat_pair(builder, word, _BLOCK) for word in words]


def _bits(builder, flags):
    return builder.zext(builder.bitcast(flags, ir.IntType(flags.type.count)), LONG)


def _count_zeros(builder, bits):
    return builder.cttz(bits, ir.Constant(ir.IntType(1), 1))


def _load_pairs(builder, data, first):
    return builder.bitcast(load(builder, data, first, _BLOCK), _BLOCK_PAIRS)
