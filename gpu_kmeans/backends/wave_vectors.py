"""Vectors for error diffusion in waves: eight rows at once, each two pixels behind the one above.

So none of the eight pixels of a step waits for another. In the compiler's own language, with
`gpu_kmeans.backends.instructions`. All arrays are contiguous and int32. Coordinates come in pairs,
as words: 0 and 1, 2 and 3, the first in the low half.

waves (steps, 6, 8) has of each pixel its colour, 01 and 23, and the entry that it keeps, or -1;
what it misses with the entry it gets, 01 and 23, nothing with one that it keeps; and the entry.
state (12, 8) has errors on their way, four coordinates each, in sixteenths: to the row below, all
that comes to the pixel of the next step; what has come so far to the one after that; and, whole,
the last pixel's error. passed (w + 32, 4) has those between two waves: they come from the place
step + 16 and go to the place of the step.
"""

from numba.core import types
from numba.extending import intrinsic

from gpu_kmeans.backends import SHARE_BITS
from gpu_kmeans.backends.instructions import (
    HALVES,
    LANES,
    LONG,
    WORDS,
    data_of,
    i32,
    i64,
    larger,
    load,
    same,
    shuffled,
    smaller,
    splat,
    store,
    undefined,
)

BEHIND = 2  # pixels of a row behind the one above
PARTS, STATE = 6, (12, LANES)  # how many a step has; the shape
COLOR, OWN, MISSED, ENTRY = 0, 2, 3, 5  # parts of a wave, from
_DIMENSIONS, _DOWN, _AFTER, _LAST = 4, 0, 4, 8  # rows of the state, from


@intrinsic
def aim_wave(_context, waves, step, state, passed, limits, grid, targets):
    """Write the targets of a step's eight pixels, and their cells: targets (3, 8): 01, 23, cells.

    limits and grid as `gpu_kmeans.backends.entry_lists` has them.
    """
    given = (waves, types.int64, state, passed, limits, grid, targets)
    return types.void(*given), _aim_wave


def _aim_wave(context, builder, signature, arguments):
    waves, state, passed, limits, grid, targets = data_of(
        context, builder, signature, arguments, (0, 2, 3, 4, 5, 6)
    )
    step = arguments[1]
    origin, shift = (
        splat(builder, builder.load(builder.gep(grid, [i64(part)]))) for part in range(2)
    )
    come, go = (builder.mul(builder.add(step, i64(more)), i64(4)) for more in (BEHIND * LANES, 0))
    colors = [_load_part(builder, waves, step, COLOR + pair) for pair in range(2)]
    cells, aims = builder.neg(origin), []
    for j in range(_DIMENSIONS):
        down = load(builder, state, i64((_DOWN + j) * LANES), WORDS)
        lowest = builder.extract_element(down, i32(LANES - 1))
        above = builder.load(builder.gep(passed, [builder.add(come, i64(j))]))
        builder.store(lowest, builder.gep(passed, [builder.add(go, i64(j))]))
        down = shuffled(builder, down, splat(builder, above), [LANES, *range(LANES - 1)])
        last = load(builder, state, i64((_LAST + j) * LANES), WORDS)
        errors = builder.add(builder.add(down, same(WORDS, 8)), _times(builder, last, 7))
        aim = builder.add(_half(builder, colors, j), builder.ashr(errors, same(WORDS, 4)))
        low, high, count = (
            splat(builder, builder.load(builder.gep(limits, [i64(3 * j + part)])))
            for part in range(3)
        )
        aim = smaller(builder, larger(builder, aim, low), high)
        cells = builder.add(cells, builder.mul(builder.ashr(aim, shift), count))
        aims.append(aim)
    for pair in range(2):
        word = builder.or_(aims[2 * pair], builder.shl(aims[2 * pair + 1], same(WORDS, 16)))
        store(builder, targets, i64(pair * LANES), word)
    store(builder, targets, i64(2 * LANES), cells)
    return context.get_dummy_value()


@intrinsic
def settle_wave(_context, waves, step, state, targets, chosen, entries, share):
    """Give a step's pixels the entries chosen (8,), and pass on a share of what they miss.

    entries (k, 2), as pairs; share in 2^-SHARE_BITS.
    """
    given = (waves, types.int64, state, targets, chosen, entries, types.int32)
    return types.void(*given), _settle_wave


def _settle_wave(context, builder, signature, arguments):
    waves, state, targets, chosen, entries = data_of(
        context, builder, signature, arguments, (0, 2, 3, 4, 5)
    )
    step, share = arguments[1], splat(builder, arguments[6])
    own, nothing = _load_part(builder, waves, step, OWN), same(WORDS, 0)
    is_free = builder.icmp_signed("<", own, nothing)
    names, found = _gather(builder, chosen, entries)
    aims = [load(builder, targets, i64(pair * LANES), WORDS) for pair in range(2)]
    for j in range(_DIMENSIONS):
        missed = builder.sub(_half(builder, aims, j), _half(builder, found, j))
        rounded = builder.add(builder.mul(missed, share), same(WORDS, 1 << SHARE_BITS - 1))
        error = builder.ashr(rounded, same(WORDS, SHARE_BITS))
        error = builder.select(is_free, error, nothing)
        down, after, last = (i64((part + j) * LANES) for part in (_DOWN, _AFTER, _LAST))
        so_far, before = (load(builder, state, place, WORDS) for place in (after, last))
        store(builder, state, down, builder.add(so_far, _times(builder, error, 3)))
        store(builder, state, after, builder.add(before, _times(builder, error, 5)))
        store(builder, state, last, error)
    for pair in range(2):
        color = _load_part(builder, waves, step, COLOR + pair)
        sides = (builder.bitcast(words, HALVES) for words in (found[pair], color))
        missed = builder.select(is_free, builder.bitcast(builder.sub(*sides), WORDS), nothing)
        store(builder, waves, _place(builder, step, MISSED + pair), missed)
    store(builder, waves, _place(builder, step, ENTRY), builder.select(is_free, names, own))
    return context.get_dummy_value()


def _gather(builder, chosen, entries):
    """Return eight names, and the entries of these names, as two vectors of pairs."""
    names, found = undefined(WORDS), [undefined(WORDS)] * 2
    for lane in range(LANES):
        name = builder.load(builder.gep(chosen, [i64(lane)]))
        names = builder.insert_element(names, name, i32(lane))
        row = builder.mul(builder.zext(name, LONG), i64(2))
        for pair in range(2):
            word = builder.load(builder.gep(entries, [builder.add(row, i64(pair))]))
            found[pair] = builder.insert_element(found[pair], word, i32(lane))
    return names, found


def _half(builder, pairs, j):
    """Return a coordinate of the vectors of pairs, as words."""
    word = pairs[j // 2]
    shifted = word if j % 2 else builder.shl(word, same(WORDS, 16))
    return builder.ashr(shifted, same(WORDS, 16))


def _times(builder, vector, number):
    return builder.mul(vector, same(WORDS, number))


def _place(builder, step, part):
    return builder.add(builder.mul(step, i64(PARTS * LANES)), i64(part * LANES))


def _load_part(builder, waves, step, part):
    return load(builder, waves, _place(builder, step, part), WORDS)
