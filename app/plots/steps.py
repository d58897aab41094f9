"""Lloyd's iteration on points in the plane, step by step."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.plots.drawing import ACCENT, CLUSTERS, INK, plain_axes
from app.sketches import Step, check_plane, sample_rows

_PANEL = 2.9  # inches
_COLUMNS = 4
_MOST_PANELS = 8


def steps_figure(
    points: Float[np.ndarray, "n 2"], steps: Sequence[Step], names: Sequence[str] = ("x", "y")
) -> Figure:
    """Draw steps side by side, with the way each centroid has come.

    Args:
        points: In the plane; of more than 4,000 a sample is drawn.
        steps: As `app.plot_jobs.take_steps` gives them; of more than eight, the first ones and the
            last.
        names: Of the two coordinates.

    Returns:
        A figure up to four panels wide.

    Raises:
        ShapeError: The points are not in the plane.
    """
    check_plane(points)
    shown = list(steps) if len(steps) <= _MOST_PANELS else [*steps[: _MOST_PANELS - 1], steps[-1]]
    columns = min(len(shown), _COLUMNS)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(_PANEL * columns, _PANEL * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, step in zip(panels, shown, strict=False):
        _draw_clusters(axes, points, step.labels, step.centroids)
        ways = np.stack([each.centroids for each in steps if each.n_iter <= step.n_iter])
        axes.plot(ways[..., 0], ways[..., 1], color=INK, linewidth=0.9, zorder=3)
        said = "start" if step.n_iter == 0 else f"iteration {step.n_iter}"
        axes.set_title(f"{said}: {step.wcss:.4g}", color=INK, fontsize=10)
    for axes in panels[len(shown) :]:
        axes.axis("off")
    for axes in panels.reshape(rows, columns)[-1]:
        axes.set_xlabel(names[0])
    for axes in panels.reshape(rows, columns)[:, 0]:
        axes.set_ylabel(names[1])
    return figure


def clusters_figure(
    points: Float[np.ndarray, "n 2"],
    labels: Int[np.ndarray, " n"],
    centroids: Float[np.ndarray, "k 2"],
    title: str,
) -> Figure:
    """Draw points in the plane by cluster, and the centroids.

    Args:
        points: In the plane; of more than 4,000 a sample is drawn.
        labels: The cluster of each.
        centroids: Of the clusters; likewise.
        title: What to say above.

    Returns:
        A figure of 5 x 4.5 inches.

    Raises:
        ShapeError: The points are not in the plane.
    """
    check_plane(points)
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    _draw_clusters(axes, points, labels, centroids)
    axes.set_title(title, color=INK)
    return figure


def _draw_clusters(
    axes: Axes, points: np.ndarray, labels: np.ndarray, centroids: np.ndarray
) -> None:
    plain_axes(axes)
    rows = sample_rows(len(points))
    x, y = points[rows].T
    colors = np.array(CLUSTERS)[labels[rows] % len(CLUSTERS)]
    axes.scatter(x, y, c=colors, s=9, alpha=0.7, linewidths=0)
    x, y = centroids[sample_rows(len(centroids))].T
    axes.scatter(x, y, c=ACCENT, marker="X", s=70, edgecolors="white", zorder=4)
