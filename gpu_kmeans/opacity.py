"""What is opaque stays opaque: the entries of a palette that serve opaque colours.

The mean of opaque colours and of some that are not quite is not quite opaque itself, and opaque
colours may go to opaque entries only. So entries are made opaque, as many as it takes for none of
these colours to end far away.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gpu_kmeans.backends import Backend
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.nearest import nearest_rows
from gpu_kmeans.palette import Palette, opaque_colors

__all__ = ["settle_opaque"]


def settle_opaque(
    engine: Backend, histogram: Histogram, palette: Palette, space: str, *, kept: int
) -> Palette:
    """Make opaque what serves opaque colours, where that costs less than sending them elsewhere.

    An entry that serves opaque colours for the most part is made opaque in any case, and one is
    where there are opaque colours at all; then those that cost less opaque than the way from their
    opaque colours to the nearest opaque entry, in squared distances.

    Args:
        engine: Who computes.
        histogram: The picture, with alpha.
        palette: With alpha.
        space: Where colours are compared.
        kept: How many entries, the first ones, must stay as they are.

    Returns:
        The palette, the computed entries sorted where any has changed. Never raises.
    """
    is_opaque = opaque_colors(histogram.colors)
    computed = torch.arange(len(palette.colors), device=is_opaque.device) >= kept
    if not bool(is_opaque.any()) or not bool(computed.any()):
        return palette
    features, entries = histogram.features(space), palette.to_features(space)
    labels = nearest_rows(engine, features, entries)
    counts, size = histogram.counts.double(), len(entries)
    masses = torch.bincount(labels, counts, size)
    solid = torch.bincount(labels, counts * is_opaque, size) * computed
    becomes = (solid > 0) & (2 * solid >= masses)
    if not bool((becomes | palette.is_opaque).any()):
        solid = solid + computed  # of nothing but reserved ones, the first computed one
        becomes[(solid == solid.max()).nonzero()[0]] = True

    made = _made_opaque(palette, computed).to_features(space)
    settled = (becomes | palette.is_opaque).nonzero()[:, 0]
    targets = torch.where(becomes[:, None], made, entries)[settled]
    own, weights = labels[is_opaque], counts[is_opaque]
    elsewhere = targets[nearest_rows(engine, features[is_opaque], targets)]
    stays = counts * _sq_distances(features, entries[labels])
    changes = torch.bincount(labels, counts * _sq_distances(features, made[labels]) - stays, size)
    leaves = weights * _sq_distances(features[is_opaque], elsewhere) - stays[is_opaque]
    becomes |= (torch.bincount(own, leaves, size) > changes) & computed
    changed = _made_opaque(palette, becomes)
    return changed.keep(~computed).joined(changed.keep(computed).sorted())


def _made_opaque(palette: Palette, rows: Tensor) -> Palette:
    colors, centroids = palette.colors.clone(), palette.centroids.clone()
    colors[rows, 3], centroids[rows, 3] = 255, 255.0
    return Palette(colors=colors, centroids=centroids)


def _sq_distances(
    features: Float[Tensor, "n d"], entries: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    return (features.double() - entries.double()).square().sum(dim=1)
