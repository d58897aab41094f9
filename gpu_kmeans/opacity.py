"""What is opaque stays opaque: the entries of a palette that serve opaque colours.

The mean of opaque colours and of some that are not quite is not quite opaque itself, and opaque
colours may go to opaque entries only. So entries are made opaque, as many as it takes for none of
these colours to end far away.
"""

import torch
from jaxtyping import Bool, Float, Int
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
        The palette; where the picture has opaque colours, the computed entries are sorted. Never
        raises.
    """
    is_opaque = opaque_colors(histogram.colors)
    computed = torch.arange(len(palette.colors), device=is_opaque.device) >= kept
    if not bool(is_opaque.any()) or not bool(computed.any()):
        return palette
    features = histogram.features(space)
    labels = nearest_rows(engine, features, palette.to_features(space))
    counts, size = histogram.counts.double(), len(palette.colors)
    masses = torch.bincount(labels, counts, size)
    solid = torch.bincount(labels, counts * is_opaque, size) * computed
    becomes = (solid > 0) & (2 * solid >= masses)
    if not bool((becomes | palette.is_opaque).any()):
        most = solid + computed  # of nothing but reserved ones, the first computed one
        becomes[(most == most.max()).nonzero()[0]] = True
    mixed = (solid > 0) & ~becomes
    if bool(mixed.any()):
        served = mixed[labels]
        becomes |= mixed & _is_cheaper_opaque(
            engine, features[served], labels[served], counts[served],
            is_opaque=is_opaque[served], palette=palette, becomes=becomes, space=space,
        )  # fmt: skip
    changed = _made_opaque(palette, becomes)
    return changed.keep(~computed).joined(changed.keep(computed).sorted())


def _is_cheaper_opaque(
    engine: Backend,
    features: Float[Tensor, "n 4"],
    labels: Int[Tensor, " n"],
    counts: Float[Tensor, " n"],
    *,
    is_opaque: Bool[Tensor, " n"],
    palette: Palette,
    becomes: Bool[Tensor, " k"],
    space: str,
) -> Bool[Tensor, " k"]:
    """Compare what colours lose if their entry is made opaque, and if only the opaque ones leave.

    `becomes` says which entries are made opaque besides those that are: to these they may go.
    """
    entries, everywhere = palette.to_features(space), torch.ones_like(becomes)
    made = _made_opaque(palette, everywhere).to_features(space)
    targets = made[becomes | palette.is_opaque]
    now = _sq_distances(features, entries[labels])
    made_opaque = counts * (_sq_distances(features, made[labels]) - now)
    leaving, now = features[is_opaque], now[is_opaque]
    away = _sq_distances(leaving, targets[nearest_rows(engine, leaving, targets)])
    left = counts[is_opaque] * (away - now)
    size = len(becomes)
    return torch.bincount(labels[is_opaque], left, size) > torch.bincount(labels, made_opaque, size)


def _made_opaque(palette: Palette, rows: Tensor) -> Palette:
    colors, centroids = palette.colors.clone(), palette.centroids.clone()
    colors[rows, 3], centroids[rows, 3] = 255, 255.0
    return Palette(colors=colors, centroids=centroids)


def _sq_distances(
    features: Float[Tensor, "n d"], entries: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    return (features.double() - entries.double()).square().sum(dim=1)
