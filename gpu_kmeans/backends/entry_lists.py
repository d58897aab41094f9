"""Which palette entries may be nearest to a target, found once for each cell of the colour space.

All numbers are whole. Colours and entries come as rows of four int16, missing dimensions 0; targets
also as two words, the coordinates 0 and 1, 2 and 3, the first in the low half. `starts` says where
in `lists` a cell's candidates are, in blocks as `gpu_kmeans.backends.vectors` compares them, and
how many blocks; `used[0]` how many are taken. The first blocks are all entries, for the cells that
come when there is no room. These belong to one thread and outlive a call.

Targets stay in a box about the picture's colours: `limits` (4, 3) has the low and the high side of
each dimension, and what a step to the next cell counts; `grid` the number of the cell at 0 and the
shift from grid steps to cells.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends.kernels import COMPARE, box_bounds, survivors
from gpu_kmeans.backends.vectors import BLOCK, BLOCK_SIZE, rank_blocks

FINEST_SHIFT = 6  # cells of 64 grid steps, larger where that would make too many
MOST_CELLS = 1 << 18
_COUNT_BITS = 6  # of a start: how many blocks; the rest is which is the first
_HUGE = np.float32(3e38)


@njit(nogil=True, cache=True)
@no_type_check
def _add_blocks(palette, kept, count, lists, used):
    """Append a list of candidates, the last block filled up with its first; return its start."""
    blocks = -(-count // BLOCK)
    for q in range(blocks * BLOCK):
        c = kept[q if q < count else q - q % BLOCK]
        at = (used[0] + q // BLOCK) * BLOCK_SIZE + q % BLOCK
        lists[at] = palette[c, 0] | palette[c, 1] << 16
        lists[at + BLOCK] = palette[c, 2] | palette[c, 3] << 16
        lists[at + 2 * BLOCK] = c
    used[0] += blocks
    return (used[0] - blocks) << _COUNT_BITS | blocks


@njit(nogil=True, cache=True, fastmath=COMPARE)
@no_type_check
def list_candidates(targets, lane, palette, shift, lists, used):
    """Find who may be nearest in the cell of a target; all of them where there is no room."""
    k, pair01, pair23 = palette.shape[0], targets[0, lane], targets[1, lane]
    if not used[0]:
        _add_blocks(palette, np.arange(k), k, lists, used)
    if (used[0] * BLOCK + k + BLOCK) * BLOCK_SIZE > lists.size * BLOCK:
        return -(-k // BLOCK)
    corner, across = np.empty(4, np.float32), np.empty((4, k), np.float32)
    corner[0], corner[1] = (pair01 & 0xFFFF) >> shift << shift, pair01 >> 16 >> shift << shift
    corner[2], corner[3] = (pair23 & 0xFFFF) >> shift << shift, pair23 >> 16 >> shift << shift
    width = np.float32((1 << shift) - 1)
    for j in range(4):
        for c in range(k):
            across[j, c] = palette[c, j]
    near, far = np.empty(k, np.float32), np.empty(k, np.float32)
    kept = np.empty(k + 1, np.int32)
    box_bounds(corner, corner + width, across, k, near, far)
    return _add_blocks(palette, kept, survivors(near, far, k, 1, kept, _HUGE), lists, used)


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def rank_listed(start, targets, lane, lists, ranks):
    """Rank the entries that are listed for a target's cell, for `gpu_kmeans.backends.vectors`."""
    first, blocks = start >> _COUNT_BITS, start & ((1 << _COUNT_BITS) - 1)
    rank_blocks(lists, first * BLOCK_SIZE, blocks, targets, lane, ranks)
