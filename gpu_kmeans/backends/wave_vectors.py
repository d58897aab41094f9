"""Vectors for error diffusion in waves: sixteen rows at once, each two pixels behind the one above.

So none of the sixteen pixels of a step waits for another. In the compiler's own language, with
`gpu_kmeans.backends.instructions`. All arrays are contiguous and int32, but for the names.
Coordinates come in pairs, as words: 0 and 1, 2 and 3, the first in the low half.

waves (steps, 3, 16) has of each pixel its colour, 01 and 23, and the entry that it keeps, or -1;
and then what it misses with the entry it gets, 01 and 23, nothing with one that it keeps, and its
name, as `gpu_kmeans.backends.sweep_vectors` has them. state (12, 16) has errors on their way, four
coordinates each, in sixteenths: to the row below, all that comes to the pixel of the next step;
what has come so far to the one after that; and, whole, the last pixel's error. passed (steps, 4)
has those between two waves: they come from the place step + 32 and go to the place of the step.

Two bands go side by side, since a step waits for the one before it, for longer than it computes:
of state and targets there are two, and the steps of the second band follow those of the first.
"""

import functools
import math

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gpu_kmeans.backends import SHARE_BITS
from gpu_kmeans.backends.instructions import (
    HALF,
    LANES,
    LONG,
    WIDE,
    WORDS,
    data_of,
    for_dimensions,
    half_of,
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
from gpu_kmeans.backends.sweep_vectors import GROUP, KEEPS, RIM, less, pitch_of
from gpu_kmeans.backends.vectors import gather, left_of, transposed

ROWS = GROUP  # of a wave
BEHIND = 2  # pixels of a row behind the one above
LATER = BEHIND * ROWS  # steps that a wave takes beyond the pixels of a row
TURNED = 3 * LANES  # steps that go into the planes at once
PARTS, STATE, TARGETS = 3, (12, ROWS), (6, ROWS)  # how many a step has; shapes, of a band
OWN = NAME = 2  # which part
_DOWN, _AFTER, _LAST = 0, 4, 8  # rows of the state, from


@intrinsic
def aim_wave(_context, waves, step, band, state, passed, limits, grid, targets, dimensions):
    """Write the targets of a step's pixels of band 0 or 1, their cells, and what is left of them.

    targets (2, 6, 16), of each band as `gpu_kmeans.backends.vectors.name_listed` takes them; limits
    and grid as `gpu_kmeans.backends.entry_lists` has them; dimensions, 3 or 4.
    """
    long = types.int64
    given = (waves, long, long, state, passed, limits, grid, targets, long)
    return types.void(*given), _aim_wave


def _aim_wave(context, builder, signature, arguments):
    waves, state, passed, limits, grid, targets = data_of(
        context, builder, signature, arguments, (0, 3, 4, 5, 6, 7)
    )
    step, band, dimensions = arguments[1], arguments[2], arguments[8]
    state, targets = _of_band(builder, band, state, targets)
    arrays = (waves, state, passed, limits, grid, targets)
    for_dimensions(builder, dimensions, functools.partial(_aim, builder, step, arrays))
    return context.get_dummy_value()


def _aim(builder, step, arrays, dimensions):
    waves, state, passed, limits, grid, targets = arrays
    origin, shift = (
        splat(builder, builder.load(builder.gep(grid, [i64(part)])), WIDE) for part in range(2)
    )
    come, go = (builder.mul(builder.add(step, i64(more)), i64(4)) for more in (LATER, 0))
    colors = [_load_part(builder, waves, step, pair) for pair in range(2)]
    cells, words = builder.neg(origin), [same(WIDE, 0)] * 2
    for j in range(dimensions):
        down = load(builder, state, i64((_DOWN + j) * ROWS), WIDE)
        lowest = builder.extract_element(down, i32(ROWS - 1))
        above = builder.load(builder.gep(passed, [builder.add(come, i64(j))]))
        builder.store(lowest, builder.gep(passed, [builder.add(go, i64(j))]))
        down = shuffled(builder, down, splat(builder, above, WIDE), [ROWS, *range(ROWS - 1)])
        last = load(builder, state, i64((_LAST + j) * ROWS), WIDE)
        errors = builder.add(builder.add(down, same(WIDE, 8)), _times(builder, last, 7))
        color = half_of(builder, colors[j // 2], j % 2)
        aim = builder.add(color, builder.ashr(errors, same(WIDE, 4)))
        low, high, count = (
            splat(builder, builder.load(builder.gep(limits, [i64(3 * j + part)])), WIDE)
            for part in range(3)
        )
        aim = smaller(builder, larger(builder, aim, low), high)
        cells = builder.add(cells, builder.mul(builder.ashr(aim, shift), count))
        words[j // 2] = builder.or_(words[j // 2], builder.shl(aim, same(WIDE, 16 * (j % 2))))
    for pair, word in enumerate(words):
        store(builder, targets, i64(pair * ROWS), word)
        store(builder, targets, i64((4 + pair) * ROWS), left_of(builder, word))
    store(builder, targets, i64(2 * ROWS), cells)


@intrinsic
def settle_wave(_context, waves, step, band, state, targets, entries, share, dimensions):
    """Give a step's pixels their nearest entries, and pass on a share of what they miss.

    targets have their names as well; entries (k, 2), as pairs; share in 2^-SHARE_BITS.
    """
    long = types.int64
    given = (waves, long, long, state, targets, entries, types.int32, long)
    return types.void(*given), _settle_wave


def _settle_wave(context, builder, signature, arguments):
    waves, state, targets, entries = data_of(context, builder, signature, arguments, (0, 3, 4, 5))
    step, band, share, dimensions = (arguments[i] for i in (1, 2, 6, 7))
    state, targets = _of_band(builder, band, state, targets)
    arrays = (waves, state, targets, entries)
    for_dimensions(builder, dimensions, functools.partial(_settle, builder, step, share, arrays))
    return context.get_dummy_value()


def _settle(builder, step, share, arrays, dimensions):
    (waves, state, targets, entries), share = arrays, splat(builder, share, WIDE)
    own, nothing = _load_part(builder, waves, step, OWN), same(WIDE, 0)
    is_free = builder.icmp_signed("<", own, nothing)
    names = load(builder, targets, i64(3 * ROWS), WIDE)
    found = gather(builder, entries, names)
    aims = [load(builder, targets, i64(pair * ROWS), WIDE) for pair in range(2)]
    for j in range(dimensions):
        aim, entry = (half_of(builder, pairs[j // 2], j % 2) for pairs in (aims, found))
        missed = builder.mul(builder.sub(aim, entry), share)
        rounded = builder.add(missed, same(WIDE, 1 << SHARE_BITS - 1))
        error = builder.ashr(rounded, same(WIDE, SHARE_BITS))
        error = builder.select(is_free, error, nothing)
        down, after, last = (i64((part + j) * ROWS) for part in (_DOWN, _AFTER, _LAST))
        so_far, before = (load(builder, state, place, WIDE) for place in (after, last))
        store(builder, state, down, builder.add(so_far, _times(builder, error, 3)))
        store(builder, state, after, builder.add(before, _times(builder, error, 5)))
        store(builder, state, last, error)
    for pair in range(2):
        missed = less(builder, found[pair], _load_part(builder, waves, step, pair))
        missed = builder.select(is_free, missed, nothing)
        store(builder, waves, _place(builder, step, pair), missed)
    names = builder.select(is_free, names, builder.or_(own, same(WIDE, KEEPS)))
    store(builder, waves, _place(builder, step, NAME), names)


@intrinsic
def fill_step(_context, words, own, inverse, first, width, step, waves):
    """Write the colours of a step's pixels and what they keep, none being beyond its row.

    words (n, 2) the colours, own (n,) int16; inverse (h, w), of which the rows from `first` on.
    """
    longs = types.int64
    return types.void(words, own, inverse, longs, longs, longs, waves), _fill_step


def _fill_step(context, builder, signature, arguments):
    words, own, inverse, waves = data_of(context, builder, signature, arguments, (0, 1, 2, 6))
    first, width, step = arguments[3:6]
    at = builder.add(builder.mul(first, width), step)
    colors, kept = undefined(WIDE), undefined(ir.VectorType(HALF, ROWS))
    for lane in range(ROWS):
        color = builder.load(builder.gep(inverse, [at]))
        colors = builder.insert_element(colors, color, i32(lane))
        entry = builder.load(builder.gep(own, [builder.zext(color, LONG)]))
        kept = builder.insert_element(kept, entry, i32(lane))
        at = builder.add(at, builder.sub(width, i64(BEHIND)))
    for pair, found in enumerate(gather(builder, words, colors)):
        store(builder, waves, _place(builder, step, pair), found)
    store(builder, waves, _place(builder, step, OWN), builder.sext(kept, WIDE))
    return context.get_dummy_value()


@intrinsic
def spread_steps(_context, waves, step, first, misses, names):
    """Write what every third of 24 steps has into the planes, of the rows from `first` on."""
    return types.void(waves, types.int64, types.int64, misses, names), _spread_steps


def _spread_steps(context, builder, signature, arguments):
    waves, misses, names = data_of(context, builder, signature, arguments, (0, 3, 4))
    step, first = arguments[1:3]
    pitch = pitch_of(context, builder, signature, arguments, 3)
    steps = [builder.add(step, i64(3 * i)) for i in range(LANES)]
    turned = []
    for part in range(PARTS):
        places = [_place(builder, at, part) for at in steps]
        for half in range(0, ROWS, LANES):
            lines = [load(builder, waves, builder.add(at, i64(half)), WORDS) for at in places]
            turned += transposed(builder, lines)
    for row in range(ROWS):
        ahead = builder.add(step, i64(3 * LATER - BEHIND * row))
        place, third = builder.udiv(ahead, i64(3)), builder.urem(ahead, i64(3))
        place = builder.add(place, i64(RIM - LATER))
        y = builder.add(first, i64(row))
        line = builder.add(builder.mul(builder.add(y, i64(2)), i64(3)), third)
        at = builder.add(builder.mul(builder.mul(line, i64(2)), pitch), place)
        store(builder, misses, at, turned[row])
        store(builder, misses, builder.add(at, pitch), turned[ROWS + row])
        line = builder.add(builder.mul(y, i64(3)), third)
        at = builder.add(builder.mul(line, pitch), place)
        store(
            builder, names, at, builder.trunc(turned[NAME * ROWS + row], ir.VectorType(HALF, LANES))
        )
    return context.get_dummy_value()


def _of_band(builder, band, state, targets):
    sizes = (math.prod(STATE), math.prod(TARGETS))
    return [
        builder.gep(of_both, [builder.mul(band, i64(size))])
        for of_both, size in zip((state, targets), sizes, strict=True)
    ]


def _times(builder, vector, number):
    return builder.mul(vector, same(WIDE, number))


def _place(builder, step, part):
    return builder.add(builder.mul(step, i64(PARTS * ROWS)), i64(part * ROWS))


def _load_part(builder, waves, step, part):
    return load(builder, waves, _place(builder, step, part), WIDE)
