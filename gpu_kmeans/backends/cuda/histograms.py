"""The distinct colours of opaque pictures, many at once, by CUDA C++: see `sources/histograms.cu`.

Memory is taken for as many colours as a picture has pixels, so that nobody waits for how many they
are before all is launched.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from gpu_kmeans.backends.cuda.layout import ALIGNMENT, to_device
from gpu_kmeans.backends.cuda.program import program

# As in the source.
PIXELS_OF_BLOCK, WORDS, BLOCKS = 2048, 1 << 19, 128
THREADS = 256
TOGETHER = 32  # pictures: 4 MB of bits and ranks each
MOST_COLORS = 1 << 24


def count_opaque(pixels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Count the distinct colours of each picture.

    Args:
        pixels: uint8 (n, 3), of at least one pixel.

    Returns:
        Of each: the m colours in Morton order, uint8 (m, 3); how often each occurs, int64 (m,);
        which of them each pixel has, int32 (n,). Waits once. Never raises.
    """
    launched = [
        _launch([of_one.contiguous() for of_one in pixels[i : i + TOGETHER]])
        for i in range(0, len(pixels), TOGETHER)
    ]
    totals = torch.cat([total for _, total in launched]).tolist()
    parts = [part for parts, _ in launched for part in parts]
    return [
        (colors[:m], counts[:m], inverse)
        for (colors, counts, inverse), m in zip(parts, totals, strict=True)
    ]


def _launch(pixels: list[Tensor]) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
    """Return room for colours, with their counts and the pixels' colours; and how many they are."""
    device, b = pixels[0].device, len(pixels)
    sizes = [len(of_one) for of_one in pixels]
    rooms = [min(size, MOST_COLORS) for size in sizes]
    inverses = _cut(sizes, (), torch.int32, device)
    colors = _cut(rooms, (3,), torch.uint8, device)
    counts = _cut(rooms, (), torch.int64, device)
    blocks = list(accumulate((-(-size // PIXELS_OF_BLOCK) for size in sizes), initial=0))
    of_pixels, *of_parts = (
        [part.data_ptr() for part in parts] for parts in (pixels, inverses, colors, counts)
    )
    told = [*([*column, 0] for column in (of_pixels, sizes, *of_parts)), blocks]
    pictures = (to_device(torch.tensor(told, dtype=torch.int64), device), b)
    words = torch.zeros(b, WORDS, 2, dtype=torch.int32, device=device)
    marks = torch.empty(b, BLOCKS, dtype=torch.int32, device=device)
    totals = torch.empty(b, dtype=torch.int64, device=device)
    launch = program("histograms", device).launch
    launch("mark", blocks[-1], THREADS, *pictures, words)
    launch("count_marks", b * BLOCKS, THREADS, words, marks)
    launch("rank_colors", b * BLOCKS, THREADS, *pictures, marks, words, totals)
    launch("rank_pixels", blocks[-1], THREADS, *pictures, words)
    return list(zip(colors, counts, inverses, strict=True)), totals


def _cut(
    sizes: Sequence[int], shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """Return a tensor of so many rows for each, all aligned, from one allocation."""
    ends = list(accumulate((-(-size // ALIGNMENT) * ALIGNMENT for size in sizes), initial=0))
    whole = torch.empty(ends[-1], *shape, dtype=dtype, device=device)
    return [whole[at : at + size] for at, size in zip(ends, sizes, strict=False)]
