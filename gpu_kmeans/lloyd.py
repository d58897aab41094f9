"""Lloyd's k-means on weighted points.

Assign every point to its nearest centroid, move every centroid to the mean of its points, repeat. A
photograph has 10 to 700 thousand distinct colours in three dimensions, so exact iterations are
affordable and mini-batches buy nothing.

Promises: the WCSS never rises from one iteration to the next; labels, centroids and WCSS returned
belong together; ties go to the lowest index; a row of weight 0 changes nothing; the same seed gives
the same bits whatever the number of threads; an empty cluster takes the farthest point.

References:
    Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2), 1982.
        doi:10.1109/TIT.1982.1056489
    scikit-learn's KMeans, whose stopping rule and treatment of empty clusters are taken over, so
        that both walk the same way from the same centroids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from gpu_kmeans.backends import Backend, Problems, backend_for
from gpu_kmeans.backends.abilities import AheadBackend, runs_ahead
from gpu_kmeans.backends.threads import may_share, parallel
from gpu_kmeans.checks import (
    as_tensor,
    check_coordinates,
    check_integer,
    check_number,
    check_points,
    like,
)
from gpu_kmeans.descent import Descent, descend, stay
from gpu_kmeans.distances import EUCLIDEAN, Metric, metric_for
from gpu_kmeans.errors import OptionError, ShapeError
from gpu_kmeans.progress import Progress, part_of, rising
from gpu_kmeans.refinement import (
    LANES,
    REFINE_LEVELS,
    WIDEST_BREATH,
    refine_centroids,
    refine_together,
    search_plan,
    searches_for,
)
from gpu_kmeans.seeding import distinct_rows, greedy_seeds, random_seeds, seeding_draws

__all__ = ["INITS", "Fit", "KMeansResult", "kmeans"]

INITS = ("k-means++", "random")
SEEDED_TOGETHER = 4  # starts: choosing seeds keeps one thread busy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KMeansResult:
    """The outcome of a k-means fit; arrays are of the kind, and on the device, of the input.

    Attributes:
        centroids: (m, d) with m <= k, in the unit of the points.
        labels: (n,) int32, each point's centroid.
        wcss: Weighted sum of squared distances to them, in unit^2 x weight; for another metric, of
            what its objective adds up.
        n_iter: Iterations done.
        converged: It stopped by itself rather than at max_iter.
        wcss_history: WCSS at each iteration, then of the result; it never rises.
        warnings: What the caller might not expect, in words.
    """

    centroids: Tensor | np.ndarray
    labels: Tensor | np.ndarray
    wcss: float
    n_iter: int
    converged: bool
    wcss_history: tuple[float, ...]
    warnings: tuple[str, ...] = ()


def kmeans(
    points: Num[Tensor, "n d"] | Num[np.ndarray, "n d"],
    k: int,
    *,
    weights: Num[Tensor, " n"] | Num[np.ndarray, " n"] | None = None,
    init: str | Num[Tensor, "k d"] | Num[np.ndarray, "k d"] = "k-means++",
    metric: str = "euclidean",
    p: float = 2.0,
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    refine: int = 0,
    seed: int = 0,
    backend: str = "auto",
    on_progress: Progress | None = None,
) -> KMeansResult:
    """Cluster weighted points into at most k clusters.

    Args:
        points: Coordinates in any unit u; integers are taken as float64.
        k: How many clusters, 1 <= k; fewer are returned where there are fewer distinct points.
        weights: How much each point counts, finite and >= 0; 0 means it does not exist.
        init: "k-means++", "random", or the first centroids (k, d).
        metric: The distance: "euclidean", "cityblock", "chebyshev", "minkowski" or "cosine". Each
            has an objective and a centre step of its own, see `gpu_kmeans.distances`; `wcss` and
            `wcss_history` hold that objective.
        p: The exponent of "minkowski", 1 <= p; of nothing else.
        n_init: How many times to start anew, the lowest WCSS being kept; given centroids start
            once.
        max_iter: The most iterations of one start.
        tol: Stop once the squared shifts of the centroids add up to at most tol x the mean variance
            of a coordinate; 0 asks for no change at all.
        refine: How hard to look for a better optimum than Lloyd's: 0 not at all, 1, or 2.
        seed: Of the random choices, 0 <= seed.
        backend: "auto", or one of `gpu_kmeans.backends.available_backends()`.
        on_progress: Called between iterations with the share of the work done, in [0, 1]; what it
            raises ends the fit.

    Returns:
        The best of the starts.

    Raises:
        ShapeError: points are not (n, d), or weights or init do not fit them.
        InputError: No point has a positive weight, a value is NaN or infinite, or a row of zeros is
            to have a direction under "cosine".
        OptionError: k, metric, p, n_init, max_iter, tol, refine, seed, init or backend is out of
            range, or refine is not 0 with another metric than "euclidean".
        DeviceError: The backend cannot run here.

    Example:
        >>> result = kmeans(np.array([[0.0], [1.0], [9.0], [10.0]]), 2)
        >>> sorted(result.centroids[:, 0].tolist()), result.wcss
        ([0.5, 9.5], 1.0)
    """
    fit = Fit(
        k=check_integer("k", k, low=1),
        n_init=check_integer("n_init", n_init, low=1),
        max_iter=check_integer("max_iter", max_iter, low=1),
        tol=check_number("tol", tol, low=0),
        refine=check_integer("refine", refine, low=0, high=max(REFINE_LEVELS)),
        seed=check_integer("seed", seed, low=0),
    )
    distance = _check_metric(metric, p, refine)
    rows, masses = check_points(points, weights)
    start = _check_init(init, k, rows)
    engine = backend_for(rows.device, backend)
    exists = masses > 0
    distance.check(rows, start, exists)
    rows = distance.prepare(rows)
    start = distance.prepare(start) if isinstance(start, Tensor) else start
    some = (rows, masses) if bool(exists.all()) else (rows[exists], masses[exists])
    problem = engine.pack([some[0]], [some[1]], is_integral=False)
    few = distinct_rows(problem.points, k)
    if few is not None and (isinstance(start, str) or len(few) < k):
        descent = stay(engine, problem, problem.points[few], distance)
    else:
        descent = fit.run(engine, problem, start, rising(on_progress), distance)
    warnings = [f"{len(few)} distinct points, for k={k}"] if few is not None else []
    if few is None and len(descent.centroids) < k:
        left = "the squares of what else they differ by vanish: scale the points"
        warnings = [f"{len(descent.centroids)} centroids, for k={k}: {left}"]
    return KMeansResult(
        centroids=like(descent.centroids, points),
        labels=like(_label_all(distance.on(engine), rows, descent, exists), points),
        wcss=descent.wcss * distance.scale,
        n_iter=descent.n_iter,
        converged=descent.converged,
        wcss_history=tuple(wcss * distance.scale for wcss in descent.wcss_history),
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How one problem is to be fitted: checked options, see `kmeans`."""

    k: int
    n_init: int
    max_iter: int
    tol: float
    refine: int
    seed: int

    def run(
        self,
        engine: Backend,
        problem: Problems,
        start: str | Tensor,
        on_progress: Progress,
        metric: Metric = EUCLIDEAN,
    ) -> Descent:
        """Start as often as asked; keep the descent of lowest WCSS, the first of equals."""
        starts = 1 if isinstance(start, Tensor) else self.n_init
        best: Descent | None = None
        seeds: dict[int, list[Tensor]] = {}
        is_shared = may_share(engine, problem.points.device)
        for i in range(starts):
            report = part_of(on_progress, i, starts)
            if i not in seeds:
                some = range(i, i + 1 if self.refine else min(starts, i + SEEDED_TOGETHER))
                first = partial(self._first_centroids, metric.on(engine), problem, start, report)
                seeds = dict(zip(some, parallel(first, some, is_shared=is_shared), strict=True))
            for centroids in seeds[i]:
                descent = descend(
                    engine,
                    problem,
                    [centroids],
                    max_iter=self.max_iter,
                    tol=self.tol,
                    on_iteration=partial(_report_iteration, report, self.max_iter),
                    metric=metric,
                )[0]
                if best is None or descent.wcss < best.wcss:
                    best = descent
        return best  # type: ignore[return-value] # n_init >= 1

    def search(
        self,
        engine: Backend,
        problem: Problems,
        start: str,
        on_progress: Progress,
    ) -> Tensor:
        """Start and refine as often as asked; keep the best centroids, which are yet to descend."""
        candidates = []
        searches = self.n_init * searches_for(self.k)
        for i in range(searches):
            report = part_of(on_progress, i, searches)
            centroids = self._first_centroids(engine, problem, start, report, i)[0]
            candidates.append(engine.settle(problem, centroids, steps=1, still=0.0))
        return min(candidates, key=lambda candidate: candidate[1])[0]

    def search_together(
        self,
        engine: Backend,
        sets: Sequence[tuple[Tensor, Tensor]],
        start: str,
        on_progress: Progress,
    ) -> list[Tensor]:
        """Search in several sets of integral points and weights, all at once where that pays."""
        if runs_ahead(engine):
            found = self._search_ahead(engine, sets, start, on_progress)
            if found is not None:
                return found
        return [
            self.search(
                engine, _pack_colors(engine, [one]), start, part_of(on_progress, i, len(sets))
            )
            for i, one in enumerate(sets)
        ]

    def _search_ahead(
        self,
        engine: AheadBackend,
        sets: Sequence[tuple[Tensor, Tensor]],
        start: str,
        on_progress: Progress,
    ) -> list[Tensor] | None:
        """Search without waiting for the device; None where it cannot, or seeds are too few."""
        searches, effort = self.n_init * searches_for(self.k), REFINE_LEVELS[self.refine]
        problems = _pack_colors(engine, sets)
        room = self.k + int(WIDEST_BREATH * self.k) + 1
        rngs = [np.random.default_rng([self.seed, i]) for i in range(searches)]
        if start == "k-means++" and engine.can_search(problems, room):
            draws = torch.stack([seeding_draws(self.k, rng) for rng in rngs])
            plan = search_plan(self.k, effort, rngs)
            best, lowest, counts = engine.search(problems, draws, plan, on_progress)
            values = lowest.tolist()
            if any(size < self.k for size in counts.tolist()):
                return None
        else:
            each = [one for one in sets for _ in range(searches)]
            rngs = [np.random.default_rng([self.seed, i]) for _ in sets for i in range(searches)]
            seeds = self._seeds_together(engine, each, start, rngs)
            if not engine.can_walk(problems, room) or any(len(s) < self.k for s in seeds):
                return None
            lanes = _pack_colors(engine, [one for one in each for _ in range(LANES)])
            starts = [seed for seed in seeds for _ in range(LANES)]
            plan = search_plan(self.k, effort, rngs)
            best, lowest = refine_together(
                engine, lanes, starts, plan=plan, on_progress=on_progress
            )
            values = lowest.tolist()
        tries = (values[i : i + searches] for i in range(0, len(values), searches))
        return [best[i * searches + row.index(min(row))] for i, row in enumerate(tries)]

    def _seeds_together(
        self,
        engine: Backend,
        each: Sequence[tuple[Tensor, Tensor]],
        start: str,
        rngs: Sequence[np.random.Generator],
    ) -> list[Tensor]:
        if start == "random":
            singles = (_pack_colors(engine, [one]) for one in each)
            return [
                random_seeds(single, self.k, rng) for single, rng in zip(singles, rngs, strict=True)
            ]
        draws = [seeding_draws(self.k, rng) for rng in rngs]
        rows = engine.seed(_pack_colors(engine, each), [self.k] * len(each), draws)
        return [points[own] for (points, _), own in zip(each, rows, strict=True)]

    def _first_centroids(
        self, engine: Backend, problem: Problems, start: str | Tensor, report: Progress, i: int
    ) -> list[Tensor]:
        """Seed the i-th start; where refining is asked for, return refined seeds before them.

        A search leads to a lower optimum than Lloyd's iteration, but for a few problems in which
        steps beyond the means lead astray: whoever tries both never ends higher.
        """
        rng = np.random.default_rng([self.seed, i])
        if isinstance(start, Tensor):
            seeds = start
        elif start == "random":
            seeds = random_seeds(problem, self.k, rng)
        else:
            seeds = greedy_seeds(engine, problem, self.k, rng)
        if not self.refine:
            return [seeds]
        effort = REFINE_LEVELS[self.refine]
        refined = refine_centroids(
            engine, problem, seeds, effort=effort, rng=rng, on_progress=report
        )
        return [refined, seeds]


def _pack_colors(engine: Backend, sets: Sequence[tuple[Tensor, Tensor]]) -> Problems:
    """Pack integral points and their weights."""
    points, weights = zip(*sets, strict=True)
    return engine.pack(points, weights, is_integral=True)


def _report_iteration(report: Progress, max_iter: int, done: int) -> None:
    report(done / max_iter)


def _label_all(engine: Backend, rows: Tensor, descent: Descent, exists: Tensor) -> Tensor:
    """Label the points of weight 0 too: they exist for nobody else, but they have a nearest."""
    if bool(exists.all()):
        return descent.labels
    problem = engine.pack([rows], [torch.ones_like(exists, dtype=torch.float64)], is_integral=False)
    k = (0, len(descent.centroids))
    return engine.assign_accumulate(problem, descent.centroids, k, labels=True).labels


def _check_metric(name: str, p: float, refine: int) -> Metric:
    metric = metric_for(name, p)
    if refine and metric is not EUCLIDEAN:
        raise OptionError("refine", refine, f"0 with metric={name!r}: only WCSS can be refined")
    return metric


def _check_init(init: object, k: int, points: Tensor) -> str | Tensor:
    if isinstance(init, str):
        if init not in INITS:
            raise OptionError("init", init, f"{' or '.join(INITS)}, or an array of centroids")
        return init
    centroids = as_tensor("init", init).to(points)
    if centroids.shape != (k, points.shape[1]):
        raise ShapeError(f"init must be ({k}, {points.shape[1]}), got {tuple(centroids.shape)}")
    check_coordinates("init", centroids)
    return centroids.clone()
