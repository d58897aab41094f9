"""Choosing the first centroids.

Greedy k-means++: each seed is the best of 2 + ln k draws with probability proportional to weight x
squared distance. One stream of random numbers decides, drawn before the work, so that every backend
makes the same choices.

References:
    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gpu_kmeans.backends import Backend, Problems

__all__ = ["greedy_seeds", "random_seeds"]


def greedy_seeds(
    backend: Backend, problems: Problems, k: int, rng: np.random.Generator
) -> Float[Tensor, "m d"]:
    """Choose up to k points of one problem by greedy k-means++.

    Args:
        backend: Who computes.
        problems: A single problem.
        k: How many.
        rng: Where the draws come from; `k * (2 + ln k)` numbers are taken.

    Returns:
        The chosen points; fewer than k where there are fewer distinct ones. Never raises.
    """
    return problems.points[backend.seed(problems, [k], [seeding_draws(k, rng)])[0]]


def seeding_draws(k: int, rng: np.random.Generator) -> Float[Tensor, "k trials"]:
    """Draw what `greedy_seeds` decides by, before the work. Never raises."""
    return torch.from_numpy(rng.random((k, 2 + int(math.log(k)))))


def random_seeds(problems: Problems, k: int, rng: np.random.Generator) -> Float[Tensor, "k d"]:
    """Choose k different rows of one problem with probability proportional to weight.

    Two rows may hold the same point; Lloyd's iteration then moves the centroid that gets nothing.

    Args:
        problems: A single problem of at least k rows.
        k: How many.
        rng: Where the draws come from.

    Returns:
        The chosen points. Never raises.
    """
    weights = problems.weights.cpu().numpy().copy()
    rows = np.zeros(0, np.int64)
    while len(rows) < k:  # beside much heavier rows the probability of others may round to 0
        shares = weights / weights.sum()
        size = min(k - len(rows), int(np.count_nonzero(shares)))
        rows = np.append(rows, rng.choice(len(weights), size=size, replace=False, p=shares))
        weights[rows] = 0
    return problems.points[torch.from_numpy(rows).to(problems.points.device)]


def distinct_rows(points: Float[Tensor, "n d"], limit: int) -> Int[Tensor, " m"] | None:
    """Find one row of each distinct point, where there are at most `limit` of them.

    Args:
        points: Any.
        limit: How many are few.

    Returns:
        The first row of each, in order; None where there are more than `limit`. Never raises.

    Example:
        >>> distinct_rows(torch.tensor([[1.0], [0.0], [1.0]]), 2)
        tensor([0, 1])
    """
    head = points[: 4 * (limit + 1)]  # most tables show in a few rows that they are not degenerate
    if len(torch.unique(head, dim=0)) > limit:
        return None
    distinct, inverse = torch.unique(points, dim=0, return_inverse=True)
    if len(distinct) > limit:
        return None
    rows = torch.full((len(distinct),), len(points), device=points.device)
    rows.scatter_reduce_(0, inverse, torch.arange(len(points), device=points.device), "amin")
    return rows.sort().values
