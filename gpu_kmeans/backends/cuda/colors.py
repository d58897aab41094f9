"""Kernels over pixels: counting colours, diffusing errors, looking at neighbourhoods."""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _spread(level):
    """Put two zero bits before each of eight: 0b111 becomes 0b001001001."""
    level = (level | (level << 8)) & 0x00F00F
    level = (level | (level << 4)) & 0x0C30C3
    return (level | (level << 2)) & 0x249249


@triton.jit(do_not_specialize=["n"])
@no_type_check
def count_colors(
    pixels,  # (n, 3) uint8
    n,
    counts,  # (2^24,) int32: how often each Morton code occurs; zeros
    codes,  # (n,) int32, written
    BLOCK: tl.constexpr,
):
    """Count the Morton codes of a block of pixels, by integer atomics."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    red = _spread(tl.load(pixels + at * 3, mask=inside, other=0).to(tl.int32))
    green = _spread(tl.load(pixels + at * 3 + 1, mask=inside, other=0).to(tl.int32))
    blue = _spread(tl.load(pixels + at * 3 + 2, mask=inside, other=0).to(tl.int32))
    code = (red << 2) | (green << 1) | blue
    tl.atomic_add(counts + code, 1, mask=inside, sem="relaxed")
    tl.store(codes + at, code, mask=inside)


@triton.jit(do_not_specialize=["n"])
@no_type_check
def rank_pixels(
    pixels,  # (n, 3) uint8
    n,
    codes,  # (n,) int32; written: each pixel's rank among the colours that occur
    ranks,  # (2^24,) int32: how many colours occur up to and with each code
    colors,  # (m, 3) uint8, written: every pixel of a colour writes the same
    BLOCK: tl.constexpr,
):
    """Turn codes into ranks, and let each colour be written where its rank is."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    code = tl.load(codes + at, mask=inside, other=0)
    rank = tl.load(ranks + code, mask=inside, other=1) - 1
    tl.store(codes + at, rank, mask=inside)
    for j in tl.static_range(3):
        level = tl.load(pixels + at * 3 + j, mask=inside, other=0)
        tl.store(colors + rank.to(tl.int64) * 3 + j, level, mask=inside)


@triton.jit
@no_type_check
def _passed_on(errors, y, x, j, h, w, dimensions, inside):
    """Return sixteenths of the errors of the four pixels that pass theirs on to this one."""
    left = (y * w + x - 1) * dimensions + j
    above = ((y - 1) * w + x) * dimensions + j
    has_left = inside & (x > 0)
    has_above = inside & (y > 0)
    total = 7 * tl.load(errors + left, mask=has_left, other=0, volatile=True)
    right = has_above & (x < w - 1)
    total += 3 * tl.load(errors + above + dimensions, mask=right, other=0, volatile=True)
    total += 5 * tl.load(errors + above, mask=has_above, other=0, volatile=True)
    corner = has_above & (x > 0)
    total += tl.load(errors + above - dimensions, mask=corner, other=0, volatile=True)
    return total


@triton.jit(do_not_specialize=["h", "w", "k", "share"])
@no_type_check
def diffuse(
    colors,  # (n, D) float32: whole numbers
    inverse,  # (h, w) int32: each pixel's colour
    palette,  # (k, D) float32: whole numbers
    own,  # (n,) int32: the entry a colour takes whatever was passed on to it, or -1
    low,  # (D,) int32: of the picture's colours
    high,  # (D,) int32
    share,  # int32: of an error that is passed on, in 2^-BITS
    errors,  # (h, w, D) int32, written
    indices,  # (h, w) uint8, written
    h,
    w,
    k,
    D: tl.constexpr,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Diffuse errors over one band of ROWS rows, all pixels with the same x + 2 y at a time.

    They do not depend on one another; the four that pass errors on to them came before. One program
    does a band, with a barrier after each step: no other way to order steps is sure to end.
    """
    top = tl.program_id(0).to(tl.int64) * ROWS
    h = tl.minimum(ROWS, h - top)
    inverse += top * w
    indices += top * w
    errors += top * w * D
    for step in range(w + 2 * (h - 1)):
        first = tl.maximum(0, (step - w + 2) // 2)
        last = tl.minimum(h - 1, step // 2)
        for start in range(first, last + 1, BLOCK):
            y = (start + tl.arange(0, BLOCK)).to(tl.int64)
            x = step - 2 * y
            inside = y <= last
            color = tl.load(inverse + y * w + x, mask=inside, other=0)
            entry = tl.load(own + color, mask=inside, other=-1)
            t0 = _target(colors, color, errors, y, x, 0, h, w, D, inside, low, high)
            if D > 1:
                t1 = _target(colors, color, errors, y, x, 1, h, w, D, inside, low, high)
            if D > 2:
                t2 = _target(colors, color, errors, y, x, 2, h, w, D, inside, low, high)
            if D > 3:
                t3 = _target(colors, color, errors, y, x, 3, h, w, D, inside, low, high)
            smallest = tl.full((BLOCK,), float("inf"), tl.float32)
            chosen = tl.zeros((BLOCK,), dtype=tl.int32)
            for c in range(k):
                difference = t0.to(tl.float32) - tl.load(palette + c * D)
                distance = difference * difference
                if D > 1:
                    difference = t1.to(tl.float32) - tl.load(palette + c * D + 1)
                    distance += difference * difference
                if D > 2:
                    difference = t2.to(tl.float32) - tl.load(palette + c * D + 2)
                    distance += difference * difference
                if D > 3:
                    difference = t3.to(tl.float32) - tl.load(palette + c * D + 3)
                    distance += difference * difference
                chosen = tl.where(distance < smallest, c, chosen)
                smallest = tl.minimum(distance, smallest)
            chosen = tl.where(entry < 0, chosen, entry.to(tl.int32))
            tl.store(indices + y * w + x, chosen.to(tl.uint8), mask=inside)
            here = errors + (y * w + x) * D
            _leave(here, palette, chosen, t0, 0, entry, share, inside, D, BITS)
            if D > 1:
                _leave(here, palette, chosen, t1, 1, entry, share, inside, D, BITS)
            if D > 2:
                _leave(here, palette, chosen, t2, 2, entry, share, inside, D, BITS)
            if D > 3:
                _leave(here, palette, chosen, t3, 3, entry, share, inside, D, BITS)
        tl.debug_barrier()


@triton.jit
@no_type_check
def _target(
    colors, color, errors, y, x, j: tl.constexpr, h, w, D: tl.constexpr, inside, low, high
):  # fmt: skip
    """Return one coordinate of a pixel and what was passed on to it, within bounds."""
    level = tl.load(colors + color.to(tl.int64) * D + j, mask=inside, other=0.0).to(tl.int32)
    target = level + ((_passed_on(errors, y, x, j, h, w, D, inside) + 8) >> 4)
    return tl.minimum(tl.maximum(target, tl.load(low + j)), tl.load(high + j))


@triton.jit
@no_type_check
def _leave(
    here, palette, chosen, target, j: tl.constexpr, entry, share, inside, D: tl.constexpr,
    BITS: tl.constexpr,
):  # fmt: skip
    """Write the error that a pixel passes on, before it is parted: none, where its entry is own."""
    level = tl.load(palette + chosen * D + j, mask=inside, other=0.0).to(tl.int32)
    missed = tl.where(entry < 0, target - level, 0)
    tl.store(here + j, (missed * share + (1 << (BITS - 1))) >> BITS, mask=inside)


@triton.jit(do_not_specialize=["h", "w", "k", "share", "first_row", "first_column"])
@no_type_check
def reconsider(
    colors,  # (n, D) float32: whole numbers
    inverse,  # (h, w) int32
    palette,  # (k, D) float32: whole numbers
    own,  # (n,) int32: not negative where a colour's pixels stay as they are
    blur,  # (2 REACH + 1,) int32
    low,  # (D,) int32: of the picture's colours
    high,  # (D,) int32
    share,  # int32: what each part of the others' misses counts, in 2^-BITS
    indices,  # (h, w) uint8, changed
    first_row,
    first_column,
    h,
    w,
    k,
    D: tl.constexpr,
    BITS: tl.constexpr,
    REACH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Choose again for every third pixel of every third row: none of them sees another."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    across = (w - first_column + REACH) // (REACH + 1)
    y = (first_row + place // across * (REACH + 1)).to(tl.int64)
    x = (first_column + place % across * (REACH + 1)).to(tl.int64)
    inside = y < h
    color = tl.load(inverse + y * w + x, mask=inside, other=0)
    inside &= tl.load(own + color, mask=inside, other=0) < 0
    about = (inverse, indices, y, x, h, w, inside, low, high)
    t0 = _wanted(colors, palette, blur, share, color, about, 0, D, BITS, REACH)
    if D > 1:
        t1 = _wanted(colors, palette, blur, share, color, about, 1, D, BITS, REACH)
    if D > 2:
        t2 = _wanted(colors, palette, blur, share, color, about, 2, D, BITS, REACH)
    if D > 3:
        t3 = _wanted(colors, palette, blur, share, color, about, 3, D, BITS, REACH)
    smallest = tl.full((BLOCK,), float("inf"), tl.float32)
    chosen = tl.zeros((BLOCK,), dtype=tl.int32)
    for c in range(k):
        difference = t0 - tl.load(palette + c * D)
        distance = difference * difference
        if D > 1:
            difference = t1 - tl.load(palette + c * D + 1)
            distance += difference * difference
        if D > 2:
            difference = t2 - tl.load(palette + c * D + 2)
            distance += difference * difference
        if D > 3:
            difference = t3 - tl.load(palette + c * D + 3)
            distance += difference * difference
        chosen = tl.where(distance < smallest, c, chosen)
        smallest = tl.minimum(distance, smallest)
    tl.store(indices + y * w + x, chosen.to(tl.uint8), mask=inside)


@triton.jit
@no_type_check
def _wanted(
    colors, palette, blur, share, color, about, j: tl.constexpr, D: tl.constexpr,
    BITS: tl.constexpr, REACH: tl.constexpr,
):  # fmt: skip
    """Return one coordinate of pixels less their share of what the others miss, on the grid."""
    inverse, indices, y, x, h, w, inside, low, high = about
    missed = tl.zeros_like(y)
    for down in range(-REACH, REACH + 1):
        for right in range(-REACH, REACH + 1):
            v = y + down
            u = x + right
            is_other = (down != 0) | (right != 0)
            there = inside & is_other & (v >= 0) & (v < h) & (u >= 0) & (u < w)
            entry = tl.load(indices + v * w + u, mask=there, other=0).to(tl.int32)
            level = tl.load(palette + entry * D + j, mask=there, other=0.0)
            theirs = tl.load(inverse + v * w + u, mask=there, other=0).to(tl.int64)
            level -= tl.load(colors + theirs * D + j, mask=there, other=0.0)
            weight = tl.load(blur + down + REACH) * tl.load(blur + right + REACH)
            missed += weight * level.to(tl.int64)
    mine = tl.load(colors + color.to(tl.int64) * D + j, mask=inside, other=0.0).to(tl.int64)
    wanted = mine - ((missed * share + (1 << (BITS - 1))) >> BITS)
    return tl.minimum(tl.maximum(wanted, tl.load(low + j)), tl.load(high + j)).to(tl.float32)


@triton.jit(do_not_specialize=["h", "w", "k"])
@no_type_check
def blurred_moments(
    colors,  # (n, D) float32: whole numbers
    inverse,  # (h, w) int32
    indices,  # (h, w) uint8
    blur,  # (2 REACH + 1,) int32
    meetings,  # (k, k) int64; zeros
    sums,  # (k, D) int64; zeros
    h,
    w,
    k,
    D: tl.constexpr,
    REACH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Count what lies about each entry, by integer atomics."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < h.to(tl.int64) * w
    y = pixel // w
    x = pixel % w
    entry = tl.load(indices + pixel, mask=inside, other=0).to(tl.int32)
    for down in range(-REACH, REACH + 1):
        for right in range(-REACH, REACH + 1):
            weight = (tl.load(blur + down + REACH) * tl.load(blur + right + REACH)).to(tl.int64)
            v = y + down
            u = x + right
            about = inside & (v >= 0) & (v < h) & (u >= 0) & (u < w)
            there = tl.load(indices + v * w + u, mask=about, other=0).to(tl.int32)
            tl.atomic_add(meetings + entry * k + there, weight, mask=about, sem="relaxed")
            color = tl.load(inverse + v * w + u, mask=about, other=0).to(tl.int64)
            for j in tl.static_range(D):
                level = tl.load(colors + color * D + j, mask=about, other=0.0).to(tl.int64)
                tl.atomic_add(sums + entry * D + j, weight * level, mask=about, sem="relaxed")
