"""The pixels of a picture in the RGB cube, with their centroids."""

import numpy as np
from jaxtyping import Float, Num, UInt8
from matplotlib.figure import Figure

from app.plots.drawing import INK
from app.sketches import sample_colors

_RGB = 3  # channels before alpha
_SIZES = (30.0, 400.0)  # of a centroid, in square points: from one pixel to all of them


def cube_figure(
    pixels: UInt8[np.ndarray, "h w c"],
    centroids: Float[np.ndarray, "k c"],
    counts: Num[np.ndarray, " k"],
    *,
    seed: int = 0,
) -> Figure:
    """Draw colours where they are in the RGB cube, each in its own colour.

    Args:
        pixels: sRGB, perhaps with alpha; of more than 4,000 a sample is drawn, and nothing of what
            is fully transparent.
        centroids: sRGB 0..255, with alpha where the pixels have it.
        counts: Pixels of each, which set the size it is drawn in.
        seed: Of the sample.

    Returns:
        A figure of 6.5 x 6 inches. Never raises.
    """
    colors, shown = sample_colors(pixels, seed)[0, :, :_RGB], np.ones(len(centroids), bool)
    if pixels.shape[2] > _RGB:
        shown = centroids[:, _RGB] > 0
    middle = np.clip(centroids[shown, :_RGB], 0, 255)
    figure = Figure(figsize=(6.5, 6), layout="constrained")
    axes = figure.add_subplot(projection="3d", computed_zorder=False)
    axes.scatter(*colors.T, c=colors / 255, s=6, alpha=0.6, linewidths=0)
    small, large = _SIZES
    sizes = small + (large - small) * np.sqrt(counts[shown] / counts.sum())
    axes.scatter(
        *middle.T, c=middle / 255, s=sizes, edgecolors=INK, linewidths=1.2, depthshade=False
    )
    for name, set_label, set_limit in (
        ("red", axes.set_xlabel, axes.set_xlim),
        ("green", axes.set_ylabel, axes.set_ylim),
        ("blue", axes.set_zlabel, axes.set_zlim),
    ):
        set_label(name)
        set_limit(0, 255)
    axes.set_title(f"Colours of the picture, and their {len(middle)} centroids", color=INK)
    return figure
