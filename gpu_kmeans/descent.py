"""Lloyd's iteration from given centroids to where it stops, on several problems side by side.

Assign every point to its nearest centroid, move every centroid as the metric says, repeat. This is
the definition, in passes that every backend has; one that can does many iterations in one call, to
the same bits, and only an iteration that finds an empty cluster is done here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gpu_kmeans.backends import Accumulated, Backend, Problems
from gpu_kmeans.backends.abilities import descends, runs_ahead
from gpu_kmeans.distances import (
    EUCLIDEAN,
    OVER_RELAXED,
    MeanMetric,
    Metric,
    OtherMetric,
    cluster_means,
    place_means,
)

__all__ = ["Descent", "descend", "mean_variances", "stay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Where Lloyd's iteration led to in one problem.

    Attributes:
        centroids: (k, d) the centroids.
        labels: (n,) int32, each point's centroid; empty unless asked for.
        masses: (k,) float64, the weight of each cluster.
        means: (k, d) float64, the weighted mean of each cluster.
        wcss: Of the points against the centroids.
        n_iter: Iterations done.
        converged: It stopped by itself.
        wcss_history: WCSS at each iteration, then the final one.
    """

    centroids: Tensor
    labels: Tensor
    masses: Tensor
    means: Tensor
    wcss: float
    n_iter: int
    converged: bool
    wcss_history: tuple[float, ...]


def descend(
    engine: Backend,
    problems: Problems,
    centroids: Sequence[Float[Tensor, "_k d"]],
    *,
    max_iter: int,
    tol: float,
    still: float = 0.0,
    on_iteration: Callable[[int], None] = lambda _: None,
    metric: Metric = EUCLIDEAN,
    labels: bool = True,
) -> list[Descent]:
    """Run Lloyd's iteration on several problems side by side, each until its own stop.

    Args:
        engine: Who computes.
        problems: The points.
        centroids: First centroids of each problem; of integral problems, whole numbers.
        max_iter: The most iterations.
        tol: See `gpu_kmeans.kmeans`.
        still: Stop as well once the WCSS falls by less than this share of it.
        on_iteration: Called before each iteration with its number, from 0.
        metric: Whose objective to lower; the WCSS of a descent are that one's, less its scale.
        labels: Whether those are wanted.

    Returns:
        One descent for each problem. Never raises, but what `on_iteration` raises passes through.
    """
    current, passes = list(centroids), metric.on(engine)
    needs_labels = isinstance(metric, OtherMetric)
    limits = [tol * v for v in mean_variances(engine, problems)] if tol else [0.0] * len(current)
    histories: list[list[float]] = [[] for _ in current]
    converged = [False] * len(current)
    active = list(range(len(current)))
    is_plain = metric is EUCLIDEAN or metric is OVER_RELAXED
    quick = engine if is_plain and descends(engine) else None
    while active:
        if quick and quick.can_walk(problems, max(map(len, current))):
            current, histories, resting, active = quick.descend(
                problems,
                current,
                active=active,
                histories=histories,
                max_iter=max_iter,
                limits=limits,
                still=still,
                on_iteration=on_iteration,
                over_relaxed=metric is OVER_RELAXED,
            )
            for b in resting:
                converged[b] = True
            if not active:
                break
        on_iteration(len(histories[active[0]]))
        accumulated = passes.assign_accumulate(
            problems, *_packed(current), active=active, labels=needs_labels
        )
        moved = _move(engine, problems, current, accumulated, active=active, metric=metric)
        for b in active:
            wcss = float(accumulated.wcss[b])
            shift = ((moved[b].double() - current[b].double()) ** 2).sum()
            rests = bool(histories[b]) and histories[b][-1] - wcss < still * wcss
            converged[b] = rests or bool(shift <= limits[b])
            histories[b].append(wcss)
            current[b] = moved[b]
        active = [b for b in active if not converged[b] and len(histories[b]) < max_iter]
    return _arrive(passes, problems, current, histories, converged, labels=labels)


def stay(engine: Backend, problem: Problems, centroids: Tensor, metric: Metric) -> Descent:
    """Return the descent that has nowhere to go: every point is a centroid. Never raises."""
    still = _arrive(metric.on(engine), problem, [centroids], [[]], [True])[0]
    return replace(still, n_iter=1, wcss_history=(still.wcss, still.wcss))


def _arrive(
    engine: Backend,
    problems: Problems,
    centroids: list[Tensor],
    histories: list[list[float]],
    converged: list[bool],
    *,
    labels: bool = True,
) -> list[Descent]:
    """Pass over the points with the last centroids, so that all that is returned fits together."""
    packed, offsets = _packed(centroids)
    last = engine.assign_accumulate(problems, packed, offsets, labels=labels)
    means, wcss = cluster_means(packed, last), last.wcss.tolist()
    return [
        Descent(
            centroids=centroids[b],
            labels=last.labels[rows],
            masses=last.masses[mine],
            means=means[mine],
            wcss=wcss[b],
            n_iter=len(histories[b]),
            converged=converged[b],
            wcss_history=(*histories[b], wcss[b]),
        )
        for b, (rows, mine) in enumerate(
            zip(problems.spans, map(slice, offsets, offsets[1:]), strict=True)
        )
    ]


def _packed(centroids: Sequence[Tensor]) -> tuple[Tensor, tuple[int, ...]]:
    """Return all centroids in one array, and where each problem's begin."""
    packed = centroids[0] if len(centroids) == 1 else torch.cat(list(centroids))
    return packed, tuple(accumulate((len(c) for c in centroids), initial=0))


def _of(accumulated: Accumulated, mine: slice) -> Accumulated:
    """Return one problem's part of the sums, to be changed freely."""
    sums, masses = accumulated.sums[mine].clone(), accumulated.masses[mine].clone()
    return replace(accumulated, sums=sums, masses=masses)


def _move(
    engine: Backend,
    problems: Problems,
    current: list[Tensor],
    accumulated: Accumulated,
    *,
    active: Sequence[int],
    metric: Metric,
) -> dict[int, Tensor]:
    """Move each active problem's centroids by the metric; one that got nothing to a far point."""
    offsets = _packed(current)[1]
    moved = {}
    for b in active:
        rows = problems.spans[b]
        if isinstance(metric, OtherMetric):
            points, weights = problems.points[rows], problems.weights[rows]
            moved[b] = metric.move(points, weights, current[b], accumulated.labels[rows])
            continue
        mine = slice(offsets[b], offsets[b + 1])
        part = _of(accumulated, mine)
        place = metric.place if isinstance(metric, MeanMetric) else place_means
        if not bool(part.masses.all()):
            _fill_empty_clusters(engine, problems, current[b], part, b)
            place = place_means if metric is OVER_RELAXED else place  # there, and not past it
        moved[b] = place(problems, current[b], part)
    return moved


def _fill_empty_clusters(
    engine: Backend, problems: Problems, centroids: Tensor, part: Accumulated, b: int
) -> None:
    """Give each cluster without weight the point farthest from every centroid, in place.

    Copies of a point move together, as one of their weight would; after each, distances are taken
    to that point too. Where no point is away from its centroid, the clusters stay empty.
    """
    rows = problems.spans[b]
    alone = Problems(
        points=problems.points[rows],
        weights=problems.weights[rows],
        offsets=(0, rows.stop - rows.start),
        is_integral=problems.is_integral,
    )
    own = engine.pack([alone.points], [alone.weights], is_integral=alone.is_integral)
    labels = engine.assign_accumulate(own, centroids, (0, len(centroids)), labels=True).labels
    labels = labels.long()
    away = ((alone.points.double() - centroids[labels].double()) ** 2).sum(dim=1)
    for c in (part.masses == 0).nonzero()[:, 0].tolist():
        while True:
            if not bool((away > 0).any()):
                return
            far = _first_in_space(alone.points, away == away.max())
            copies = (alone.points == alone.points[far]).all(dim=1) & (labels == labels[far])
            point, weight = alone.points[far].double(), alone.weights[copies].sum()
            if weight < part.masses[labels[far]]:
                break
            away[copies] = 0  # without it, its own cluster would be empty in turn
        part.sums[labels[far]] -= weight * point
        part.masses[labels[far]] -= weight
        part.sums[c], part.masses[c] = weight * point, weight
        away = torch.minimum(away, ((alone.points.double() - point) ** 2).sum(dim=1))


def _first_in_space(points: Tensor, candidates: Tensor) -> int:
    """Find the candidate of the least coordinates: which it is must not depend on the order."""
    for column in points.T:
        candidates = candidates & (column == column[candidates].min())
    return int(candidates.nonzero()[0])


def mean_variances(engine: Backend, problems: Problems) -> list[float]:
    """Return each problem's weighted variance about its mean, averaged over the coordinates.

    Never raises.
    """
    b, d = len(problems.spans), problems.points.shape[1]
    if runs_ahead(engine) and problems.is_integral:  # it knows what is computed below
        masses, sums, squares = engine.moments(problems)
        rounded = np.floor(sums / masses[:, None] + 0.5)
        crossed = (rounded * (2 * sums - masses[:, None] * rounded)).sum(axis=1)
        return list(((squares - crossed) / masses / d).tolist())
    ones = tuple(range(b + 1))
    zeros = problems.points.new_zeros(b, d)
    about_zero = engine.assign_accumulate(problems, zeros, ones)
    means = place_means(problems, zeros, about_zero)
    if problems.is_integral:  # all is exact: this is what a second pass would add up
        cross = (means.double() * (2 * about_zero.sums - about_zero.masses[:, None] * means)).sum(1)
        return ((about_zero.wcss - cross) / about_zero.masses / d).tolist()
    about_mean = engine.assign_accumulate(problems, means, ones)
    return (about_mean.wcss / about_mean.masses / d).tolist()
