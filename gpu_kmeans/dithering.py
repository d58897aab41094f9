"""Giving each pixel its palette entry, with or without dithering.

Without, an entry is found once for each distinct colour and looked up for the pixels. With it, the
error of each pixel is passed on to its neighbours (Floyd and Steinberg), scaled by a strength: at 1
it runs away where the palette does not enclose the colours, so targets are clamped to the range of
the picture.

References:
    Floyd, Steinberg, "An adaptive algorithm for spatial greyscale", Proc. SID 17(2), 1976.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from gpu_kmeans.backends import Backend
from gpu_kmeans.color import srgb8_to_features
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.metrics import premultiplied
from gpu_kmeans.palette import Palette

__all__ = ["Mapping", "map_pixels"]

_CHUNK_PIXELS = 1 << 18  # so that the arrays on the way stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Pixels expressed in a palette.

    Attributes:
        indices: (h, w) uint8.
        counts: (m,) int64, pixels of each entry.
        wcss: Of the mapped picture against the original, in RGB units.
    """

    indices: Tensor
    counts: Tensor
    wcss: float


def map_pixels(
    engine: Backend,
    histogram: Histogram,
    palette: Palette,
    labels: Int[Tensor, " n"],
    *,
    space: str,
    dither: float,
) -> Mapping:
    """Give every pixel its palette entry.

    Args:
        engine: Who computes.
        histogram: The picture; with alpha wherever the palette has it.
        palette: Of as many channels as the histogram's colours.
        labels: The entry nearest to each colour of the histogram.
        space: Where colours are compared.
        dither: Strength of the error diffusion, in [0, 1].

    Returns:
        The mapping. Never raises.
    """
    h, w, _ = histogram.shape
    nearest = labels.to(torch.uint8).index_select(0, histogram.inverse).reshape(h, w)
    if not dither:
        counts = torch.bincount(labels, histogram.counts.double(), len(palette.colors)).long()
        wcss = _weighted_wcss(histogram.colors, palette.colors, labels, histogram.counts)
        return Mapping(indices=nearest, counts=counts, wcss=wcss)
    features, entries = srgb8_to_features(histogram.colors, space), palette.to_features(space)
    inverse = histogram.inverse.reshape(h, w)
    indices = engine.diffuse(features, inverse, entries, dither)
    if histogram.has_transparent:  # what is invisible takes no part
        indices = torch.where(inverse == 0, nearest, indices)
    flat = indices.reshape(-1)
    counts = torch.bincount(flat, minlength=len(entries))
    wcss = sum(
        _weighted_wcss(histogram.colors[of], palette.colors, entry.long(), torch.ones_like(of))
        for of, entry in zip(
            histogram.inverse.split(_CHUNK_PIXELS), flat.split(_CHUNK_PIXELS), strict=True
        )
    )
    return Mapping(indices=indices, counts=counts, wcss=wcss)


def _weighted_wcss(colors: Tensor, entries: Tensor, labels: Tensor, counts: Tensor) -> float:
    """Add up squared differences in whole numbers: exact, whatever the order."""
    total = 0
    for before, after in zip(premultiplied(colors).T, premultiplied(entries).T, strict=True):
        difference = (before - after[labels]).long()
        total += int((difference * difference * counts).sum())
    return total / (1 if colors.shape[1] == 3 else 255**2)  # noqa: PLR2004
