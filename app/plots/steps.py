"""Lloyd's iteration on points in the plane, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.plots.drawing import ACCENT, CLUSTERS, INK, MOST_POINTS, plain_axes, sample_rows
from gpu_kmeans import ShapeError, kmeans
from gpu_kmeans.distances import distances
from gpu_kmeans.progress import Progress, part_of

_PANEL = 2.9  # inches
_COLUMNS = 4
_MOST_PANELS = 8
_AT_ONCE = 1024  # points whose distances are in memory: to 256 centroids 2 MB, and as much to work


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where an iteration stands.

    Attributes:
        n_iter: Iterations done.
        centroids: Where they are then.
        labels: Each point's nearest of them.
        wcss: The objective of both.
    """

    n_iter: int
    centroids: Float[np.ndarray, "k 2"]
    labels: Int[np.ndarray, " n"]
    wcss: float


def take_steps(
    points: Float[np.ndarray, "n 2"],
    first: Float[np.ndarray, "k 2"],
    *,
    weights: Num[np.ndarray, " n"] | None = None,
    metric: str = "euclidean",
    p: float = 2.0,
    max_iter: int = 100,
    on_progress: Progress | None = None,
) -> list[Step]:
    """Run Lloyd's iteration from given centroids, and keep what it does.

    Args:
        points: In the plane.
        first: Where the centroids start.
        weights: How much each point counts.
        metric: As in `gpu_kmeans.kmeans`.
        p: Likewise.
        max_iter: The most iterations.
        on_progress: Told the share of the work done, if it takes all iterations; what it raises
            ends the work.

    Returns:
        Every step, from the first centroids to where nothing moves any more.

    Raises:
        InputError: See `gpu_kmeans.kmeans`.
    """
    steps: list[Step] = []
    centroids = first
    for n_iter in range(1, max_iter + 1):
        report = None if on_progress is None else part_of(on_progress, n_iter - 1, max_iter)
        result = kmeans(
            points,
            len(centroids),
            weights=weights,
            init=centroids,
            metric=metric,
            p=p,
            max_iter=1,
            tol=0.0,
            on_progress=report,
        )
        if not steps:
            labels = _nearest(points, first, metric, p)
            start = Step(n_iter=0, centroids=first, labels=labels, wcss=result.wcss_history[0])
            steps.append(start)
        centroids = np.asarray(result.centroids)
        labels = np.asarray(result.labels).astype(np.min_scalar_type(len(centroids) - 1))
        steps.append(Step(n_iter=n_iter, centroids=centroids, labels=labels, wcss=result.wcss))
        if result.converged:
            break
    return steps


def _nearest(
    points: Float[np.ndarray, "n 2"], centroids: Float[np.ndarray, "k 2"], metric: str, p: float
) -> Int[np.ndarray, " n"]:
    """Give each point its nearest centroid, some points at a time."""
    where = torch.from_numpy(centroids)
    labels = np.empty(len(points), np.min_scalar_type(len(centroids) - 1))
    for i in range(0, len(points), _AT_ONCE):
        some = torch.from_numpy(points[i : i + _AT_ONCE])
        labels[i : i + _AT_ONCE] = distances(some, where, metric, p).argmin(dim=1).numpy()
    return labels


def steps_figure(
    points: Float[np.ndarray, "n 2"], steps: Sequence[Step], names: Sequence[str] = ("x", "y")
) -> Figure:
    """Draw steps side by side, with the way each centroid has come.

    Args:
        points: In the plane; of more than 4,000 a sample is drawn.
        steps: As `take_steps` gives them; of more than eight, the first ones and the last.
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
    rows = sample_rows(len(points), MOST_POINTS)
    x, y = points[rows].T
    colors = np.array(CLUSTERS)[labels[rows] % len(CLUSTERS)]
    axes.scatter(x, y, c=colors, s=9, alpha=0.7, linewidths=0)
    x, y = centroids[sample_rows(len(centroids), MOST_POINTS)].T
    axes.scatter(x, y, c=ACCENT, marker="X", s=70, edgecolors="white", zorder=4)


def check_plane(points: np.ndarray) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ShapeError: The points are not in the plane.
    """
    if points.ndim != 2 or points.shape[1] != 2:  # noqa: PLR2004
        raise ShapeError(f"only points in the plane can be drawn: (n, 2), got {points.shape}")
