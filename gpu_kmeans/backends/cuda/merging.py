"""`gpu_kmeans.histogram.coarsen` for many pictures at once, without the colours leaving the device.

The same octree, the same numbers to the bit: whole numbers are added as whole numbers, the only
sums that are not whole in the order in which numpy's `add.reduceat` takes them. Five launches do
it, see `sources/merging.cu`; the host waits once, for how many points come out.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from gpu_kmeans.backends.cuda.layout import to_device
from gpu_kmeans.backends.cuda.program import available, program
from gpu_kmeans.backends.cuda.torch_merging import LEVELS, merge_large
from gpu_kmeans.histogram import FINEST_CELLS

# As in the source.
CHUNK, LEAVES_OF_BLOCK, POINTS_OF_BLOCK = 2048, 32, 8
NARROW_ROWS, BYTE_ROWS = 8, 3
THREADS, MOST_THREADS = 256, 1024


def merge(
    colors: Sequence[Tensor], features: Sequence[Tensor], weights: Sequence[Tensor], target: int
) -> list[tuple[Tensor, Tensor]]:
    """Merge each picture's neighbouring colours into about `target` weighted means.

    Args:
        colors: uint8 (n, c), each in Morton order, all of as many channels, 3 or 4.
        features: (n, c) whole numbers, float32, the points that are merged.
        weights: (n,) whole numbers, float64.
        target: About how many points are wanted of each.

    Returns:
        Points, rounded to the grid, and weights; what came in, where it is not more than the
        target. Never raises.
    """
    found = list(zip(features, weights, strict=True))
    large = [i for i, of_one in enumerate(colors) if len(of_one) > target]
    if large:
        of_large = [[group[i].contiguous() for i in large] for group in (colors, features, weights)]
        merge_them = _merge_by_tree if available(colors[0].device) else merge_large
        for i, merged in zip(large, merge_them(target, *of_large), strict=True):
            found[i] = merged
    return found


def _merge_by_tree(
    target: int, colors: list[Tensor], features: list[Tensor], weights: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Launch it all, then wait for how many points each picture is left with."""
    device, channels, b = colors[0].device, colors[0].shape[1], len(colors)
    sizes = [len(of_one) for of_one in colors]
    rooms = [min(size, FINEST_CELLS) for size in sizes]  # for leaves: no picture has more
    chunks, blocks, firsts = (
        list(accumulate(counts, initial=0))
        for counts in (
            [-(-size // CHUNK) for size in sizes],
            [-(-room // LEAVES_OF_BLOCK) for room in rooms],
            rooms,
        )
    )
    addresses = [[of_one.data_ptr() for of_one in group] for group in (colors, features, weights)]
    told = [*([*column, 0] for column in (*addresses, sizes)), chunks, firsts, blocks]
    pictures = (to_device(torch.tensor(told, dtype=torch.int64), device), b)
    room = firsts[-1]
    cells = torch.zeros(b, LEVELS, dtype=torch.int32, device=device)
    cells_of = torch.empty(LEVELS, chunks[-1], dtype=torch.int32, device=device)
    narrow = torch.empty(NARROW_ROWS, room, dtype=torch.int32, device=device)
    tall = torch.empty(BYTE_ROWS, room, dtype=torch.uint8, device=device)
    wide = torch.empty(7 + 3 * channels, room, dtype=torch.int64, device=device)
    begins = torch.empty(b, target + 1, dtype=torch.int32, device=device)
    counts = torch.empty(b, dtype=torch.int64, device=device)
    means = torch.empty(b, target, channels, dtype=torch.float32, device=device)
    masses = torch.empty(b, target, dtype=torch.float64, device=device)
    launch = program("merging", device).launch
    launch(
        "count_cells", chunks[-1], THREADS,
        *pictures, channels, chunks[-1], cells_of, cells,
    )  # fmt: skip
    launch(
        "find_leaves", chunks[-1], THREADS,
        *pictures, channels, chunks[-1], cells_of, cells, room, narrow, tall,
    )  # fmt: skip
    launch(
        "sum_leaves", blocks[-1], THREADS,
        *pictures, channels, cells, room, narrow, wide,
    )  # fmt: skip
    launch(
        "grow", b, MOST_THREADS,
        *pictures, channels, cells, room, target, narrow, tall, wide, begins, counts,
    )  # fmt: skip
    launch(
        "sum_points", b * -(-target // POINTS_OF_BLOCK), THREADS,
        *pictures, channels, room, target, begins, counts, wide, means, masses,
    )  # fmt: skip
    return [(means[i, :n], masses[i, :n]) for i, n in enumerate(counts.tolist())]
