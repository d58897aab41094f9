"""The distances, each with its objective and the centre that lowers it.

K-means assigns every point to the nearest centre and moves every centre to where its points cost
least. Both steps must lower one and the same objective, or it may rise and the iteration circle: a
mean under city-block distances does that. So each distance has a centre step of its own.

| metric | objective: sum of weight x | centre step |
| --- | --- | --- |
| euclidean | squared distance (WCSS) | the mean, exactly |
| cityblock | sum of absolute differences | the median of each coordinate, exactly |
| chebyshev | largest absolute difference | d <= 2: turned medians, exactly; else subgradients |
| minkowski | sum of p-th powers of differences | its minimum in each coordinate, by Newton |
| cosine | 1 - cosine of the angle | the mean direction, exactly |

Minkowski's objective is of p-th powers, since that is what separates into one convex problem per
coordinate, and what is WCSS at p = 2 and the city-block sum at p = 1; the nearest centre is the
same with or without the power. Where a step is not exact it is taken only if the objective falls.
With Chebyshev distances the sum is lowered, not the largest of them: that would be the k-centre
problem, which one far point decides alone. Cosine distances are half the squared Euclidean ones of
points scaled to length 1, so that everything Euclidean serves; a zero vector has no direction and
is refused. Distances are direct differences in float64, except where a backend of squared ones
does the work.

References:
    Bradley, Mangasarian, Street, "Clustering via concave minimization", NIPS 1996 (k-medians).
    Dhillon, Modha, "Concept decompositions for large sparse text data using clustering", Machine
        Learning 42, 2001 (spherical k-means).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from gpu_kmeans.backends import Accumulated, Backend, Problems
from gpu_kmeans.centers import Clusters, chebyshev_centers, power_centers, weighted_medians
from gpu_kmeans.checks import check_number
from gpu_kmeans.color import GRID
from gpu_kmeans.errors import InputError, OptionError

__all__ = [
    "EUCLIDEAN",
    "METRICS",
    "OVER_RELAXED",
    "MeanMetric",
    "Metric",
    "OtherMetric",
    "cluster_means",
    "directions",
    "distances",
    "metric_for",
    "place_beyond",
    "place_means",
    "place_on_sphere",
]

METRICS = ("euclidean", "cityblock", "chebyshev", "minkowski", "cosine")
_FALLS = 1 - 1e-12  # by less than this share nothing has fallen but rounding
_SAME = 1 + 1e-14  # up to rounding
_CANCELLED = 1e-12  # a mean of unit vectors this short is rounding: they cancel out
_SMALLEST, _LARGEST = -250, 250  # decimal exponents of p-th powers, with room for sums of them


def cluster_means(centroids: Float[Tensor, "k d"], found: Accumulated) -> Float[Tensor, "k d"]:
    """Return the mean of what each centroid got, float64; one that got nothing stays.

    Args:
        centroids: Where they are.
        found: What a pass over the points added up for these centroids.

    Returns:
        The means, which no other points beat in WCSS with these labels. Never raises.
    """
    masses = found.masses[:, None]
    return torch.where(masses > 0, found.sums / masses, centroids.double())


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


def place_beyond(
    problem: Problems, centroids: Float[Tensor, "k d"], found: Accumulated
) -> Float[Tensor, "k d"]:
    """Return centroids moved to their means and three quarters as far again: over-relaxation.

    Lloyd's steps towards an optimum are too short, each a little shorter than the one before. What
    lies on the other side of the mean, and no farther from it, costs no more: WCSS never rises.
    Over-relaxed, Lloyd needs a quarter fewer iterations (docs/decisions/0008-speed-on-the-cpu.md).

    Args:
        problem: Whose points were added up.
        centroids: Where the centroids are.
        found: What they got.

    Returns:
        Centroids in the type of the points. Never raises.
    """
    means, old = cluster_means(centroids, found), centroids.double()
    step = means - old
    beyond = place(problem, means + (step - step * 0.25))
    if not problem.is_integral:
        return beyond
    # Rounding may have led too far; and off the grid of colours distances may not be exact.
    is_too_far = (beyond.double() - means).abs() > step.abs()
    is_too_far |= (beyond < 0) | (beyond > GRID)
    return torch.where(is_too_far, place(problem, means), beyond)


@runtime_checkable
class Metric(Protocol):
    """A distance: a `MeanMetric` or an `OtherMetric`, which say what the members are."""

    def check(
        self, points: Num[Tensor, "n d"], start: object = None, exists: Tensor | None = None
    ) -> None:
        """Refuse points that exist, or first centroids, that this distance cannot tell apart."""
        ...

    @property
    def name(self) -> str:
        """As in `METRICS`."""
        ...

    @property
    def power(self) -> float:
        """To which power the objective adds up distances."""
        ...

    @property
    def scale(self) -> float:
        """What the sums of the passes are to be multiplied by for the objective."""
        ...

    def prepare(self, points: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return points as the passes want them."""
        ...

    def on(self, engine: Backend) -> Backend:
        """Return who runs the passes over the points."""
        ...

    def between(
        self, points: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"]
    ) -> Float[Tensor, "n k"]:
        """Return the distances of every pair of prepared points."""
        ...


@dataclass(frozen=True, slots=True)
class MeanMetric:
    """A distance whose square is Euclidean in prepared points, so that a mean lowers it.

    Attributes:
        name: As in `METRICS`.
        place: The centre step: from what a pass added up to centroids.
        convert: Puts points where their distances are Euclidean.
        scale: What the sum of squared distances there is to be multiplied by.
        power: The objective adds up distances to this power.
    """

    name: str
    place: Callable[[Problems, Tensor, Accumulated], Tensor] = place_means
    convert: Callable[[Tensor], Tensor] = lambda points: points
    scale: float = 1.0
    power: float = 2.0

    def check(
        self, points: Num[Tensor, "n d"], start: object = None, exists: Tensor | None = None
    ) -> None:
        """Refuse rows of zeros where only directions count.

        Args:
            points: The table.
            start: First centroids, where those are given.
            exists: (n,) which rows of the table do; None for all.

        Raises:
            InputError: There is one, among the points or the first centroids.
        """
        if self.name != "cosine":
            return
        for name, rows, there in (("points", points, exists), ("init", start, None)):
            if not isinstance(rows, Tensor):
                continue
            is_zero = ~rows.any(dim=1) if there is None else ~rows.any(dim=1) & there
            if bool(is_zero.any()):
                row = int(is_zero.nonzero()[0])
                raise InputError(f"{name}: row {row} is all zeros, which has no direction")

    def prepare(self, points: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Put points where their distances are Euclidean. Never raises."""
        return self.convert(points)

    def on(self, engine: Backend) -> Backend:
        """Return who runs the passes over the points: whoever runs those of squared distances."""
        return engine

    def between(
        self, points: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"]
    ) -> Float[Tensor, "n k"]:
        """Return the distances of every pair of prepared points. Never raises."""
        from gpu_kmeans.backends.reference import sq_distances

        squared = sq_distances(points, centroids)
        return squared * self.scale if self.name == "cosine" else squared.sqrt_()


@dataclass(frozen=True, slots=True)
class OtherMetric:
    """A distance with a centre step of its own, which needs every point's label.

    Runs as plain PyTorch on any device, whatever the backend is for squared distances.

    Attributes:
        name: As in `METRICS`.
        measure: The distance, from the sizes of the differences: `size(j)` of coordinate j < d.
        step: The centre step: better centres of clusters than the given ones.
        power: The objective adds up distances to this power.
        falls: A step is taken where its cost is at most this times the old one; for one that is
            exact that may be equal, so that of equals the usual one is given.
        norm: The order of the norm, where PyTorch's own pairs of distances can be used.
    """

    name: str
    measure: "Measure"
    step: Callable[[Clusters, Tensor], Tensor]
    power: float = 1.0
    falls: float = _FALLS
    norm: float | None = None
    scale: ClassVar[float] = 1.0

    def check(
        self, points: Num[Tensor, "n d"], start: object = None, exists: Tensor | None = None
    ) -> None:
        """Refuse points whose distances to that power no float holds.

        Args:
            points: The table.
            start: First centroids, where those are given.
            exists: (n,) which rows of the table do; None for all.

        Raises:
            OptionError: They are too far apart, or too near, for p.
        """
        points = points if exists is None else points[exists]
        rows = torch.cat([points, start]) if isinstance(start, Tensor) else points
        spread = float((rows.amax(dim=0).double() - rows.amin(dim=0).double()).max())
        if spread and not _SMALLEST < self.power * math.log10(spread) < _LARGEST:
            allowed = f"smaller for points {spread:g} apart, whose p-th powers no float holds"
            raise OptionError("p", self.power, allowed, "scale them, or use metric='chebyshev'")

    def prepare(self, points: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the points as they are. Never raises."""
        return points

    def on(self, engine: Backend) -> Backend:  # noqa: ARG002 - the same question to both metrics
        """Return who runs the passes over the points: the reference, with this distance."""
        from gpu_kmeans.backends.reference import ReferenceBackend

        return ReferenceBackend(self.between, self.power)

    def between(
        self, points: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"]
    ) -> Float[Tensor, "n k"]:
        """Return the distances of every pair, float64. Never raises."""
        a, b = points.double(), centroids.double()
        if self.norm is not None:
            return torch.cdist(a, b, p=self.norm)  # direct differences too, but for p = 2
        return self.measure(lambda j: (a[:, j, None] - b[None, :, j]).abs_(), a.shape[1])

    def move(
        self,
        points: Float[Tensor, "n d"],
        weights: Float[Tensor, " n"],
        centroids: Float[Tensor, "k d"],
        labels: Int[Tensor, " n"],
    ) -> Float[Tensor, "k d"]:
        """Take the centre step of every cluster where it lowers its share of the objective.

        A cluster without points takes the one farthest from every centroid, if any is away.

        Args:
            points: All of one problem.
            weights: Theirs.
            centroids: Where the centroids are.
            labels: The nearest of them for each point.

        Returns:
            Centroids that cost no more with these labels. Never raises.
        """
        start, labels = self._fill_empty_clusters(points, weights, centroids, labels.long())
        clusters = Clusters.sort(points, weights, labels, len(start))
        candidates = self.step(clusters, start.double()).to(start.dtype)
        is_lower = self._costs(clusters, candidates) < self._costs(clusters, start) * self.falls
        return torch.where(is_lower[:, None], candidates, start)

    def _costs(self, clusters: Clusters, centroids: Tensor) -> Tensor:
        away = self._each(clusters.points, centroids[clusters.labels])
        return clusters.sums(clusters.weights * away**self.power)

    def _each(self, points: Tensor, centroids: Tensor) -> Tensor:
        """Return the distance of each point to the centroid in the same row."""
        sizes = (points.double() - centroids.double()).abs()
        return self.measure(lambda j: sizes[:, j], sizes.shape[1])

    def _fill_empty_clusters(
        self, points: Tensor, weights: Tensor, centroids: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        masses = torch.bincount(labels, weights, minlength=len(centroids))
        if bool(masses.all()):
            return centroids, labels
        centroids, labels = centroids.clone(), labels.clone()
        away = self._each(points, centroids[labels])
        for c in (masses == 0).nonzero()[:, 0].tolist():
            away[weights >= masses[labels]] = 0  # it would leave a cluster empty in turn
            far = int(away.argmax())
            if not away[far] > 0:
                break
            masses[labels[far]] -= weights[far]
            masses[c] = weights[far]
            centroids[c], labels[far] = points[far], c
            away = torch.minimum(away, self._each(points, points[far].expand_as(points)))
        return centroids, labels


Measure = Callable[[Callable[[int], Tensor], int], Tensor]


def metric_for(name: str, p: float = 2.0) -> Metric:
    """Find a distance by its name.

    Args:
        name: One of `METRICS`.
        p: The exponent of "minkowski", 1 <= p; of nothing else.

    Returns:
        The distance with its centre step. Minkowski's at p = 1 and p = 2 are the city-block and the
        Euclidean one.

    Raises:
        OptionError: There is none of that name, p is below 1 or infinite, or p is given for another
            distance, where it would change nothing.

    Example:
        >>> metric_for("minkowski", 1).name
        'cityblock'
    """
    if str(name) not in METRICS:  # an array answers "in" with an array
        raise OptionError("metric", name, f"one of {', '.join(METRICS)}")
    if str(p) == "inf":  # an array is equal to an array
        raise OptionError("p", p, "a finite number from 1 up", "metric='chebyshev' is its limit")
    exponent = check_number("p", p, low=1)
    if name != "minkowski" and exponent != 2:  # noqa: PLR2004
        raise OptionError("p", p, "2, its default, unless metric='minkowski'")
    if name in _NAMED:
        return _NAMED[name]
    if exponent in _NAMED_POWERS:
        return _NAMED[_NAMED_POWERS[exponent]]
    return OtherMetric(
        "minkowski",
        partial(_minkowski, p=exponent),
        partial(power_centers, p=exponent),
        power=exponent,
    )


def distances(
    points: Float[Tensor, "n d"],
    centroids: Float[Tensor, "k d"],
    metric: str = "euclidean",
    p: float = 2.0,
) -> Float[Tensor, "n k"]:
    """Return the distance of every point to every centroid; the caller sees that n x k is small.

    Args:
        points: Any unit u.
        centroids: The same.
        metric: One of `METRICS`.
        p: See `metric_for`.

    Returns:
        In u; for "cosine" in [0, 2].

    Raises:
        OptionError: See `metric_for`.

    Example:
        >>> distances(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), "cityblock")
        tensor([[7.]], dtype=torch.float64)
    """
    chosen = metric_for(metric, p)
    return chosen.between(chosen.prepare(points), chosen.prepare(centroids))


def directions(points: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scale every row to length 1; zeros stay zeros.

    Rows are first divided by their largest coordinate, so that rows of one direction give the same
    bits and no square overflows. Never raises.

    Example:
        >>> directions(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6, 0.8], [0.0, 0.0]])
    """
    largest = points.double().abs().amax(dim=1, keepdim=True)
    scaled = points.double() / torch.where(largest > 0, largest, 1)
    lengths = scaled.norm(dim=1, keepdim=True)
    return (scaled / torch.where(lengths > 0, lengths, 1)).to(points.dtype)


def place_on_sphere(
    problem: Problems, centroids: Float[Tensor, "k d"], found: Accumulated
) -> Float[Tensor, "k d"]:
    """Return the means scaled to length 1; where a mean is 0 no direction is better: it stays.

    Args:
        problem: Points of length 1.
        centroids: Where the centroids are.
        found: What they got.

    Returns:
        Centroids in the type of the points. Never raises.
    """
    means = cluster_means(centroids, found)
    lengths = means.norm(dim=1, keepdim=True)
    has_direction = lengths > _CANCELLED
    placed = torch.where(has_direction, means / torch.where(has_direction, lengths, 1), centroids)
    return placed.to(problem.points.dtype)


def _cityblock(size: Callable[[int], Tensor], d: int) -> Tensor:
    return reduce(torch.add, (size(j) for j in range(d)))


def _chebyshev(size: Callable[[int], Tensor], d: int) -> Tensor:
    return reduce(torch.maximum, (size(j) for j in range(d)))


def _minkowski(size: Callable[[int], Tensor], d: int, p: float) -> Tensor:
    """Divide by the largest difference first, so that no p under- or overflows."""
    largest = _chebyshev(size, d)
    unit = torch.where(largest > 0, largest, 1)
    powers = reduce(torch.add, ((size(j) / unit) ** p for j in range(d)))
    return largest * powers ** (1 / p)


EUCLIDEAN = MeanMetric("euclidean")
OVER_RELAXED = MeanMetric("euclidean", place_beyond)
_NAMED: dict[str, Metric] = {
    "euclidean": EUCLIDEAN,
    "cityblock": OtherMetric("cityblock", _cityblock, weighted_medians, falls=_SAME, norm=1.0),
    "chebyshev": OtherMetric("chebyshev", _chebyshev, chebyshev_centers, norm=math.inf),
    "cosine": MeanMetric("cosine", place_on_sphere, directions, scale=0.5, power=1.0),
}
_NAMED_POWERS = {1.0: "cityblock", 2.0: "euclidean"}
