"""Dithering without neighbours: every colour is a mixture of entries, laid out by a mask of noise.

A colour takes eight entries one after the other, each the nearest to the colour plus a share of
what those before it missed. They are put in order of lightness, and which of them a pixel gets is
said by the mask at its place. So where the same colour is at the same place in two pictures, or in
two frames of an animation with one palette, there is the same entry: nothing crawls. And a pixel
waits for no other, which suits a GPU.

Mixtures are found once for each distinct colour, by the backend's search for the nearest entry, and
all numbers are whole: the same bits everywhere.

References:
    Knoll, "Pattern dithering", US patent 6606166, 1999 (expired); there with a Bayer matrix.
        Differs: blue noise instead of the matrix, eight entries, a share of the error.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gpu_kmeans.backends import SHARE_BITS, Backend, fixed_point
from gpu_kmeans.blue_noise import SIDE, thresholds
from gpu_kmeans.color import GRID
from gpu_kmeans.nearest import nearest_rows

__all__ = ["PARTS", "lay_out", "mix"]

PARTS = 8  # of a mixture: what 4, 6 and 16 look like is in docs/decisions/0004-dithering.md


def mix(
    engine: Backend,
    colors: Float[Tensor, "n d"],
    entries: Float[Tensor, "k d"],
    order: Int[Tensor, " k"],
    *,
    strength: float,
    own: Int[Tensor, " n"],
) -> UInt8[Tensor, "n parts"]:
    """Find the entries of which each colour is a mixture.

    Args:
        engine: Who computes.
        colors: Distinct ones, on the grid of a space.
        entries: Likewise.
        order: The entries from dark to light.
        strength: The share of what is missed that the next entry makes good, in [0, 1]; at 1 the
            mean of the mixture is the colour, as far as the entries enclose it.
        own: Of each colour the entry that is just it, of which alone it is mixed then, or -1.

    Returns:
        PARTS entries for each colour, from dark to light. Never raises.
    """
    whole, offered = colors.int(), entries.int()
    share, half = fixed_point(strength), 1 << SHARE_BITS - 1
    places = order.argsort().to(torch.uint8)
    missed, parts = torch.zeros_like(whole), []
    for _ in range(PARTS):
        target = whole + ((missed * share + half) >> SHARE_BITS)  # the product is below 2^31
        # To the grid, not to this picture's colours: others beside them must not matter.
        target = target.clamp(0, GRID)
        part = torch.where(own >= 0, own, nearest_rows(engine, target.float(), entries))
        parts.append(places.index_select(0, part))
        missed += whole - offered.index_select(0, part)
    rows = torch.stack(parts, dim=1).sort(dim=1).values
    return order.to(torch.uint8).index_select(0, rows.reshape(-1).int()).view(-1, PARTS)


def lay_out(
    mixtures: UInt8[Tensor, "n parts"], inverse: Int[Tensor, "h w"]
) -> UInt8[Tensor, "h w"]:
    """Give each pixel that part of its colour's mixture which the mask says.

    Args:
        mixtures: As `mix` returns them.
        inverse: Each pixel's colour.

    Returns:
        Entries of the pixels. Never raises.

    Example:
        >>> black_and_white = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]], dtype=torch.uint8)
        >>> lay_out(black_and_white, torch.zeros(64, 64, dtype=torch.int32)).sum().item()
        2048
    """
    rows, columns = (torch.arange(side, device=inverse.device) % SIDE for side in inverse.shape)
    parts = torch.from_numpy(thresholds() * PARTS // SIDE**2).to(inverse.device)
    return mixtures.reshape(-1)[inverse.long() * PARTS + parts[rows[:, None], columns]]
