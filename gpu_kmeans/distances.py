"""The squared Euclidean distance and the centre that lowers it: the mean."""

import torch
from jaxtyping import Float
from torch import Tensor

from gpu_kmeans.backends import Accumulated, Problems

__all__ = ["cluster_means", "place_means"]


def cluster_means(centroids: Float[Tensor, "k d"], found: Accumulated) -> Float[Tensor, "k d"]:
    """Return the mean of what each centroid got, float64; one that got nothing stays.

    Args:
        centroids: Where they are.
        found: What a pass over the points added up for these centroids.

    Returns:
        The means, which no other points beat in WCSS with these labels. Never raises.
    """
    masses = found.masses[:, None]
    means = found.sums / torch.where(masses > 0, masses, 1)
    return torch.where(masses > 0, means, centroids.double())


def place_means(
    problem: Problems, centroids: Float[Tensor, "k d"], found: Accumulated
) -> Float[Tensor, "k d"]:
    """Return the best centroids that a problem admits for what they got.

    On an integral problem that is the grid point nearest to the mean: the WCSS of a cluster grows
    with the squared distance from its mean, coordinate by coordinate.

    Args:
        problem: Whose points were added up.
        centroids: Where the centroids are.
        found: What they got.

    Returns:
        Centroids in the type of the points. Never raises.
    """
    return place(problem, cluster_means(centroids, found))


def place(problem: Problems, values: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Round to the grid where the problem lives on one, and take the type of its points.

    Never raises.
    """
    placed = (values + 0.5).floor() if problem.is_integral else values
    return placed.to(problem.points.dtype)
