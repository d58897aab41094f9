"""Sums of points that are no pictures, by Triton: of fixed chunks, in order, without atomics.

The same points give the same bits each time.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import triton
from torch import Tensor

from gpu_kmeans.backends import Problems
from gpu_kmeans.backends.cuda import passes
from gpu_kmeans.backends.cuda.devices import as_int32, on, to_device
from gpu_kmeans.backends.cuda.layout import BOXED_DIMENSIONS, Tiles
from gpu_kmeans.backends.cuda.passes import TILE, WIDEST
from gpu_kmeans.backends.cuda.walks import EXACT, warps_for, width_for

CENTROID_BLOCK = 32
MOST_CHUNKS, SLAB_NUMBERS = 256, 1 << 25  # chunks, and float64 in all of their sums


def add_up(
    problems: Problems,
    centroids: Tensor,
    k_offsets: tuple[int, ...],
    active: Sequence[int] | None,
    *,
    detail: bool,
) -> tuple[Tensor, Tensor]:
    """Label the points, then add them up in chunks that depend on their own problem alone.

    Returns:
        A table of sums, mass, cost, and with detail squares and utility of each centroid, float64;
        and the labels, in the order of the tiles. Never raises.
    """
    tiles, d, device = cast("Tiles", problems.layout), centroids.shape[1], centroids.device
    counts = [b - a for a, b in pairwise(k_offsets)]
    served = range(len(counts)) if active is None else active
    columns = 2 * d + 3 if detail else d + 2
    labels = torch.zeros(tiles.size, dtype=torch.int32, device=device)
    smallest, second = torch.empty(2, tiles.size, dtype=problems.points.dtype, device=device)
    status = as_int32([int(b not in set(served)) for b in range(len(counts))], device)
    count_of, first_of = as_int32(counts, device), as_int32(k_offsets[:-1], device)
    which = (tiles.problem_of, status, first_of, count_of, centroids.contiguous())
    found = (labels, smallest, second)
    grid = (tiles.count,)
    with on(device):
        if d <= BOXED_DIMENSIONS and max(counts) <= WIDEST:
            wide = width_for(max(counts))
            passes.nearest_in_boxes[grid](
                tiles.points, tiles.size, tiles.boxes, tiles.count, *which, *found,
                D=d, K=wide, SECOND=detail, TILE=TILE, num_warps=warps_for(wide), **EXACT,
            )  # fmt: skip
        else:
            passes.nearest_of_all[grid](
                tiles.points, tiles.size, d, *which, *found,
                SECOND=detail, TILE=TILE, BLOCK=CENTROID_BLOCK, num_warps=4, **EXACT,
            )  # fmt: skip
    table = torch.zeros(len(centroids), columns, dtype=torch.float64, device=device)
    chunks, slab_of, spans = _chunks(tiles, counts, columns, served)
    if not spans:
        return table, labels
    slabs = torch.empty(spans[-1][2], dtype=torch.float64, device=device)
    blocks = triton.cdiv(max(counts), CENTROID_BLOCK)
    with on(device):
        passes.add_up[len(slab_of), columns, blocks](
            tiles.points, tiles.weights, tiles.size, d, *found, as_int32(chunks, device),
            len(slab_of), count_of, to_device(torch.tensor(slab_of), device), slabs,
            DETAIL=detail, TILE=TILE, BLOCK=CENTROID_BLOCK, num_warps=4, **EXACT,
        )  # fmt: skip
    for b, begin, end in spans:
        mine = slabs[begin:end].reshape(-1, columns, counts[b])
        table[k_offsets[b] : k_offsets[b + 1]] = mine.sum(dim=0).T
    return table, labels


def _chunks(
    tiles: Tiles, counts: Sequence[int], columns: int, served: Sequence[int]
) -> tuple[Tensor, list[int], list[tuple[int, int, int]]]:
    """Cut problems into chunks of tiles: problem, from, to; the slab of each, and by problem."""
    chunks: list[tuple[int, int, int]] = []
    slab_of: list[int] = []
    spans: list[tuple[int, int, int]] = []
    end = 0
    for b in sorted(served):
        first, last = tiles.first_tiles[b], tiles.first_tiles[b + 1]
        size = counts[b] * columns
        most = max(8, min(MOST_CHUNKS, SLAB_NUMBERS // size))
        step = max(8, -(-(last - first) // most))
        begin = end
        for t in range(first, last, step):
            chunks.append((b, t, min(t + step, last)))
            slab_of.append(end)
            end += size
        spans.append((b, begin, end))
    return torch.tensor(chunks, dtype=torch.int32).reshape(-1, 3).T.contiguous(), slab_of, spans
