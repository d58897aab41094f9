"""Laying colours out in tiles by one launch, whatever number of problems they belong to."""

from itertools import accumulate

import torch
from torch import Tensor

from gpu_kmeans.backends import Problems
from gpu_kmeans.backends.cuda import layout
from gpu_kmeans.backends.cuda.layout import BOXED_DIMENSIONS, Tiles, to_device
from gpu_kmeans.backends.cuda.passes import TILE
from gpu_kmeans.backends.cuda.program import available, program

TILES_OF_BLOCK, THREADS = 8, 256  # as in `sources/layout.cu`


def lay_out(problems: Problems) -> Tiles:
    """Lay packed problems out in tiles. Waits for nothing. Never raises."""
    points = problems.points
    is_fit = problems.is_integral and points.dtype == torch.float32 and points.is_contiguous()
    if not is_fit or points.shape[1] > BOXED_DIMENSIONS or not available(points.device):
        return layout.lay_out(problems)
    d, device, b = points.shape[1], points.device, len(problems.offsets) - 1
    counts = [-(-(rows.stop - rows.start) // TILE) for rows in problems.spans]
    first_tiles = tuple(accumulate(counts, initial=0))
    told = torch.tensor([problems.offsets, first_tiles], dtype=torch.int64)
    count = first_tiles[-1]
    size = count * TILE

    def room(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    tiles = Tiles(
        points=room(d, size, dtype=points.dtype),
        weights=room(size, dtype=torch.float64),
        masses=room(size, dtype=torch.int64),
        rows=room(size, dtype=torch.int64),
        boxes=room(2, d, count, dtype=points.dtype),
        problem_of=room(count, dtype=torch.int32),
        tiles_of=room(b, dtype=torch.int32),
        first_tile_of=room(b, dtype=torch.int32),
        first_tiles=first_tiles,
    )
    program("layout", device).launch(
        "lay_out", -(-count // TILES_OF_BLOCK), THREADS,
        to_device(told, device), b, d, count, points, problems.weights, tiles.points, tiles.weights,
        tiles.masses, tiles.rows, tiles.boxes, tiles.problem_of, tiles.tiles_of,
        tiles.first_tile_of,
    )  # fmt: skip
    return tiles
