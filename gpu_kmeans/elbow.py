"""WCSS for many k at once, and what that curve says about k.

One sequence of centroids serves every k: from the mean on, the cluster that gains most is split,
Lloyd settles the rest, and one breath (see `gpu_kmeans.refinement`) looks for a better optimum.
Each k starts from the one before, so the curve does not rise. A picture's sequence is made on two
thousand merged colours; the WCSS reported is that of all distinct colours, unrounded.

The elbow has no theory behind it, and photographs often have no natural k: see Schubert, "Stop
using the elbow criterion for k-means", SIGKDD Explorations 25(1), 2023. arXiv:2212.12189
So the knee stands beside other criteria, see `gpu_kmeans.criteria`.

Another metric than the Euclidean has its own way, see `gpu_kmeans.growth`.

References:
    Likas, Vlassis, Verbeek, "The global k-means clustering algorithm", Pattern Recognition 36(2),
        2003.
    Satopaa et al., "Finding a 'kneedle' in a haystack", ICDCS Workshops 2011.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from gpu_kmeans.backends import Backend, Problems, SearchPlan, backend_for
from gpu_kmeans.backends.abilities import AheadBackend, runs_ahead
from gpu_kmeans.backends.threads import consume, may_share
from gpu_kmeans.checks import as_tensor, check_integer, check_number, check_pixels, check_points
from gpu_kmeans.color import STEPS
from gpu_kmeans.criteria import Criterion, judge, simplified_silhouette, simplified_silhouettes
from gpu_kmeans.distances import (
    EUCLIDEAN,
    Metric,
    cluster_means,
    metric_for,
    place_means,
)
from gpu_kmeans.errors import OptionError
from gpu_kmeans.growth import grow as grow_by_metric
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.refinement import breathe_together, grow, growth_plan
from gpu_kmeans.seeding import distinct_rows

__all__ = ["ElbowCurve", "curve_ks", "elbow", "picture_curve"]

CURVE_POINTS = 2048
BREATH = 0.25  # share of the clusters split in the breath of each k
DENSE_KS = 16
KS_PER_OCTAVE = 8
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElbowCurve:
    """WCSS against k.

    Attributes:
        ks: Numbers of clusters, rising.
        wcss: WCSS of each, in unit^2 x weight, or another metric's objective; never rising.
        knee: The k at which the curve bends most, None where it does not bend.
        criteria: What other rules say, and the knee again, each in words: "knee",
            "calinski_harabasz", "silhouette" and "target_error"; empty on a curve beside a picture.
        fit_s: Seconds each k took, from the one before. Neither it nor criteria is compared.
        warnings: What the caller might not expect, in words.
    """

    ks: tuple[int, ...]
    wcss: tuple[float, ...]
    knee: int | None
    warnings: tuple[str, ...] = ()
    criteria: Mapping[str, Criterion] = field(default_factory=dict, compare=False)
    fit_s: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What is asked of a curve: by which distance, and whether for criteria, to what error."""

    metric: Metric = EUCLIDEAN
    wants_criteria: bool = False
    target: float | None = None


_NOTHING_MORE = _Question()


def elbow(
    points: Num[Tensor, "*shape"] | Num[np.ndarray, "*shape"],
    k_max: int = 20,
    *,
    ks: Sequence[int] | None = None,
    weights: Num[Tensor, " n"] | Num[np.ndarray, " n"] | None = None,
    metric: str = "euclidean",
    p: float = 2.0,
    target_error: float | None = None,
    backend: str = "auto",
    on_progress: Progress | None = None,
) -> ElbowCurve:
    """Compute WCSS for every k from 1 to k_max.

    Args:
        points: Coordinates (n, d) in any unit; or a picture, uint8 (h, w, 3) or (h, w, 4), whose
            curve is that of its pixels in RGB units (premultiplied, where there is alpha).
        k_max: The largest k, 2 <= k_max.
        ks: Only these k instead, each >= 1; the WCSS of a k does not depend on the others.
        weights: How much each point counts; not for pictures.
        metric: Whose objective to draw, see `gpu_kmeans.kmeans`; pictures take "euclidean".
        p: The exponent of "minkowski".
        target_error: Largest error of a point for the criterion of that name, >= 0: the root mean
            square distance in the unit of the points, or the mean that another metric's objective
            is of; None for a tenth of the objective at k = 1.
        backend: "auto", or one of `gpu_kmeans.backends.available_backends()`.
        on_progress: Called with the share of the work done; what it raises ends it.

    Returns:
        The curve. It ends where k reaches the number of distinct points.

    Raises:
        ShapeError: points are neither (n, d) nor a picture.
        InputError: No points, NaN or infinite values.
        OptionError: k_max, ks, metric, p, target_error or backend is out of range, or weights
            or another metric came with a picture.
        DeviceError: The backend cannot run here.

    Example:
        >>> curve = elbow(np.array([[0.0], [1.0], [10.0], [11.0]]), 3)
        >>> curve.ks, curve.wcss
        ((1, 2, 3), (101.0, 1.0, 0.5))
    """
    wanted, distance = _check_ks(k_max, ks), metric_for(metric, p)
    if target_error is not None:
        check_number("target_error", target_error, low=0)
    question = _Question(metric=distance, wants_criteria=True, target=target_error)
    if as_tensor("points", points).ndim == 3:  # noqa: PLR2004
        if weights is not None:
            raise OptionError("weights", weights, "None for a picture, whose pixels count alike")
        if distance is not EUCLIDEAN:
            allowed = "'euclidean' for a picture; give its colours as points for another"
            raise OptionError("metric", metric, allowed)
        pixels = check_pixels(points)
        engine = backend_for(pixels.device, backend)
        histogram = Histogram.from_pixels(pixels, engine)
        return picture_curve(engine, histogram, wanted, on_progress, question=question)
    rows, masses = check_points(points, weights)
    engine = backend_for(rows.device, backend)
    exists = masses > 0
    distance.check(rows, exists=exists)
    rows = distance.prepare(rows)
    problem = engine.pack([rows[exists]], [masses[exists]], is_integral=False)
    if distance is not EUCLIDEAN:
        scale = distance.scale
        return _curve(
            engine, problem, problem, wanted, question, scale=scale, on_progress=on_progress
        )
    # Far from zero the squares that tell which cluster is wide would cancel.
    origin = _mean(engine, problem)
    centered = engine.pack([problem.points - origin], [problem.weights], is_integral=False)
    return _curve(
        engine, centered, problem, wanted, question, origin=origin, on_progress=on_progress
    )


def picture_curve(
    engine: Backend,
    histogram: Histogram,
    ks: Sequence[int],
    on_progress: Progress | None = None,
    *,
    question: _Question = _NOTHING_MORE,
) -> ElbowCurve:
    """Compute the curve of a picture's pixels in RGB units; see `elbow`.

    Args:
        engine: Who computes.
        histogram: The picture's colours.
        ks: The k wanted, rising.
        on_progress: See `elbow`.
        question: What is asked of it beside the WCSS; nothing, where pictures are quantized.

    Returns:
        The curve. Never raises by itself.
    """
    few, masses = histogram.merged(engine, "rgb", CURVE_POINTS)
    fine = histogram.problem(engine, "rgb")
    is_small = len(few) == len(histogram.colors)
    coarse = fine if is_small else engine.pack([few], [masses], is_integral=True)
    return _curve(
        engine,
        coarse,
        fine,
        ks,
        question,
        scale=STEPS**-2,
        on_progress=on_progress,
    )


def curve_ks(k: int) -> tuple[int, ...]:
    """Return the k of the curve inside `/compress`: every one to 16, then about eight an octave.

    Never raises.

    Example:
        >>> curve_ks(24)[-5:]
        (17, 19, 21, 23, 24)
    """
    dense = range(1, min(k, DENSE_KS) + 1)
    octaves = np.arange(1, 8 * KS_PER_OCTAVE + 1) / KS_PER_OCTAVE
    sparse = {round(DENSE_KS * 2**o) for o in octaves}
    return tuple(sorted({*dense, *(s for s in sparse if s < k), k}))


def find_knee(ks: Sequence[int], wcss: Sequence[float]) -> int | None:
    """Find the knee of a falling, convex curve by Kneedle at sensitivity 1.

    Args:
        ks: At least one, rising.
        wcss: The curve, not rising.

    Returns:
        The k farthest below the chord of the curve scaled to the unit square, first of the local
        extremes that stand out; None for a straight or flat one. Never raises.

    Example:
        >>> find_knee([1, 2, 3, 4, 5], [100.0, 20.0, 15.0, 12.0, 10.0])
        2
    """
    x, y = np.asarray(ks, float), np.asarray(wcss, float)
    if len(x) < 3 or y[0] <= y[-1]:  # noqa: PLR2004 - two points have no bend
        return None
    x = (x - x[0]) / (x[-1] - x[0])
    height = 1 - (y - y[-1]) / (y[0] - y[-1]) - x  # of the curve, turned over, above its chord
    padded = np.concatenate([height[:1], height, height[-1:]])
    is_peak = (height >= padded[:-2]) & (height >= padded[2:])
    is_trough = (height <= padded[:-2]) & (height <= padded[2:])
    fall = np.abs(np.diff(x)).mean()  # how far it must fall after a peak, at sensitivity 1
    knee, threshold = None, -np.inf
    for i in range(len(height) - 1):
        if is_peak[i]:
            knee, threshold = int(ks[i]), height[i] - fall
        if is_trough[i]:
            threshold = -np.inf  # nothing stands out before the next peak
        if height[i + 1] < threshold:
            return knee
    return None


def _curve(
    engine: Backend,
    coarse: Problems,
    fine: Problems,
    ks: Sequence[int],
    question: _Question,
    *,
    scale: float = 1.0,
    origin: Tensor | float = 0.0,
    on_progress: Progress | None,
) -> ElbowCurve:
    """Return the curve of the fine points; the coarse ones, less their origin, lead the way."""
    few = distinct_rows(fine.points, ks[-1])
    last = ks[-1] if few is None else len(few)
    done = sorted({*(k for k in ks if k < last), last})
    fit_s: list[float] = []

    def settled() -> Iterator[Tensor]:
        started_at = time.perf_counter()
        for centroids in _steps(engine, coarse, question.metric, last):
            if on_progress:
                on_progress(len(centroids) / ks[-1])
            if len(centroids) in done:
                fit_s.append(time.perf_counter() - started_at)
                yield centroids
            started_at = time.perf_counter()

    def judged(centroids: Tensor) -> tuple[float, float | None]:
        value, means = _value(engine, fine, centroids + origin, question.metric)
        if few is not None and len(centroids) == last:
            value = 0.0
        if not question.wants_criteria:
            return value, None
        points, weights = coarse.points, coarse.weights
        means = (means - origin).to(points.dtype)
        return value, simplified_silhouette(question.metric, points, weights, means)

    if runs_ahead(engine) and question.metric is EUCLIDEAN:
        values = _judge_together(
            engine, coarse, fine, list(settled()), question=question, origin=origin
        )
        if few is not None:
            values[-1] = 0.0, values[-1][1]
    else:
        values = consume(judged, settled(), is_shared=may_share(engine, fine.points.device))
    wcss = list(accumulate((value * scale for value, _ in values), min))
    silhouettes = [silhouette for _, silhouette in values]
    found = tuple(done)
    knee = find_knee(found, wcss)
    ended = last < ks[-1]
    return ElbowCurve(
        ks=found,
        wcss=tuple(wcss),
        knee=knee,
        warnings=(f"{last} distinct points: the curve ends there",) if ended else (),
        criteria={}
        if not question.wants_criteria
        else judge(
            found,
            wcss,
            silhouettes,
            knee=knee,
            total=float(fine.weights.sum()),
            target=question.target,
            power=question.metric.power,
        ),
        fit_s=tuple(fit_s),
    )


def _steps(engine: Backend, problem: Problems, metric: Metric, last: int) -> Iterator[Tensor]:
    if metric is EUCLIDEAN:
        return _sequence(engine, problem, last)
    return grow_by_metric(engine, problem, metric, last)


def _value(
    engine: Backend, problem: Problems, centroids: Tensor, metric: Metric
) -> tuple[float, Tensor]:
    """Return the objective of all points, and the centres it is about: the means, or as given."""
    found = metric.on(engine).assign_accumulate(problem, centroids, (0, len(centroids)))
    if metric is not EUCLIDEAN:
        return float(found.wcss[0]), centroids
    means = cluster_means(centroids, found)
    shifts = ((means - centroids.double()) ** 2).sum(dim=1)
    return max(0.0, float(found.wcss[0] - (found.masses * shifts).sum())), means


def _judge_together(
    engine: AheadBackend,
    coarse: Problems,
    fine: Problems,
    sets: list[Tensor],
    *,
    question: _Question,
    origin: Tensor | float,
) -> list[tuple[float, float | None]]:
    """Return WCSS and silhouettes for all k at once; the last sums are the host's, as ever."""
    packed, offsets = torch.cat(sets) + origin, tuple(accumulate(map(len, sets), initial=0))
    found = engine.accumulate_each(fine, packed, offsets)
    means = cluster_means(packed, found)
    shifts = ((means - packed.double()) ** 2).sum(dim=1)
    beside = (found.masses * shifts).cpu().split([len(own) for own in sets])
    wcss = [
        max(0.0, cost - float(of_one.sum()))
        for cost, of_one in zip(found.wcss.tolist(), beside, strict=True)
    ]
    if not question.wants_criteria:
        return [(value, None) for value in wcss]
    rows = (means - origin).to(coarse.points.dtype).split([len(own) for own in sets])
    silhouettes = simplified_silhouettes(question.metric, coarse.points, coarse.weights, rows)
    return list(zip(wcss, silhouettes, strict=True))


def _sequence(engine: Backend, problem: Problems, last: int) -> Iterator[Tensor]:
    """Yield settled centroids for 1, 2, ... `last` clusters, each grown from the one before."""
    centroids = _mean(engine, problem)
    yield centroids
    rng = np.random.default_rng(0)
    room = last + int(BREATH * last) + 1
    if last > 1 and runs_ahead(engine):
        plan = growth_plan(last, BREATH, rng)
        if engine.can_search(problem, room):
            yield from engine.grow(problem, centroids, last, plan)
            return
        if engine.can_walk(problem, room):
            yield from _walk_through(engine, problem, centroids, plan)
            return
        rng = np.random.default_rng(0)
    for _ in range(1, last):
        centroids = grow(engine, problem, centroids, share=BREATH, rng=rng)
        yield centroids


def _walk_through(
    engine: AheadBackend, problem: Problems, start: Tensor, plan: SearchPlan
) -> Iterator[Tensor]:
    """Yield the same from 2 clusters on, without waiting for the device: two breaths for each k."""
    extra = [e for of_one in plan.extra for e in (1, of_one)]
    luck = torch.ones(1, len(extra), plan.luck.shape[2], dtype=torch.float64)
    luck[:, 1::2] = torch.from_numpy(plan.luck)
    room = 1 + len(plan.extra) + max(extra)
    walk = engine.walk(problem, [start], room=room, still=plan.still, extra=extra, luck=luck)
    walk.settle(plan.first_steps)
    walk.keep()
    for i in range(len(plan.extra)):
        walk.grow()
        walk.split(2 * i)
        walk.settle(plan.steps_out)
        walk.keep()
        breathe_together(walk, 2 * i + 1)
        yield walk.best[: i + 2].clone()


def _mean(engine: Backend, problem: Problems) -> Tensor:
    zero = problem.points.new_zeros(1, problem.points.shape[1])
    return place_means(problem, zero, engine.assign_accumulate(problem, zero, (0, 1)))


def _check_ks(k_max: int, ks: object) -> tuple[int, ...]:
    if ks is None:
        return tuple(range(1, check_integer("k_max", k_max, low=2) + 1))
    checked = {check_integer("ks", k, low=1) for k in ks} if isinstance(ks, Iterable) else None
    if not checked:
        raise OptionError("ks", ks, "a list of at least one whole number from 1 up")
    return tuple(sorted(checked))
