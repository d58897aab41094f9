"""Vectors for pixels that choose again: sixteen of one turn at once.

In the compiler's own language, with `gpu_kmeans.backends.instructions`. All arrays are contiguous.
Coordinates come in pairs, as words (int32): 0 and 1, 2 and 3, the first in the low half. Of a row
every third pixel lies in one line, which begins `RIM` places before its pixels and has room behind
them: columns and misses (3, 2, pitch), names (3, pitch) int16, `KEEPS` more where a pixel keeps its
entry. work (8, 16) has targets, 01 and 23, cells, the entries nearest to them, what is left of the
targets, 01 and 23, and colours, 01 and 23.
"""

import functools

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gpu_kmeans.backends import BLUR, SHARE_BITS
from gpu_kmeans.backends.instructions import (
    HALF,
    LANES,
    WIDE,
    WIDE_HALVES,
    data_of,
    for_dimensions,
    half_of,
    i64,
    larger,
    load,
    pair_products,
    same,
    smaller,
    splat,
    splat_pair,
    store,
)
from gpu_kmeans.backends.vectors import gather, left_of

GROUP, RIM = 2 * LANES, 24  # pixels side by side; places of a line before the first and after all
KEEPS = 1 << 8  # above the entry, in a name
_NAMES = ir.VectorType(HALF, GROUP)
_CELLS, _NEAREST, _LEFT, _COLORS = (part * GROUP for part in (2, 3, 4, 6))  # where in the work
_FAR, _NEAR, _MIDDLE = BLUR[:3]


@intrinsic
def aim_group(
    _context, columns, misses, names, entries, third, place, limits, grid, share, work, dimensions
):
    """Write to work what the pixels from a place of a third of a row on aim at, and their colours.

    entries (k, 2) as pairs; limits and grid as `gpu_kmeans.backends.entry_lists` has them; share in
    2^-SHARE_BITS; dimensions, 3 or 4.
    """
    given = (columns, misses, names, entries, types.int64, types.int64, limits, grid, types.int32)
    return types.void(*given, work, types.int64), _aim_group


def _aim_group(context, builder, signature, arguments):
    write = functools.partial(_aim, context, builder, signature, arguments)
    for_dimensions(builder, arguments[-1], write)
    return context.get_dummy_value()


def _aim(context, builder, signature, arguments, dimensions):
    columns, misses, names, entries, limits, grid, work = data_of(
        context, builder, signature, arguments, (0, 1, 2, 3, 6, 7, 9)
    )
    third, place, share = arguments[4], arguments[5], arguments[8]
    pitch = pitch_of(context, builder, signature, arguments, 0)
    own = _line(builder, third, pitch, place)
    beside = []  # the places of those two to the left, one, one to the right and two
    for right in (1, 2):
        line = _line(builder, builder.urem(builder.add(third, i64(right)), i64(3)), pitch, place)
        is_next = builder.icmp_unsigned(">=", third, i64(3 - right))
        line = builder.add(line, builder.zext(is_next, place.type))
        beside += [builder.sub(line, i64(1)), line]
    weights = [builder.mul(share, share.type(weight)) for weight in (_FAR, _NEAR, _MIDDLE)]
    colors = _colors(builder, misses, names, entries, own, (third, pitch, place))
    origin, shift = (
        splat(builder, builder.load(builder.gep(grid, [i64(part)])), WIDE) for part in range(2)
    )
    cells = builder.neg(origin)
    for pair in range(2):
        off = builder.mul(pitch, i64(pair))
        far, near, near_too, far_too = (
            builder.bitcast(load(builder, columns, builder.add(at, off), WIDE), WIDE_HALVES)
            for at in (beside[0], beside[2], beside[1], beside[3])
        )
        store(builder, work, i64(_COLORS + pair * GROUP), colors[pair])
        at = builder.add(own, off)
        whole, line = (
            builder.bitcast(load(builder, rows, at, WIDE), WIDE_HALVES)
            for rows in (columns, misses)
        )
        others = builder.sub(whole, builder.mul(line, same(WIDE_HALVES, _MIDDLE)))
        aims = []
        for j in range(2 * pair, min(2 * pair + 2, dimensions)):
            once, more, most = (
                splat_pair(builder, builder.shl(weight, weight.type(16 * (j % 2))), WIDE)
                for weight in weights
            )
            missed = same(WIDE, 1 << SHARE_BITS - 1)
            for of, weight in (
                (far, once), (far_too, once), (near, more), (near_too, more), (others, most)
            ):  # fmt: skip
                missed = builder.add(missed, pair_products(builder, of, weight))
            missed = builder.ashr(missed, same(WIDE, SHARE_BITS))
            low, high, count = (
                splat(builder, builder.load(builder.gep(limits, [i64(3 * j + part)])), WIDE)
                for part in range(3)
            )
            aim = builder.sub(half_of(builder, colors[pair], j % 2), missed)
            aim = smaller(builder, larger(builder, aim, low), high)
            cells = builder.add(cells, builder.mul(builder.ashr(aim, shift), count))
            aims.append(aim if j % 2 == 0 else builder.shl(aim, same(WIDE, 16)))
        word = aims[0] if len(aims) == 1 else builder.or_(*aims)
        store(builder, work, i64(pair * GROUP), word)
        store(builder, work, i64(_LEFT + pair * GROUP), left_of(builder, word))
    store(builder, work, i64(_CELLS), cells)


def _colors(builder, misses, names, entries, own, where):
    """Return the pixels' colours, as pairs: their entries less what they miss."""
    third, pitch, place = where
    at = builder.add(builder.mul(third, pitch), place)
    names = builder.and_(_load_names(builder, names, at), same(WIDE, 255))
    found = gather(builder, entries, names)
    colors = []
    for pair, entry in enumerate(found):
        line = load(builder, misses, builder.add(own, builder.mul(pitch, i64(pair))), WIDE)
        colors.append(less(builder, entry, line))
    return colors


@intrinsic
def settle_group(_context, columns, misses, names, entries, third, place, work):
    """Give the pixels that `aim_group` aimed at their nearest entries, but those that keep theirs.

    work has the names of these.
    """
    given = (columns, misses, names, entries, types.int64, types.int64, work)
    return types.void(*given), _settle_group


def _settle_group(context, builder, signature, arguments):
    columns, misses, names, entries, work = data_of(
        context, builder, signature, arguments, (0, 1, 2, 3, 6)
    )
    third, place = arguments[4:6]
    pitch = pitch_of(context, builder, signature, arguments, 0)
    own = _line(builder, third, pitch, place)
    at = builder.add(builder.mul(third, pitch), place)
    before = _load_names(builder, names, at)
    nearest = load(builder, work, i64(_NEAREST), WIDE)
    keeps = builder.icmp_unsigned(">=", before, same(WIDE, KEEPS))
    chosen = builder.select(keeps, before, nearest)
    store(builder, names, at, builder.trunc(chosen, _NAMES))
    found = gather(builder, entries, builder.and_(chosen, same(WIDE, 255)))
    for pair, entry in enumerate(found):
        color = load(builder, work, i64(_COLORS + pair * GROUP), WIDE)
        at = builder.add(own, builder.mul(pitch, i64(pair)))
        missed, line = less(builder, entry, color), load(builder, misses, at, WIDE)
        store(builder, misses, at, missed)
        more = builder.bitcast(less(builder, missed, line), WIDE_HALVES)
        more = builder.mul(more, same(WIDE_HALVES, _MIDDLE))
        whole = builder.bitcast(load(builder, columns, at, WIDE), WIDE_HALVES)
        store(builder, columns, at, builder.bitcast(builder.add(whole, more), WIDE))
    return context.get_dummy_value()


def _line(builder, third, pitch, place):
    return builder.add(builder.mul(builder.mul(third, i64(2)), pitch), place)


def _load_names(builder, names, at):
    return builder.zext(load(builder, names, at, _NAMES), WIDE)


def pitch_of(context, builder, signature, arguments, which):
    """Return how long a line is, as the shape of one of the arguments has it."""
    array = context.make_array(signature.args[which])(context, builder, arguments[which])
    return builder.extract_value(array.shape, signature.args[which].ndim - 1)


def less(builder, a, b):
    """Return pairs less pairs."""
    halves = (builder.bitcast(words, WIDE_HALVES) for words in (a, b))
    return builder.bitcast(builder.sub(*halves), WIDE)
