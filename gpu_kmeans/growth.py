"""Clusters for 1, 2, 3, ... under any distance, each k grown from the one before.

The point added is the one that lowers the objective most, of a few spread over where the objective
is: deterministic greedy k-means++. Adding a centroid cannot raise the objective and Lloyd's
iteration does not either, so the curve falls.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gpu_kmeans.backends import Backend, Problems
from gpu_kmeans.descent import descend
from gpu_kmeans.distances import Metric

__all__ = ["grow"]

STEPS_AT_ONE = 100  # most centre steps of the single cluster
STEPS_PER_K = 10  # most Lloyd iterations of every other k
CANDIDATES = 16  # points tried, spread evenly over the objective
CHUNK_PAIRS = 1 << 21


def grow(
    engine: Backend, problem: Problems, metric: Metric, last: int
) -> Iterator[Float[Tensor, "k d"]]:
    """Yield centroids for 1, 2, ... `last` clusters.

    Args:
        engine: Who computes.
        problem: A single problem, prepared for the metric.
        metric: Whose objective to lower.
        last: The most clusters, at most the number of distinct points.

    Yields:
        Settled centroids. Never raises.
    """
    centroids, steps = problem.points[:1], STEPS_AT_ONE
    for k in range(1, last + 1):
        settled = descend(engine, problem, [centroids], max_iter=steps, tol=1e-4, metric=metric)[0]
        yield settled.centroids
        if k < last:
            centroids = torch.cat(
                [settled.centroids, _best_addition(problem, metric, settled.centroids)]
            )
        steps = STEPS_PER_K


def _best_addition(problem: Problems, metric: Metric, centroids: Tensor) -> Tensor:
    """Return the point, of a few, whose becoming a centroid lowers the objective most."""
    points, weights = problem.points, problem.weights
    step = max(1, CHUNK_PAIRS // max(CANDIDATES, len(centroids)))
    chunks = points.split(step)
    nearest = torch.cat([metric.between(chunk, centroids).amin(dim=1) for chunk in chunks]).double()
    running = (weights * nearest**metric.power).cumsum(0)
    wanted = running[-1] * (torch.arange(CANDIDATES).to(running) + 0.5) / CANDIDATES
    rows = torch.searchsorted(running, wanted, right=True).clamp(max=len(points) - 1)
    left = torch.zeros_like(wanted)
    for chunk, so_far, mass in zip(chunks, nearest.split(step), weights.split(step), strict=True):
        distances = torch.minimum(metric.between(chunk, points[rows]).double(), so_far[:, None])
        left += (mass[:, None] * distances**metric.power).sum(dim=0)
    return points[rows[left.argmin()]][None]
