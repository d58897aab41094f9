"""The distinct colours of opaque pictures, many at once, by CUDA C++: see `sources/histograms.cu`.

Memory is taken for as many colours as a picture has pixels, so that nobody waits for how many they
are before all is launched.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from gpu_kmeans.backends.cuda.devices import to_device
from gpu_kmeans.backends.cuda.memory import Memory
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
    found = []
    for pictures, scratch in launched:
        (totals,) = scratch.fetch("totals")
        for (colors, counts, inverse), m in zip(pictures, totals.tolist(), strict=True):
            found.append((colors[:m], counts[:m], inverse))
    return found


def _launch(pixels: list[Tensor]) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Memory]:
    """Return room for colours, with their counts and the pixels' colours; and how many they are."""
    device, b = pixels[0].device, len(pixels)
    sizes = [len(of_one) for of_one in pixels]
    pictures = []
    for size in sizes:
        most = min(size, MOST_COLORS)
        colors = torch.empty(most, 3, dtype=torch.uint8, device=device)
        counts = torch.empty(most, dtype=torch.int64, device=device)
        pictures.append((colors, counts, torch.empty(size, dtype=torch.int32, device=device)))
    blocks = accumulate((-(-size // PIXELS_OF_BLOCK) for size in sizes), initial=0)
    of_colors, of_counts, of_inverses = zip(*pictures, strict=True)
    of_pixels, *of_parts = (
        [of_one.data_ptr() for of_one in parts]
        for parts in (pixels, of_inverses, of_colors, of_counts)
    )
    told = [*([*column, 0] for column in (of_pixels, sizes, *of_parts)), [*blocks]]
    given = (to_device(torch.tensor(told, dtype=torch.int64), device), b)
    words = torch.zeros(b, WORDS, 2, dtype=torch.int32, device=device)
    scratch = Memory(device, marks=(torch.int32, b, BLOCKS), totals=(torch.int64, b))
    marks, totals, count = scratch["marks"], scratch["totals"], told[-1][-1]
    launch = program("histograms", device).launch
    launch("mark", count, THREADS, *given, words)
    launch("count_marks", b * BLOCKS, THREADS, words, marks)
    launch("rank_colors", b * BLOCKS, THREADS, *given, marks, words, totals)
    launch("rank_pixels", count, THREADS, *given, words)
    return pictures, scratch
