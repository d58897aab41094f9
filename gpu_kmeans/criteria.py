"""How many clusters? Four answers from one curve, each with its meaning in words.

The knee is what the textbook reads off the curve, but there is no theory behind it: it moves with
the range of k, and finds itself in uniform noise. The others say what they measure. Where they
disagree there is no natural k, and photographs often have none: then a target error is the
question that has an answer.

References:
    Schubert, "Stop using the elbow criterion for k-means and how to choose the number of clusters
        instead", SIGKDD Explorations 25(1), 2023. arXiv:2212.12189
    Calinski and Harabasz, "A dendrite method for cluster analysis", Comm. in Statistics 3(1), 1974.
    Vendramin, Campello, Hruschka, "Relative clustering validity criteria", Statistical Analysis and
        Data Mining 3(4), 2010 (the simplified silhouette).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gpu_kmeans.distances import Metric

__all__ = [
    "Criterion",
    "calinski_harabasz",
    "judge",
    "silhouette",
    "simplified_silhouette",
    "simplified_silhouettes",
    "smallest_within",
]

TOGETHER = 1 << 24  # distances kept at a time
SILHOUETTE_POINTS = 8192  # evenly spaced rows are taken of more
LEFT_OVER = 0.1  # share of the error at k = 1 that may be left where no target is given
_ROUNDING = 1e-12  # of the spread: a point nearer than that to its centroid is the centroid


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """What one rule says about the number of clusters.

    Attributes:
        k: The k it picks, None where it cannot.
        values: Its value at each k of the curve, None where it has none; empty if it has no values.
        meaning: What it measures and how it picks, in words.
    """

    k: int | None
    values: tuple[float | None, ...] = ()
    meaning: str


def judge(
    ks: Sequence[int],
    wcss: Sequence[float],
    silhouettes: Sequence[float | None],
    *,
    knee: int | None,
    total: float,
    target: float | None,
    power: float,
) -> dict[str, Criterion]:
    """Ask every criterion about one curve.

    Args:
        ks: Rising.
        wcss: The objective at each k.
        silhouettes: The simplified silhouette at each k.
        knee: As `gpu_kmeans.elbow` found it.
        total: Weight of all points.
        target: See `smallest_within`.
        power: See `smallest_within`.

    Returns:
        "knee", "calinski_harabasz", "silhouette" and "target_error". Never raises.
    """
    kneedle = "where the curve, drawn in a square, is farthest below its chord (Kneedle); it "
    caution = "moves with the range of k and has no theory behind it"
    return {
        "knee": Criterion(k=knee, meaning=kneedle + caution),
        "calinski_harabasz": calinski_harabasz(ks, wcss, total),
        "silhouette": silhouette(ks, silhouettes),
        "target_error": smallest_within(ks, wcss, total, target, power),
    }


def calinski_harabasz(ks: Sequence[int], wcss: Sequence[float], total: float) -> Criterion:
    """Compare what lies between the clusters with what lies within, for each k.

    Args:
        ks: Rising.
        wcss: The curve; its first value is at k = 1, or there is no answer.
        total: Weight of all points.

    Returns:
        ((WCSS(1) - WCSS(k)) / (k - 1)) / (WCSS(k) / (total - k)), and the k where it is largest.
        Never raises.

    Example:
        >>> calinski_harabasz([1, 2, 3], [101.0, 1.0, 0.5], 4).values
        (None, 200.0, 100.5)
    """
    values = [
        (wcss[0] - value) / (k - 1) / (value / (total - k))
        if ks[0] == 1 and k > 1 and value > 0 and total > k
        else None
        for k, value in zip(ks, wcss, strict=True)
    ]
    return Criterion(
        k=_largest(ks, values),
        values=tuple(values),
        meaning="variance between the clusters over variance within, each for "
        "its degrees of freedom; the k where it is largest",
    )


def silhouette(ks: Sequence[int], values: Sequence[float | None]) -> Criterion:
    """Pick the k of the largest simplified silhouette.

    Args:
        ks: Rising.
        values: As `simplified_silhouette` gives them; None for k = 1, which has none.

    Returns:
        The criterion. Never raises.

    Example:
        >>> silhouette([1, 2, 3], [None, 0.5, 0.4]).k
        2
    """
    return Criterion(
        k=_largest(ks, values),
        values=tuple(values),
        meaning="(b - a) / max(a, b), with a and b the distances of a point "
        "to its own and to the second nearest centroid, on average: near 1 apart, near 0 in "
        "between; a cluster of equal points counts 0; the k where it is largest",
    )


def simplified_silhouette(
    metric: Metric,
    points: Float[Tensor, "n d"],
    weights: Float[Tensor, " n"],
    centroids: Float[Tensor, "k d"],
) -> float | None:
    """Average the simplified silhouettes of points, or of evenly spaced rows of very many.

    Args:
        metric: Which distance.
        points: Prepared for it.
        weights: How much each counts.
        centroids: Of the clusters.

    Returns:
        In [0, 1]; None for a single centroid. Never raises.

    Example:
        >>> from gpu_kmeans.distances import EUCLIDEAN
        >>> points, centroids = torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([[1.0], [9.0]])
        >>> round(simplified_silhouette(EUCLIDEAN, points, torch.ones(3), centroids), 3)
        0.582
    """
    if len(centroids) == 1:
        return None
    rows, masses = _some(points, weights)
    away = metric.between(rows, centroids.double())
    return float((_scores(away[:, None])[:, 0] * masses).sum() / masses.sum())


def simplified_silhouettes(
    metric: Metric,
    points: Float[Tensor, "n d"],
    weights: Float[Tensor, " n"],
    sets: Sequence[Float[Tensor, "_k d"]],
) -> list[float | None]:
    """Do as `simplified_silhouette` for several sets of centroids, in few operations.

    Args:
        metric: See there.
        points: See there.
        weights: See there.
        sets: The centroids of each.

    Returns:
        One value for each set. Never raises.
    """
    rows, masses = _some(points, weights)
    found: list[float | None] = []
    most, start = max(map(len, sets)), 0
    step = max(1, TOGETHER // (len(rows) * most))
    places = torch.arange(most, device=rows.device)
    while start < len(sets):
        some = sets[start : start + step]
        sizes = torch.tensor([len(own) for own in some])
        firsts = (sizes.cumsum(0) - sizes).to(rows.device)[:, None]
        exists = places < sizes.to(rows.device)[:, None]
        away = metric.between(rows, torch.cat(list(some)).double())
        away = away[:, torch.where(exists, firsts + places, 0)].masked_fill(~exists, torch.inf)
        scores = (_scores(away) * masses[:, None]).sum(dim=0) / masses.sum()
        found += [
            None if len(own) == 1 else score
            for own, score in zip(some, scores.tolist(), strict=True)
        ]
        start += step
    return found


def _some(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    step = -(-len(points) // SILHOUETTE_POINTS)
    return points[::step].double(), weights[::step].double()


def _scores(away: Float[Tensor, "n m k"]) -> Float[Tensor, "n m"]:
    """Return each point's silhouette from its distances, infinite where there is no centroid."""
    own, labels = away.min(dim=2)
    second = away.scatter(2, labels[:, :, None], torch.inf).amin(dim=2)
    reach = own.new_zeros(away.shape[1:]).scatter_reduce(1, labels.T, own.T, "amax")
    spread = torch.where(away.isinf(), 0, away).amax(dim=(0, 2))
    is_wide = (reach > _ROUNDING * spread[:, None]).gather(1, labels.T).T
    return torch.where(is_wide, 1 - own / torch.where(second > 0, second, 1), 0)


def smallest_within(
    ks: Sequence[int], wcss: Sequence[float], total: float, target: float | None, power: float
) -> Criterion:
    """Find the smallest k whose error is within a target.

    Args:
        ks: Rising.
        wcss: The curve.
        total: Weight of all points.
        target: Largest error, in the unit of the points; None for a tenth of the WCSS at the
            first k.
        power: The objective adds up errors to this power: 2 for WCSS.

    Returns:
        The errors and that k, None where the curve does not get there. Never raises.

    Example:
        >>> smallest_within([1, 2, 3], [100.0, 16.0, 4.0], 4, 2.0, 2).k
        2
    """
    errors = tuple((value / total) ** (1 / power) for value in wcss)
    limit = (LEFT_OVER * wcss[0] / total) ** (1 / power) if target is None else target
    asked = f"{LEFT_OVER:.0%} of the objective at k = {ks[0]}" if target is None else "the target"
    return Criterion(
        k=next((k for k, error in zip(ks, errors, strict=True) if error <= limit), None),
        values=errors,
        meaning=f"error of a point, as the power mean that the objective is of: the smallest k "
        f"where it is at most {limit:.6g}, {asked}",
    )


def _largest(ks: Sequence[int], values: Sequence[float | None]) -> int | None:
    known = [(value, -k) for k, value in zip(ks, values, strict=True) if value is not None]
    return -max(known)[1] if known else None
