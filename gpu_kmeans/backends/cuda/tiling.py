"""Laying colours out in tiles by one launch, whatever number of problems they belong to.

The launch adds up what each problem weighs as well, which says what sums of it fit into, and how
widely its points lie.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from gpu_kmeans.backends import Problems
from gpu_kmeans.backends.cuda import layout
from gpu_kmeans.backends.cuda.devices import to_device
from gpu_kmeans.backends.cuda.layout import BOXED_DIMENSIONS, Tiles
from gpu_kmeans.backends.cuda.memory import Memory
from gpu_kmeans.backends.cuda.passes import TILE
from gpu_kmeans.backends.cuda.program import available, program
from gpu_kmeans.backends.cuda.words import tiles_of_block

TILES_OF_BLOCK, THREADS = 8, 256  # as in `sources/layout.cu`


def pack(
    points: Sequence[Tensor], weights: Sequence[Tensor], *, is_integral: bool
) -> Problems | None:
    """Concatenate problems and lay them out in tiles; None where they are not for CUDA C++.

    Waits for nothing. Never raises.
    """
    d, device = points[0].shape[1], points[0].device
    is_fit = is_integral and all(of_one.dtype == torch.float32 for of_one in points)
    if not is_fit or d > BOXED_DIMENSIONS or not available(device):
        return None
    rows = points[0] if len(points) == 1 else torch.cat(list(points))
    masses = weights[0] if len(weights) == 1 else torch.cat(list(weights))
    offsets = tuple(accumulate(map(len, points), initial=0))
    rows, masses = rows.contiguous(), masses.double().contiguous()
    return Problems(
        points=rows,
        weights=masses,
        offsets=offsets,
        is_integral=True,
        layout=lay_out(rows, masses, offsets),
    )


def lay_out(points: Tensor, weights: Tensor, offsets: tuple[int, ...]) -> Tiles:
    """Lay out packed points, contiguous in float32, and weights in float64. Never raises.

    Kernels are told of each problem where its points begin, its tiles, and its blocks of a pass;
    of each the end of the last comes after. The moments follow, see `Tiles.moments`.
    """
    d, device, b = points.shape[1], points.device, len(offsets) - 1
    counts = [-(-(end - begin) // TILE) for begin, end in pairwise(offsets)]
    first_tiles = tuple(accumulate(counts, initial=0))
    count = first_tiles[-1]
    each = tiles_of_block(count)
    first_blocks = accumulate((-(-own // each) for own in counts), initial=0)
    told = [*offsets, *first_tiles, *first_blocks, *(0,) * (b * (2 + d))]
    size = count * TILE
    memory = Memory(
        device,
        points=(torch.float32, d, size),
        weights=(torch.float64, size),
        masses=(torch.int64, size),
        rows=(torch.int64, size),
        boxes=(torch.float32, 2, d, count),
        problem_of=(torch.int32, count),
        tiles_of=(torch.int32, b),
        first_tile_of=(torch.int32, b),
    )
    tiles = Tiles(memory, first_tiles, d, to_device(torch.tensor(told, dtype=torch.int64), device))
    program("layout", device).launch(
        "lay_out", -(-count // TILES_OF_BLOCK), THREADS, tiles.told, b, d, count, points, weights,
        *(memory[name] for name in layout.PARTS),
    )  # fmt: skip
    return tiles
