"""Leaving a local optimum after Lloyd.

Breathing k-means: split the clusters that would gain most, let everything settle, remove as many
centroids as were added, those that are missed least, settle again, and keep what is better. The
number split shrinks from 40 % of k to one. Chance has a say in which clusters are split, since the
greedy choice runs into the same wall each time: mean WCSS 0.997 of the best known with it, 0.999
without, at k = 64 and the same time (docs/decisions/0003).

Two breaths are taken side by side from the same centroids, and all go on from the better one.

References:
    Fritzke, "The breathing k-means algorithm", 2020. arXiv:2006.15666
        Differs: weighted; split along the widest coordinate of a cluster rather than at random
        near it; which clusters are split is drawn with probability that grows with their gain.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gpu_kmeans.backends import Backend, Problems, SearchPlan
from gpu_kmeans.backends.abilities import AheadBackend, Walk, breathes
from gpu_kmeans.backends.threads import may_share, parallel, sharers
from gpu_kmeans.distances import place, place_means

__all__ = ["REFINE_LEVELS", "refine_centroids", "searches_for"]

REFINE_LEVELS = {0: 0.0, 1: 1.0, 2: 8.0}  # level -> how many times the usual number of breaths
LANES = 2  # breaths taken side by side from the same centroids; all go on from the best
FEWEST_BREATHS, MOST_BREATHS = 12, 40
FEW_CLUSTERS = 24  # up to here a search stays in the basin it started in: better three short ones
SHORT_SEARCHES, SHORT_BREATHS = 3, 15
WIDEST_BREATH = 0.4  # share of the clusters split in the first breath
STEPS_IN, STEPS_OUT = 3, 5  # passes after splitting, and after removing; the last one only measures
STILL = 3e-4  # settling ends when the WCSS falls by less than this share
POINTS_AT_ONCE = 1 << 15  # of one call's breaths, both lanes of each: some ms of one thread
REACH = 0.8  # standard deviations between a cluster's mean and either half: E|x| of a normal


def refine_centroids(
    engine: Backend,
    problem: Problems,
    centroids: Float[Tensor, "k d"],
    *,
    effort: float,
    rng: np.random.Generator,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Float[Tensor, "k d"]:
    """Search for centroids of lower WCSS, starting from given ones.

    Args:
        engine: Who computes.
        problem: A single problem.
        centroids: Where to start from; of an integral problem, whole numbers.
        effort: How many times the usual number of breaths; 0 returns the centroids as they are.
        rng: Which clusters are split.
        on_progress: Called before some breaths with the share done; what it raises ends the search.

    Returns:
        Centroids of at most the same WCSS, as many as were given. Never raises by itself.
    """
    plan = search_plan(len(centroids), effort, [rng])
    if not plan.extra:
        return centroids
    best, lowest = engine.settle(problem, centroids, steps=plan.first_steps, still=plan.still)
    is_shared = may_share(engine, centroids.device) and sharers() > 1
    at_once = 1 if is_shared else max(1, POINTS_AT_ONCE // len(problem.points))
    for i in range(0, len(plan.extra), at_once):
        on_progress(i / len(plan.extra))
        part = plan.breaths(slice(i, i + at_once))
        parts = [part.lane(lane) for lane in range(LANES)] if is_shared else [part]
        go_on = functools.partial(breathe, engine, problem, best, lowest)
        best, lowest = min(parallel(go_on, parts, is_shared=is_shared), key=lambda found: found[1])
    return best


def search_plan(k: int, effort: float, rngs: Sequence[np.random.Generator]) -> SearchPlan:
    """Plan the refinement of k centroids of several searches, each with luck of its own.

    Args:
        k: How many centroids there are.
        effort: As of `refine_centroids`.
        rngs: One for each search.

    Returns:
        The plan. Never raises.
    """
    shares = _shares(k, effort)
    draws = [rng.standard_exponential((len(shares), LANES, k)) for rng in rngs]
    luck = np.stack(draws).swapaxes(1, 2)
    return SearchPlan(
        lanes=LANES,
        first_steps=2 * STEPS_OUT if shares else 1,
        steps_in=STEPS_IN,
        steps_out=STEPS_OUT,
        still=STILL,
        reach=REACH,
        extra=tuple(_extra(k, share) for share in shares),
        luck=luck.reshape(len(rngs) * LANES, len(shares), k),
    )


def growth_plan(last: int, share: float, rng: np.random.Generator) -> SearchPlan:
    """Plan growing to 2, 3, ... `last` centroids one by one, a breath for each: see `grow`.

    Never raises.
    """
    ks = range(2, last + 1)
    luck = np.ones((1, len(ks), last))
    for i, k in enumerate(ks):
        luck[0, i, :k] = rng.standard_exponential(k)
    return _growth_plan([_extra(k, share) for k in ks], luck)


def _growth_plan(extra: Sequence[int], luck: np.ndarray) -> SearchPlan:
    return SearchPlan(
        lanes=1,
        first_steps=1,
        steps_in=STEPS_IN,
        steps_out=STEPS_OUT,
        still=STILL,
        reach=REACH,
        extra=tuple(extra),
        luck=luck,
    )


def refine_together(
    engine: AheadBackend,
    problems: Problems,
    centroids: Sequence[Float[Tensor, "k d"]],
    *,
    plan: SearchPlan,
    on_progress: Callable[[float], None] = lambda _: None,
) -> tuple[Float[Tensor, "b k d"], Float[Tensor, " b"]]:
    """Do as `refine_centroids` on several problems at once, without waiting for the device.

    Args:
        engine: Who computes.
        problems: Integral ones, each `plan.lanes` times in a row.
        centroids: Where to start from, as many for each problem.
        plan: What to do.
        on_progress: Called before each breath with the share done; what it raises ends the search.

    Returns:
        Centroids, and their WCSS, for each different problem, on the device. Never raises by
        itself.
    """
    k, extra = len(centroids[0]), list(plan.extra) or [0]
    walk = engine.walk(
        problems,
        centroids,
        room=k + max(extra),
        still=plan.still,
        extra=extra,
        luck=torch.from_numpy(plan.luck) if plan.extra else None,
    )
    walk.settle(plan.first_steps)
    walk.keep()
    for i in range(len(plan.extra)):
        on_progress(i / len(plan.extra))
        breathe_together(walk, i, plan.lanes)
    best = walk.best.reshape(len(centroids), -1, walk.best.shape[1])
    return best[:: plan.lanes, :k], walk.lowest[:: plan.lanes]


def breathe_together(walk: Walk, breath: int, lanes: int = 1) -> None:
    """Launch a breath of every problem, and go on from the best of its lanes; see `breathe`.

    Never raises.
    """
    walk.split(breath)
    walk.settle(STEPS_IN)
    walk.drop(breath)
    walk.settle(STEPS_OUT)
    walk.keep(lanes)


def _shares(k: int, effort: float) -> list[float]:
    """Return the share of the clusters that each breath splits."""
    usual = float(SHORT_BREATHS)
    if k > FEW_CLUSTERS:
        usual = float(np.clip(140 / k**0.5, FEWEST_BREATHS, MOST_BREATHS))
    breaths = int(effort * usual)
    return [] if k == 1 else np.geomspace(WIDEST_BREATH, 1 / k, breaths).tolist()


def _extra(k: int, share: float) -> int:
    """Return how many clusters a breath splits: at least one."""
    return max(1, int(share * k))


def breathe(
    engine: Backend,
    problem: Problems,
    centroids: Float[Tensor, "k d"],
    wcss: float,
    plan: SearchPlan,
) -> tuple[Float[Tensor, "k d"], float]:
    """Split some clusters, remove as many, keep the better of before and after, breath by breath.

    Args:
        engine: Who computes.
        problem: A single problem.
        centroids: Settled ones.
        wcss: Their WCSS.
        plan: Of one search: how many each breath splits, and by what luck in each lane.

    Returns:
        Centroids, as many as were given, and their WCSS. Never raises.
    """
    if breathes(engine) and engine.can_breathe(problem):
        return engine.breathe(problem, centroids, wcss, plan)
    return breathe_by_steps(engine, problem, centroids, wcss, plan)


def breathe_by_steps(
    engine: Backend,
    problem: Problems,
    centroids: Float[Tensor, "k d"],
    wcss: float,
    plan: SearchPlan,
) -> tuple[Float[Tensor, "k d"], float]:
    """Define breaths, from the passes that every backend has. Never raises."""
    for i, extra in enumerate(plan.extra):
        best = centroids, wcss
        for luck in plan.luck[:, i]:  # of equals the first
            wider = split_widest(engine, problem, centroids, extra, luck)
            wider, _ = engine.settle(problem, wider, steps=plan.steps_in, still=plan.still)
            narrower = _drop_least_useful(engine, problem, wider, extra)
            found = engine.settle(problem, narrower, steps=plan.steps_out, still=plan.still)
            best = min(best, found, key=lambda candidate: candidate[1])
        centroids, wcss = best
    return centroids, wcss


def grow(
    engine: Backend,
    problem: Problems,
    centroids: Float[Tensor, "k d"],
    *,
    share: float,
    rng: np.random.Generator,
) -> Float[Tensor, "m d"]:
    """Add a centroid: split the cluster that gains most, settle, and take one breath.

    Args:
        engine: Who computes.
        problem: A single problem.
        centroids: Settled ones.
        share: Of the k + 1 clusters, how many the breath splits; at least one is.
        rng: Which ones.

    Returns:
        k + 1 settled centroids. Never raises.
    """
    k = len(centroids) + 1
    plan = _growth_plan([_extra(k, share)], rng.standard_exponential((1, 1, k)))
    if breathes(engine) and engine.can_breathe(problem):
        return engine.grow(problem, centroids, plan)
    return grow_by_steps(engine, problem, centroids, plan)


def grow_by_steps(
    engine: Backend, problem: Problems, centroids: Float[Tensor, "k d"], plan: SearchPlan
) -> Float[Tensor, "m d"]:
    """Define growing by one, from the passes that every backend has. Never raises."""
    wider = split_widest(engine, problem, centroids, 1)
    settled, wcss = engine.settle(problem, wider, steps=plan.steps_out, still=plan.still)
    return breathe_by_steps(engine, problem, settled, wcss, plan)[0]


def searches_for(k: int) -> int:
    """Return how many searches, each from seeds of its own, find the best palette for their time.

    Never raises.

    Example:
        >>> searches_for(16), searches_for(64)
        (3, 1)
    """
    return SHORT_SEARCHES if k <= FEW_CLUSTERS else 1


def split_widest(
    engine: Backend,
    problem: Problems,
    centroids: Float[Tensor, "k d"],
    extra: int,
    luck: Float[np.ndarray, " k"] | None = None,
) -> Float[Tensor, "m d"]:
    """Split the clusters that gain most into two halves along their widest coordinate.

    Args:
        engine: Who computes.
        problem: A single problem.
        centroids: Its centroids.
        extra: How many to split.
        luck: What to divide the gains by; None for none.

    Returns:
        The centroids, moved to their means, the split ones to one half of their cluster, followed
        by the other halves. Never raises.
    """
    found = engine.assign_accumulate(problem, centroids, (0, len(centroids)), detail=True)
    masses = found.masses.cpu().numpy()
    divisors = np.where(masses > 0, masses, 1)[:, None]
    means, squares = found.sums.cpu().numpy() / divisors, found.squares.cpu().numpy() / divisors
    variances = squares - means * means
    coordinate = variances.argmax(axis=1)
    widest = np.maximum(variances[np.arange(len(means)), coordinate], 0)
    gains = masses * widest if luck is None else masses * widest / luck
    split = np.argsort(-gains, kind="stable")[:extra]
    half = np.zeros((len(split), means.shape[1]))
    half[np.arange(len(split)), coordinate[split]] = REACH * np.sqrt(widest[split])
    means[masses == 0] = centroids.cpu().numpy()[masses == 0]
    both = np.concatenate([means, means[split] - half])
    both[split] += half
    return place(problem, torch.from_numpy(both).to(centroids.device))


def _drop_least_useful(
    engine: Backend, problem: Problems, centroids: Float[Tensor, "m d"], extra: int
) -> Float[Tensor, "k d"]:
    """Move centroids to their means and remove those missed least.

    One beside another that has just gone is kept: it must now serve that one's points too.
    """
    found = engine.assign_accumulate(problem, centroids, (0, len(centroids)), detail=True)
    values = centroids.cpu().numpy()
    distances = sum((column[:, None] - column) ** 2 for column in values.T)
    np.fill_diagonal(distances, np.inf)
    neighbor = distances.argmin(axis=1).tolist()
    order = np.argsort(found.utilities.cpu().numpy(), kind="stable").tolist()
    gone: set[int] = set()
    needed: set[int] = set()
    for c in order:
        if c not in needed:
            gone.add(c)
            needed.add(neighbor[c])
            if len(gone) == extra:
                break
    # Where neighbours need each other all around, usefulness alone decides.
    gone.update([c for c in order if c not in gone][: extra - len(gone)])
    kept = np.setdiff1d(np.arange(len(values)), list(gone), assume_unique=True)
    return place_means(problem, centroids, found)[torch.from_numpy(kept).to(centroids.device)]
