"""`gpu_kmeans.histogram.coarsen` for many pictures at once, without the colours leaving the device.

The same octree, the same numbers to the bit: whole numbers are added as whole numbers, the only
sums that are not whole in the order in which numpy's `add.reduceat` takes them. Five launches do
it, see `sources/merging.cu`; the host waits once, for how many points come out.
"""

from collections.abc import Sequence
from itertools import accumulate, chain

import torch
from torch import Tensor

from gpu_kmeans.backends.cuda.devices import to_device
from gpu_kmeans.backends.cuda.memory import Memory
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
    cells = [0] * (b * LEVELS // 2)  # two to a number; counted by the first launch
    told = [*([*column, 0] for column in (*addresses, sizes)), chunks, firsts, blocks]
    numbers = torch.tensor([*chain.from_iterable(told), *cells], dtype=torch.int64)
    columns, room = to_device(numbers, device), firsts[-1]
    pictures = (columns, b)
    of_cells = columns.data_ptr() + sum(map(len, told)) * numbers.itemsize
    scratch = Memory(
        device,
        cells_of=(torch.int32, LEVELS, chunks[-1]),
        narrow=(torch.int32, NARROW_ROWS, room),
        tall=(torch.uint8, BYTE_ROWS, room),
        wide=(torch.int64, 7 + 3 * channels, room),
        begins=(torch.int32, b, target + 1),
        counts=(torch.int64, b),
    )
    merged = Memory(
        device,
        means=(torch.float32, b, target, channels),
        masses=(torch.float64, b, target),
    )
    own, narrow, tall, wide, begins, counts = map(
        scratch.__getitem__, ("cells_of", "narrow", "tall", "wide", "begins", "counts")
    )
    launch = program("merging", device).launch
    launch(
        "count_cells", chunks[-1], THREADS,
        *pictures, channels, chunks[-1], own, of_cells,
    )  # fmt: skip
    launch(
        "find_leaves", chunks[-1], THREADS,
        *pictures, channels, chunks[-1], own, of_cells, room, narrow, tall,
    )  # fmt: skip
    launch(
        "sum_leaves", blocks[-1], THREADS,
        *pictures, channels, of_cells, room, narrow, wide,
    )  # fmt: skip
    launch(
        "grow", b, MOST_THREADS,
        *pictures, channels, of_cells, room, target, narrow, tall, wide, begins, counts,
    )  # fmt: skip
    launch(
        "sum_points", b * -(-target // POINTS_OF_BLOCK), THREADS,
        *pictures, channels, room, target, begins, counts, wide, merged["means"], merged["masses"],
    )  # fmt: skip
    (found,) = scratch.fetch("counts")
    means, masses = merged.tensor("means"), merged.tensor("masses")
    return [(means[i, :n], masses[i, :n]) for i, n in enumerate(found.tolist())]
