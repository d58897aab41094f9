"""Computed colours around reserved ones.

Reserved colours are centroids that do not move. The others are searched for among the colours that
no reserved one hits exactly, then moved by Lloyd's iteration with all of them in the field, so that
what a reserved colour serves well enough takes no further entry.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gpu_kmeans.backends import Backend
from gpu_kmeans.color import srgb8_to_features
from gpu_kmeans.descent import mean_variances
from gpu_kmeans.distances import place_means
from gpu_kmeans.histogram import coarse_points, coarsen_together
from gpu_kmeans.lloyd import Fit
from gpu_kmeans.palette import Palette, sort_key

__all__ = ["fit_around"]

STILL = 1e-4  # share of the WCSS below which a step gains nothing, after a search


def fit_around(
    engine: Backend,
    reserved: Palette,
    colors: UInt8[Tensor, "n c"],
    weights: Float[Tensor, " n"],
    *,
    fit: Fit,
    init: str,
    space: str,
    on_progress: Callable[[float], None],
) -> tuple[Palette, int, bool]:
    """Complete reserved colours to a palette.

    Args:
        engine: Who computes.
        reserved: What is in the palette whatever the picture, first and in this order.
        colors: The picture's, distinct and in Morton order, of as many channels.
        weights: How much each counts.
        fit: How the others are fitted; its k is how many there may be. Where it is not to refine,
            they start among all colours.
        init: Likewise, how they start.
        space: Where colours are compared.
        on_progress: Called with the share done; what it raises ends the fit.

    Returns:
        palette: The reserved colours, then up to k others, all different.
        n_iter: Iterations over all colours.
        converged: They stopped by themselves. Never raises by itself.
    """
    is_free = ~torch.isin(sort_key(colors), sort_key(reserved.colors))
    if not fit.k or not bool(is_free.any()):
        return reserved, 0, True
    fixed = reserved.to_features(space)
    free, masses = colors[is_free], weights[is_free]
    points, still = srgb8_to_features(free, space), 0.0
    if fit.refine:
        few = coarse_points(fit.k)
        points, masses = coarsen_together(engine, [free], [points], [masses], few)[0]
        still = STILL
    merged = engine.pack([points], [masses], is_integral=True)
    moving = fit.search(engine, merged, init, on_progress)
    problem = engine.pack([srgb8_to_features(colors, space)], [weights], is_integral=True)
    limit = fit.tol * mean_variances(engine, problem)[0]
    lowest, n_iter, converged = float("inf"), 0, False
    while not converged and n_iter < fit.max_iter:
        on_progress(1.0)
        entries = torch.cat([fixed, moving])
        found = engine.assign_accumulate(problem, entries, (0, len(entries)))
        moved = place_means(problem, entries, found)[len(fixed) :]
        wcss, shift = float(found.wcss[0]), float(((moved - moving) ** 2).sum())
        converged = lowest - wcss < still * wcss or shift <= limit
        lowest, moving, n_iter = wcss, moved, n_iter + 1
    return reserved.joined(Palette.from_features(moving, space)), n_iter, converged
