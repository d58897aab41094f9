"""Indices that compress: the definition, in plain PyTorch, on any device.

Deflate, behind PNG, is paid for where an index differs from those about it. A pixel's cost is the
squared distance to its entry less a price for each of the four pixels beside it, left, right, above
and below, that has the same entry. Each pixel takes the cheapest of the entry nearest to its colour
and the entries of those four, again and again.

Where a picture is busy, an eye does not see small errors: there the price is higher, by the
variance of the colours in a window about the pixel.

The pixels go in two turns, like the squares of a chessboard: none sees another of its turn, so that
the order within a turn does not matter and the answer is the same bits on every device. Everything
is a whole number, but for the price, which is single IEEE operations and then rounded.
"""

import torch
from torch import Tensor

REACH = 5  # of the window, to each side, clipped at the edges of the picture
BUSY = 61.0  # standard deviation, in grid steps (0.03 of the range), that doubles the price


def economize(
    colors: Tensor, inverse: Tensor, palette: Tensor, labels: Tensor, *, price: float, sweeps: int
) -> Tensor:
    """Do as `gpu_kmeans.backends.Backend.economize` says."""
    pixels, entries = colors.long()[inverse.long()], palette.long()
    nearest = labels.long()[inverse.long()]
    is_free = ((entries[nearest] - pixels) != 0).any(dim=2)
    prices = (price * (1 + variances(pixels[..., :3]) / BUSY**2) + 0.5).floor().long()
    chosen = torch.nn.functional.pad(nearest, (1, 1, 1, 1), value=-1)  # a rim of no entry
    inner = chosen[1:-1, 1:-1]
    rows, columns = (torch.arange(side, device=inner.device) for side in inner.shape)
    parity = (rows[:, None] + columns) % 2
    for turn in range(2 * sweeps):
        beside = [chosen[1:-1, :-2], chosen[1:-1, 2:], chosen[:-2, 1:-1], chosen[2:, 1:-1]]
        best, lowest = nearest, torch.full_like(nearest, torch.iinfo(torch.int64).max)
        for option in (nearest, *beside):
            missed = entries[option.clamp(min=0)] - pixels
            same = torch.stack([other == option for other in beside]).sum(dim=0)
            cost = (missed * missed).sum(dim=2) - prices * same
            is_better = (option >= 0) & (cost < lowest)  # of equals the first
            best, lowest = option.where(is_better, best), cost.where(is_better, lowest)
        inner[:] = best.where(is_free & (parity == turn % 2), inner)
    return inner.to(torch.uint8)


def variances(pixels: Tensor) -> Tensor:
    """Return the variance of the colours, summed over channels, in the window about each pixel."""
    values = pixels.movedim(2, 0)
    ones = torch.ones_like(values[:1])
    sums, size = _sum_windows(values), _sum_windows(ones)[0]
    squares = _sum_windows((values * values).sum(dim=0, keepdim=True))[0]
    return (size * squares - (sums * sums).sum(dim=0)).double() / (size * size)


def _sum_windows(planes: Tensor) -> Tensor:
    """Add up the planes (c, h, w) in the window about each pixel, one direction after the other."""
    for axis in (1, 2):
        sums = torch.zeros_like(planes)
        side = planes.shape[axis]
        for offset in range(-min(REACH, side - 1), min(REACH, side - 1) + 1):
            first, length = max(0, -offset), side - abs(offset)
            shifted = planes.narrow(axis, max(0, offset), length)
            sums.narrow(axis, first, length).add_(shifted)
        planes = sums
    return planes
