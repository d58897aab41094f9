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
from torch import Tensor

from gpu_kmeans.backends import Backend
from gpu_kmeans.color import srgb8_to_features
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.metrics import premultiplied
from gpu_kmeans.palette import Palette

__all__ = ["Mapping", "map_pixels"]

_CHUNK_PIXELS = 1 << 20


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
    engine: Backend, histogram: Histogram, palette: Palette, space: str, dither: float
) -> Mapping:
    """Give every pixel its palette entry.

    Args:
        engine: Who computes.
        histogram: The picture; with alpha wherever the palette has it.
        palette: Of as many channels as the histogram's colours.
        space: Where colours are compared.
        dither: Strength of the error diffusion, in [0, 1].

    Returns:
        The mapping. Never raises.
    """
    h, w, _ = histogram.shape
    features = srgb8_to_features(histogram.colors, space)
    entries = palette.to_features(space)
    problem = engine.pack([features], [histogram.counts.double()], is_integral=True)
    found = engine.assign_accumulate(problem, entries, (0, len(entries)), labels=True)
    labels = found.labels.long()
    nearest = labels.to(torch.uint8).index_select(0, histogram.inverse).reshape(h, w)
    if not dither:
        counts = torch.bincount(labels, histogram.counts.double(), len(entries)).long()
        wcss = _weighted_wcss(histogram.colors, palette.colors[labels], histogram.counts)
        return Mapping(indices=nearest, counts=counts, wcss=wcss)
    inverse = histogram.inverse.reshape(h, w)
    indices = engine.diffuse(features, inverse, entries, dither)
    if histogram.has_transparent:  # what is invisible takes no part
        indices = torch.where(inverse == 0, nearest, indices)
    counts = torch.bincount(indices.reshape(-1), minlength=len(entries))
    pairs = zip(
        histogram.inverse.split(_CHUNK_PIXELS),
        indices.reshape(-1).split(_CHUNK_PIXELS),
        strict=True,
    )
    total = sum(
        _weighted_wcss(histogram.colors[a.long()], palette.colors[b.long()], None) for a, b in pairs
    )
    return Mapping(indices=indices, counts=counts, wcss=total)


def _weighted_wcss(before: Tensor, after: Tensor, counts: Tensor | None) -> float:
    """Add up squared differences in whole numbers: exact, whatever the order."""
    squares = ((premultiplied(before) - premultiplied(after)) ** 2).sum(dim=1)
    total = int((squares if counts is None else squares * counts).sum())
    return total / (1 if before.shape[1] == 3 else 255**2)  # noqa: PLR2004
