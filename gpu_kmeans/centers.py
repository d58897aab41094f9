"""The centre steps of the distances that have no mean: where a cluster costs less.

Each function takes clusters and where their centres are, and returns better centres: the optimum
where it can be had, else a number of steps towards it. Whether they are taken is decided by
`gpu_kmeans.distances`, which keeps the old centre unless the objective falls.

Everything is float64 on the device of the points, and nothing is larger than the points.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Clusters", "chebyshev_centers", "power_centers", "weighted_medians"]

NEWTON_STEPS = 100  # bisection alone needs 60; p = 3 takes about 6
SLOPE_IS_ZERO = 1e-9  # against the sum of its parts: the cost is then within 1e-18 of its least
SUBGRADIENT_STEPS = 16
LONGER, SHORTER = 1.5, 0.5  # the step after one that lowered the cost, and after one that did not
_TINY = torch.finfo(torch.float64).tiny
_ULP = torch.finfo(torch.float64).eps


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Points sorted by cluster, so that each cluster is one segment and sums have a fixed order.

    Attributes:
        points: (n, d) float64.
        weights: (n,) float64, positive.
        labels: (n,) int64, rising.
        sizes: (k,) int64, points of each cluster; 0 where it has none.
    """

    points: Tensor
    weights: Tensor
    labels: Tensor
    sizes: Tensor

    @classmethod
    def sort(
        cls,
        points: Float[Tensor, "n d"],
        weights: Float[Tensor, " n"],
        labels: Int[Tensor, " n"],
        k: int,
    ) -> "Clusters":
        """Sort points by their labels in [0, k). Never raises.

        Example:
            >>> points, ones = torch.tensor([[7.0], [8.0], [9.0]]), torch.ones(3)
            >>> Clusters.sort(points, ones, torch.tensor([1, 0, 1]), 3).sizes
            tensor([1, 2, 0])
        """
        labels, order = labels.long().sort(stable=True)
        return cls(
            points=points[order].double(),
            weights=weights[order].double(),
            labels=labels,
            sizes=torch.bincount(labels, minlength=k),
        )

    def sums(self, values: Float[Tensor, "n *d"]) -> Float[Tensor, "k *d"]:
        """Add up rows by cluster; 0 for an empty one. Never raises."""
        return torch.segment_reduce(values, "sum", lengths=self.sizes, axis=0)

    def largest(self, values: Float[Tensor, "n *d"]) -> Float[Tensor, "k *d"]:
        """Find the largest by cluster; minus infinity for an empty one. Never raises."""
        return torch.segment_reduce(values, "max", lengths=self.sizes, axis=0)


def weighted_medians(clusters: Clusters, centers: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Return the coordinate-wise weighted medians, which minimise the sum of city-block distances.

    That sum is one problem per coordinate, of which every point with at most half the weight on
    either side is a minimiser: the middle of them is taken, as usual for an even number of points.

    Args:
        clusters: The points.
        centers: Where the centres are: those of empty clusters stay.

    Returns:
        The medians, exactly. Never raises.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [9.0], [9.5]])
        >>> one = Clusters.sort(points, torch.ones(4), torch.zeros(4, dtype=torch.int64), 1)
        >>> weighted_medians(one, torch.zeros(1, 1).double())
        tensor([[5.]], dtype=torch.float64)
    """
    occupied = clusters.sizes > 0
    ends = clusters.sizes.cumsum(0)[occupied]
    first, last = ends - clusters.sizes[occupied], ends - 1
    medians = centers.clone()
    for j in range(centers.shape[1]):
        order = clusters.points[:, j].sort(stable=True).indices
        order = order[clusters.labels[order].sort(stable=True).indices]
        values = clusters.points[order, j]
        running = clusters.weights[order].cumsum(0)
        before = running[first] - clusters.weights[order][first]
        half = (before + running[last]) / 2
        lower = torch.searchsorted(running, half).clamp(first, last)
        upper = torch.searchsorted(running, half, right=True).clamp(first, last)
        medians[occupied, j] = values[lower] / 2 + values[upper] / 2
    return medians


def power_centers(
    clusters: Clusters, centers: Float[Tensor, "k d"], p: float
) -> Float[Tensor, "k d"]:
    """Return the minimisers of the sums of p-th powers of coordinate differences, p > 1.

    That sum is one strictly convex problem per coordinate. Newton's method finds where its slope is
    0, inside a bracket; where its steps do not halve each time, the bracket is halved instead,
    since for p near 1 the curvature has poles at the points, and for large p Newton crawls.

    Args:
        clusters: The points.
        centers: Where to start; those of empty clusters stay.
        p: The exponent, > 1.

    Returns:
        Centres, the cost of each coordinate within rounding of its least. Never raises.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [8.0]])
        >>> one = Clusters.sort(points, torch.ones(3), torch.zeros(3, dtype=torch.int64), 1)
        >>> power_centers(one, torch.zeros(1, 1).double(), 2.0)
        tensor([[3.]], dtype=torch.float64)
    """
    occupied = (clusters.sizes > 0)[:, None]
    high = torch.where(occupied, clusters.largest(clusters.points), centers)
    low = torch.where(occupied, -clusters.largest(-clusters.points), centers)
    found = centers.clamp(low, high)
    stride = high - low
    for _ in range(NEWTON_STEPS):
        slope, size, curvature = _slopes(clusters, found, p)
        high = torch.where(slope >= 0, found, high)
        low = torch.where(slope <= 0, found, low)
        is_narrow = high - low <= 2 * _ULP * torch.maximum(low.abs(), high.abs())
        is_found = (slope.abs() <= SLOPE_IS_ZERO * size) | is_narrow
        if bool(is_found.all()):
            break
        newton = found - slope / curvature
        is_good = (newton > low) & (newton < high) & ((newton - found).abs() <= stride / 2)
        target = torch.where(is_good, newton, low / 2 + high / 2)
        stride = (target - found).abs()
        found = torch.where(is_found, found, target)
    return found


def _slopes(clusters: Clusters, centers: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the slope of the cost by coordinate, the sum of its absolute parts, its curvature.

    All three are divided by the largest part, so that no p overflows.
    """
    away = centers[clusters.labels] - clusters.points
    reach = clusters.largest(away.abs()).clamp(min=_TINY)
    share = away.abs() / reach[clusters.labels]
    parts = clusters.weights[:, None] * share ** (p - 1)
    curvature = (p - 1) * clusters.sums(clusters.weights[:, None] * share ** (p - 2)) / reach
    return clusters.sums(parts * away.sign()), clusters.sums(parts), curvature


def chebyshev_centers(clusters: Clusters, centers: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Return centres of a lower sum of Chebyshev distances.

    In one dimension the medians are best, in two the medians of x + y and x - y, since turned by 45
    degrees the Chebyshev distance is the city-block one. From three on there is no closed form:
    subgradient steps, each kept only where it lowers the cost, from the best of the present centre,
    the medians and the means. Coordinates within a step of the largest share a point's subgradient,
    so that the steps do not stop at the first kink.

    Args:
        clusters: The points.
        centers: Where the centres are; those of empty clusters stay.

    Returns:
        The optimum up to two dimensions; beyond, no worse than `centers`. Never raises.

    Example:
        >>> points = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.0]])
        >>> one = Clusters.sort(points, torch.ones(3), torch.zeros(3, dtype=torch.int64), 1)
        >>> chebyshev_centers(one, torch.zeros(1, 2).double())
        tensor([[2., 2.]], dtype=torch.float64)
    """
    d = centers.shape[1]
    if d == 1:
        return weighted_medians(clusters, centers)
    if d == 2:  # noqa: PLR2004
        turn = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).to(centers)
        turned = replace(clusters, points=clusters.points @ turn)
        return weighted_medians(turned, centers @ turn) @ turn / 2
    return _follow_subgradients(clusters, centers)


def _follow_subgradients(clusters: Clusters, centers: Tensor) -> Tensor:
    masses = clusters.sums(clusters.weights)[:, None].clamp(min=_TINY)
    means = clusters.sums(clusters.points * clusters.weights[:, None]) / masses
    means = torch.where((clusters.sizes > 0)[:, None], means, centers)
    best, cost = centers, _chebyshev_costs(clusters, centers)
    for candidate in (weighted_medians(clusters, centers), means):
        best, cost, _ = _better(clusters, best, cost, candidate)
    step = cost[:, None] / masses / 2
    for _ in range(SUBGRADIENT_STEPS):
        direction = _subgradients(clusters, best, step) / masses
        direction /= direction.abs().amax(dim=1, keepdim=True).clamp(min=_TINY)
        best, cost, is_lower = _better(clusters, best, cost, best - step * direction)
        step = torch.where(is_lower[:, None], step * LONGER, step * SHORTER)
    return best


def _better(
    clusters: Clusters, best: Tensor, cost: Tensor, candidate: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the candidates that cost less; return all, their costs, and which were taken."""
    costs = _chebyshev_costs(clusters, candidate)
    is_lower = costs < cost
    best = torch.where(is_lower[:, None], candidate, best)
    return best, torch.where(is_lower, costs, cost), is_lower


def _chebyshev_costs(clusters: Clusters, centers: Tensor) -> Tensor:
    away = (clusters.points - centers[clusters.labels]).abs().amax(dim=1)
    return clusters.sums(clusters.weights * away)


def _subgradients(clusters: Clusters, centers: Tensor, slack: Tensor) -> Tensor:
    """Add up the points' subgradients, shared among the coordinates within slack of the largest."""
    away = centers[clusters.labels] - clusters.points
    is_far = away.abs() >= away.abs().amax(dim=1, keepdim=True) - slack[clusters.labels]
    share = is_far / is_far.sum(dim=1, keepdim=True)
    return clusters.sums(clusters.weights[:, None] * share * away.sign())
