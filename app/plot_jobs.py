"""What the engine computes for a plot: Lloyd's steps, and where many starts end.

On the CPU whatever the device: a plot has few points.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int, Num

from app.errors import BadParameter
from app.jobs import OnProgress
from app.options import StepsOptions, TrapOptions
from app.sketches import Starts, Step, check_plane
from gpu_kmeans import kmeans
from gpu_kmeans.distances import distances
from gpu_kmeans.progress import Progress, part_of

_AT_ONCE = 1024  # points whose distances are in memory: to 256 centroids 2 MB, and as much to work


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsJob:
    """Points in the plane, whose way to their clusters is wanted.

    Attributes:
        points: (n, 2) numbers.
        weights: How much each counts; None where all count the same.
        options: What is asked.
        on_progress: Told the share of the work done, from the engine's thread.
    """

    points: Float[np.ndarray, "n d"]
    weights: Float[np.ndarray, " n"] | None
    options: StepsOptions
    on_progress: OnProgress | None = None

    def run(self, _device: torch.device, _backend: str) -> list[Step]:
        """Walk from random ones of the points until nothing moves."""
        check_plane(self.points)
        return take_steps(
            self.points,
            self._first(),
            weights=self.weights,
            metric=self.options.metric,
            p=self.options.p,
            on_progress=self.on_progress,
        )

    def _first(self) -> np.ndarray:
        """Choose k distinct points that count for something."""
        weights = np.ones(len(self.points)) if self.weights is None else self.weights
        counting = np.flatnonzero(weights)
        rows = counting[_distinct_rows(self.points[counting])]
        k = self.options.k
        if k > len(rows):
            raise BadParameter.of("k", k, f"1 to the number of distinct points, {len(rows)}")
        rng = np.random.default_rng(self.options.seed)
        return np.asarray(self.points[rng.choice(rows, k, replace=False)])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapJob:
    """Points to fit from many starts.

    Attributes:
        points: (n, d) numbers.
        weights: How much each counts; None where all count the same.
        options: What is asked.
        on_progress: Told the share of the work done, from the engine's thread.
    """

    points: Float[np.ndarray, "n d"]
    weights: Float[np.ndarray, " n"] | None
    options: TrapOptions
    on_progress: OnProgress | None = None

    def run(self, _device: torch.device, _backend: str) -> Starts:
        """Fit from as many starts of either kind as are asked for."""
        return try_starts(
            self.points,
            self.options.k,
            starts=self.options.starts,
            weights=self.weights,
            on_progress=self.on_progress,
        )


def _distinct_rows(points: Float[np.ndarray, "n d"]) -> Int[np.ndarray, " m"]:
    """Give the first row of each distinct point, in order.

    `np.unique` would do, but holds the interpreter for as long: a quarter of a second and more.
    """
    order = np.lexsort(points.T)  # stable: of equal points the first one comes first
    is_new = np.ones(len(order), bool)
    is_new[1:] = (points[order[1:]] != points[order[:-1]]).any(axis=1)
    return np.sort(order[is_new])


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


def try_starts(
    points: Num[np.ndarray, "n d"],
    k: int,
    *,
    starts: int = 100,
    weights: Num[np.ndarray, " n"] | None = None,
    on_progress: Progress | None = None,
) -> Starts:
    """Fit from many starts of either kind, with the seeds 0, 1, 2, ...

    Args:
        points: Any.
        k: Clusters.
        starts: How many of either kind.
        weights: How much each point counts.
        on_progress: Told the share of the work done; what it raises ends the work.

    Returns:
        The final WCSS of each.

    Raises:
        InputError: See `gpu_kmeans.kmeans`.
    """
    found: dict[str, list[float]] = {"random": [], "k-means++": []}
    for i, (seed, init) in enumerate(product(range(starts), found)):
        report = None if on_progress is None else part_of(on_progress, i, 2 * starts)
        fit = kmeans(points, k, weights=weights, init=init, seed=seed, on_progress=report)
        found[init].append(fit.wcss)
    random, plus = map(np.array, found.values())
    return Starts(k=k, random=random, plus=plus)
