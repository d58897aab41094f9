"""The pixels of a picture in the RGB cube, with their centroids."""

import numpy as np
from jaxtyping import Float, Num, UInt8
from matplotlib.figure import Figure

from app.plots.drawing import INK

_MOST_POINTS = 4000  # more hide one another, and make an SVG of megabytes
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
        pixels: sRGB; of more than 4,000 a sample is drawn.
        centroids: sRGB 0..255.
        counts: Pixels of each, which set the size it is drawn in.
        seed: Of the sample.

    Returns:
        A figure of 6.5 x 6 inches. Never raises.
    """
    colors = pixels.reshape(-1, pixels.shape[2])[:, :3]
    if len(colors) > _MOST_POINTS:
        rows = np.random.default_rng(seed).choice(len(colors), _MOST_POINTS, replace=False)
        colors = colors[rows]
    figure = Figure(figsize=(6.5, 6), layout="constrained")
    axes = figure.add_subplot(projection="3d", computed_zorder=False)
    axes.scatter(*colors.T, c=colors / 255, s=6, alpha=0.6, linewidths=0)
    small, large = _SIZES
    sizes = small + (large - small) * np.sqrt(counts / counts.sum())
    middle = np.clip(centroids[:, :3], 0, 255)
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
    axes.set_title(f"Colours of the picture, and their {len(centroids)} centroids", color=INK)
    return figure
