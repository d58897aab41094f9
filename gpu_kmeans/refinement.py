"""Leaving a local optimum after Lloyd.

Breathing k-means: split the clusters that would gain most, let everything settle, remove as many
centroids as were added, those that are missed least, settle again, and keep what is better. The
number split shrinks from 40 % of k to one. Chance has a say in which clusters are split, since the
greedy choice runs into the same wall each time: mean WCSS 0.997 of the best known with it, 0.999
without, at k = 64 and the same time (docs/performance.md).

References:
    Fritzke, "The breathing k-means algorithm", 2020. arXiv:2006.15666
        Differs: weighted; split along the widest coordinate of a cluster rather than at random
        near it; which clusters are split is drawn with probability that grows with their gain.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gpu_kmeans.backends import Accumulated, Backend, Problems
from gpu_kmeans.backends.reference import sq_distances
from gpu_kmeans.distances import cluster_means, place, place_means

__all__ = ["REFINE_LEVELS", "refine_centroids"]

REFINE_LEVELS = {0: 0, 1: 30, 2: 200}  # level -> breaths
WIDEST_BREATH = 0.4  # share of the clusters split in the first breath
STEPS_IN, STEPS_OUT = 4, 6  # Lloyd iterations after splitting, and after removing
STILL = 1e-4  # settling ends when the WCSS falls by less than this share
REACH = 0.8  # standard deviations between a cluster's mean and either half: E|x| of a normal


def refine_centroids(
    engine: Backend,
    problem: Problems,
    centroids: Float[Tensor, "k d"],
    *,
    breaths: int,
    rng: np.random.Generator,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Float[Tensor, "k d"]:
    """Search for centroids of lower WCSS, starting from given ones.

    Args:
        engine: Who computes.
        problem: A single problem.
        centroids: Where to start from; of an integral problem, whole numbers.
        breaths: How many tries; 0 returns the centroids as they are.
        rng: Which clusters are split.
        on_progress: Called before each breath with the share done; what it raises ends the search.

    Returns:
        Centroids of at most the same WCSS, as many as were given. Never raises by itself.
    """
    k = len(centroids)
    if k == 1 or not breaths:
        return centroids
    best, lowest = _settle(engine, problem, centroids, 2 * STEPS_OUT)
    for i, share in enumerate(np.geomspace(WIDEST_BREATH, 1 / k, breaths)):
        on_progress(i / breaths)
        extra = max(1, int(share * k))
        wider = _breathe_in(engine, problem, best, extra, rng)
        narrower = _breathe_out(engine, problem, wider, extra)
        candidate, wcss = _settle(engine, problem, narrower, STEPS_OUT)
        if wcss < lowest:
            best, lowest = candidate, wcss
    return best


def split_widest(
    problem: Problems,
    centroids: Float[Tensor, "k d"],
    found: Accumulated,
    extra: int,
    luck: Float[Tensor, " k"] | None = None,
) -> Float[Tensor, "m d"]:
    """Split the clusters that gain most into two halves along their widest coordinate.

    Args:
        problem: A single problem.
        centroids: Its centroids.
        found: What a pass with detail found about them.
        extra: How many to split.
        luck: What to divide the gains by; None for none.

    Returns:
        The centroids, the split ones moved to one half, followed by the other halves. Never raises.
    """
    means = cluster_means(centroids, found)
    masses = found.masses.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    variances = (found.squares / masses - means**2).clamp(min=0)
    widest, coordinate = variances.max(dim=1)
    gains = found.masses * widest
    order = (gains if luck is None else gains / luck).argsort(descending=True, stable=True)
    split = order[:extra]
    half = torch.zeros_like(means[split])
    half.scatter_(1, coordinate[split, None], REACH * widest[split, None].sqrt())
    both = torch.cat([means.index_add(0, split, half), means[split] - half])
    return place(problem, both)


def _breathe_in(
    engine: Backend, problem: Problems, centroids: Tensor, extra: int, rng: np.random.Generator
) -> Tensor:
    """Add centroids where clusters are wide, and let them settle a little."""
    found = engine.assign_accumulate(problem, centroids, (0, len(centroids)), detail=True)
    luck = torch.from_numpy(rng.standard_exponential(len(centroids))).to(found.masses)
    wider = split_widest(problem, centroids, found, extra, luck)
    for _ in range(STEPS_IN):
        found = engine.assign_accumulate(problem, wider, (0, len(wider)))
        wider = place_means(problem, wider, found)
    return wider


def _breathe_out(engine: Backend, problem: Problems, centroids: Tensor, extra: int) -> Tensor:
    """Remove centroids that are missed least, but not one beside another that has just gone."""
    found = engine.assign_accumulate(problem, centroids, (0, len(centroids)), detail=True)
    neighbor = sq_distances(centroids, centroids).fill_diagonal_(torch.inf).argmin(dim=1).tolist()
    order = found.utilities.argsort(stable=True).tolist()
    gone: dict[int, None] = {}
    needed: set[int] = set()
    for c in order:
        if len(gone) < extra and c not in needed:
            gone[c] = None
            needed.add(neighbor[c])
    for c in order:  # where neighbours need each other all around, usefulness alone decides
        if len(gone) < extra:
            gone[c] = None
    kept = [c for c in range(len(centroids)) if c not in gone]
    return place_means(problem, centroids, found)[kept]


def _settle(
    engine: Backend, problem: Problems, centroids: Tensor, steps: int
) -> tuple[Tensor, float]:
    """Run a few Lloyd iterations; return the last centroids whose WCSS is known, and it."""
    previous = float("inf")
    for _ in range(steps):
        found = engine.assign_accumulate(problem, centroids, (0, len(centroids)))
        wcss = float(found.wcss[0])
        if previous - wcss <= STILL * wcss:
            return centroids, wcss
        previous, last = wcss, centroids
        centroids = place_means(problem, centroids, found)
    return last, previous
