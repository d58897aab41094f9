"""Areas of one colour: what is drawn rather than photographed, and keeps its very colours.

Of as many pixels, those that lie together in one colour are worth more than those that are each
another: they are a page, a button, a country on a map, and seen to be of another colour; the shades
of an edge or of foliage are not. So pixels inside areas count for more, and an entry that is one
colour for the most part is that colour, not a mean beside it.

For the latter there is a reason apart from the eye: the point of the least sum of distances, not of
their squares, is one of the points itself where that has half of the weight. A third was better.

A photograph has hardly any pixels whose eight neighbours have just their colour, so it is clustered
as before; counting all pixels of common colours for more, neighbours or not, cost it looks
(docs/decisions/0007-what-is-preferred.md).

References:
    Kuhn, "A note on Fermat's problem", Math. Program. 4, 1973 (the median at a heavy point).
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gpu_kmeans.palette import Palette

__all__ = ["area_weights", "settle_solid"]

WORTH = 32  # further pixels that one inside an area counts for, were the picture all of its colour
ENOUGH = 3  # one part in so many of an entry, by weight, makes it that colour
WEIGHT_BITS = 28  # of all weights: multiplied by squared distances they add up exactly in float64


def area_weights(counts: Int[Tensor, " n"], inverse: Int[Tensor, "h w"]) -> Float[Tensor, " n"]:
    """Weigh colours by their pixels, those inside areas for more.

    A pixel inside an area counts 1 + 32 s^(1/4) times where the areas of its colour are the share s
    of the picture: 17 times for a sixteenth of it, 7 times for a thousandth.

    Args:
        counts: Pixels of each colour.
        inverse: Each pixel's colour.

    Returns:
        Whole numbers in proportion, at least 1; the roots are two square roots, which are the same
        bits on every device. Never raises.

    Example:
        >>> weights = area_weights(torch.tensor([1, 3]), torch.tensor([[0, 1, 1, 1]]))
        >>> (weights[1] / weights[0]).round().item()
        57.0
    """
    inside = _inside_counts(inverse, len(counts)).double()
    pixels, weights = inverse.numel(), counts.double()
    scale = 2.0 ** max(0, WEIGHT_BITS - ((1 + WORTH) * pixels).bit_length())
    # On the CPU only where there is an area: a photograph has few. A GPU would wait to be told.
    some = inside.nonzero()[:, 0] if inside.device.type == "cpu" else slice(None)
    weights[some] += WORTH * inside[some] * (inside[some] / pixels).sqrt().sqrt()
    return (weights * scale + 0.5).floor()


def _inside_counts(inverse: Int[Tensor, "h w"], size: int) -> Tensor:
    """Count the pixels of each colour that have neighbours of their colour only."""
    if inverse.device.type == "cpu":  # numpy: a few passes are too short for torch's threads
        plane = inverse.numpy()
        inside = _leave_inside(np.ones(plane.shape, bool), plane)
        return torch.from_numpy(np.bincount(plane[inside], minlength=size))
    every = torch.ones_like(inverse, dtype=torch.bool)
    return torch.bincount(inverse[_leave_inside(every, inverse)], minlength=size)


def _leave_inside(inside: Any, plane: Any) -> Any:
    """Take out what has another colour beside it; what is beyond the rim does not count.

    Example:
        >>> plane = np.array([[1, 1, 1], [1, 1, 1], [2, 1, 1]])
        >>> _leave_inside(np.ones((3, 3), bool), plane).astype(int).tolist()
        [[1, 1, 1], [0, 0, 1], [0, 0, 1]]
    """
    beside = plane[:, 1:] == plane[:, :-1]
    inside[:, 1:] &= beside
    inside[:, :-1] &= beside
    above = (plane[1:] == plane[:-1]) & inside[1:] & inside[:-1]
    inside[1:] &= above
    inside[:-1] &= above
    return inside


def settle_solid(
    palette: Palette,
    colors: UInt8[Tensor, "n c"],
    weights: Float[Tensor, " n"],
    labels: Int[Tensor, " n"],
    *,
    kept: int,
) -> tuple[Palette, int]:
    """Let entries be the colour that has a third or more of their weight, where one has.

    Args:
        palette: To change, but for the first `kept` entries.
        colors: The picture's, distinct.
        weights: How much each counts, whole numbers.
        labels: The entry of each.
        kept: How many entries, the first ones, stay as they are.

    Returns:
        palette: The entries kept, then those that became a colour, then the others.
        kept: How many the former two are. Never raises.
    """
    size, whole = len(palette.colors), weights.long()
    rows = torch.arange(len(colors), device=colors.device)
    all_of_it = whole.new_zeros(size).index_add_(0, labels, whole)
    most = whole.new_zeros(size).scatter_reduce_(0, labels, whole, "amax")
    heaviest = torch.where(whole == most[labels], rows, len(colors))  # of equals the first
    first = rows.new_full((size,), len(colors)).scatter_reduce_(0, labels, heaviest, "amin")
    is_kept = torch.arange(size, device=colors.device) < kept
    is_solid = (ENOUGH * most >= all_of_it) & (all_of_it > 0) & ~is_kept
    fixed = palette.keep(is_kept).joined(Palette.from_colors(colors[first[is_solid]]))
    return fixed.joined(palette.keep(~is_solid & ~is_kept)), len(fixed.colors)
