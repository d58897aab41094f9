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
    pixels = inverse.numel()
    scale = 2.0 ** max(0, WEIGHT_BITS - ((1 + WORTH) * pixels).bit_length())
    if inverse.device.type == "cpu":
        from gpu_kmeans.backends.area_kernels import count_inside, weigh_areas

        found = count_inside(inverse.numpy(), len(counts))
        return torch.from_numpy(weigh_areas(counts.numpy(), found, pixels, WORTH, scale))
    is_inside = _leave_inside(torch.ones_like(inverse, dtype=torch.bool), inverse)
    inside = torch.bincount(inverse[is_inside], minlength=len(counts)).double()
    weights = counts.double() + WORTH * inside * (inside / pixels).sqrt().sqrt()
    return (weights * scale + 0.5).floor()


def _leave_inside(inside: Tensor, plane: Tensor) -> Tensor:
    """Take out what has another colour beside it; what is beyond the rim does not count.

    Example:
        >>> plane = torch.tensor([[1, 1, 1], [1, 1, 1], [2, 1, 1]])
        >>> _leave_inside(torch.ones(3, 3, dtype=torch.bool), plane).int().tolist()
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
    size = len(palette.colors)
    all_of_it, most, first = _find_heaviest(labels, weights, size)
    is_kept = torch.arange(size, device=colors.device) < kept
    is_solid = (ENOUGH * most >= all_of_it) & (all_of_it > 0) & ~is_kept
    fixed = palette.keep(is_kept).joined(Palette.from_colors(colors[first[is_solid]]))
    return fixed.joined(palette.keep(~is_solid & ~is_kept)), len(fixed.colors)


def _find_heaviest(labels: Tensor, weights: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return of each entry its colours' weight, that of the heaviest, and which is the first such.

    The last is their number, where an entry has no colour.
    """
    if labels.device.type == "cpu":
        from gpu_kmeans.backends.area_kernels import find_heaviest

        found = find_heaviest(labels.numpy(), weights.numpy(), size)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1]), torch.from_numpy(found[2])
    whole, rows = weights.long(), torch.arange(len(labels), device=labels.device)
    all_of_it = whole.new_zeros(size).index_add_(0, labels, whole)
    most = whole.new_zeros(size).scatter_reduce_(0, labels, whole, "amax")
    heaviest = torch.where(whole == most[labels], rows, len(labels))
    first = rows.new_full((size,), len(labels)).scatter_reduce_(0, labels, heaviest, "amin")
    return all_of_it, most, first
