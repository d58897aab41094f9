"""Which palette entries may be nearest to a target, found once for each cell of the colour space.

All numbers are whole. Colours and entries come as rows of four int16, missing dimensions 0; targets
also as two words, the coordinates 0 and 1, 2 and 3, the first in the low half. `starts` says where
in `lists` a cell's candidates are, in blocks, as `gpu_kmeans.backends.vectors.name_listed` takes
both; `used[0]` how many blocks are taken. The first blocks, at least two, are all entries, for the
cells that come when there is no room. These belong to one thread and outlive a call.

Loops call `name_listed` themselves, and what is here only where it says no: a function that is
handed arrays counts who has them, inlined or not, and for sixteen pixels that takes as long again.

Targets stay in a box about the picture's colours: `limits` (4, 3) has the low and the high side of
each dimension, and what a step to the next cell counts; `grid` the number of the cell at 0 and the
shift from grid steps to cells.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends.tile_vectors import FAR, lowest_bit
from gpu_kmeans.backends.vectors import BLOCK, BLOCK_SIZE, LEFT_BITS, MORE_BLOCKS, MOST_LEFT
from gpu_kmeans.backends.whole_kernels import prune

FINEST_SHIFT = 6  # cells of 64 grid steps, larger where that would make too many
MOST_CELLS = 1 << 18
_BOTH = np.int32(0x10001)  # times a number: in either half of a word
_AT_ONCE = 4 * BLOCK  # candidates to a word of bits


@njit(nogil=True, cache=True)
@no_type_check
def new_work(entries):
    """Return what `list_candidates` needs of entries (k, 2), pairs, and what it scribbles on."""
    k = entries.shape[0]
    size = -(-k // BLOCK) * BLOCK
    columns = np.full((2, size), FAR * _BOTH, np.int32)
    columns[:, :k] = entries.T
    bounds, box, bits = np.empty((2, size), np.int32), np.empty((1, 4), np.int32), -(-k // _AT_ONCE)
    return columns[0], columns[1], bounds[0], bounds[1], box, np.empty(bits, np.int64)


@njit(nogil=True, cache=True)
@no_type_check
def list_candidates(targets, k, work, shift, starts, lists, used):
    """Find who may be nearest in the targets' cells; all of them where there is no room."""
    c01, c23, near, far, box, bits = work
    if not used[0]:
        for word in range(bits.size):
            left = k - word * _AT_ONCE
            bits[word] = -1 if left >= _AT_ONCE else (np.int64(1) << left) - 1
        _add_blocks(bits, c01, c23, lists, used, max(2, -(-k // BLOCK)))
    inside = np.int32((1 << shift) - 1) * _BOTH
    for lane in range(targets.shape[1]):
        cell = targets[2, lane]
        if starts[cell] >= 0:
            continue
        if (used[0] * BLOCK + k + BLOCK) * BLOCK_SIZE > lists.size * BLOCK:
            starts[cell] = max(1, (k - 1) // BLOCK)
            continue
        for pair in range(2):
            corner = targets[pair, lane] & ~inside
            box[0, pair], box[0, 2 + pair] = corner, corner | inside
        prune(c01, c23, c01.size // BLOCK, box, 0, near, far, bits)
        starts[cell] = _add_blocks(bits, c01, c23, lists, used, 1)
        if not starts[cell] & MORE_BLOCKS:
            _move_near(lists, starts[cell], targets[0, lane], targets[1, lane])


@njit(nogil=True, cache=True)
@no_type_check
def _add_blocks(bits, c01, c23, lists, used, fewest):
    """Append whom bits stand for, blocks filled up with the last's first; return the start."""
    first, count = used[0], 0
    for word in range(bits.size):
        left = bits[word]
        while left:
            _write(word * _AT_ONCE + lowest_bit(left), c01, c23, lists, first, count)
            left &= left - 1
            count += 1
    blocks = max(fewest, -(-count // BLOCK))
    last = lists[(first + (count - 1) // BLOCK) * BLOCK_SIZE + 2 * BLOCK]
    for q in range(count, blocks * BLOCK):
        _write(last, c01, c23, lists, first, q)
    used[0] += blocks
    return first * BLOCK_SIZE + blocks - 1


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _write(c, c01, c23, lists, first, q):
    at = (first + q // BLOCK) * BLOCK_SIZE + q % BLOCK
    lists[at], lists[at + BLOCK], lists[at + 2 * BLOCK] = c01[c], c23[c], c


@njit(nogil=True, cache=True)
@no_type_check
def _move_near(lists, start, t01, t23):
    """Write the candidates of a single block as `gpu_kmeans.backends.vectors` ranks them."""
    for q in range(start, start + BLOCK):
        square = np.int64(MOST_LEFT)
        for pair in range(2):
            target, entry = (t01, t23)[pair], lists[q + pair * BLOCK]
            low = np.int16(entry) - _nearest_multiple(np.int16(target))
            high = (entry >> 16) - _nearest_multiple(target >> 16)
            square += low * low + high * high
            lists[q + pair * BLOCK] = np.int32((-2 * high << 16) | (-2 * low & 0xFFFF))
        lists[q + 2 * BLOCK] = np.int32(square << 8 | lists[q + 2 * BLOCK])


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _nearest_multiple(coordinate):
    return (np.int64(coordinate) + (1 << LEFT_BITS - 1)) >> LEFT_BITS << LEFT_BITS
