"""Every distance: its objective falls, its centre step is the best, its errors are clear."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linprog, minimize_scalar
from scipy.spatial.distance import cdist

from gpu_kmeans import InputError, OptionError, kmeans
from gpu_kmeans.backends import backend_for
from gpu_kmeans.color import GRID
from gpu_kmeans.descent import descend
from gpu_kmeans.distances import METRICS, OVER_RELAXED, distances, place_beyond, place_means

CASES = [
    ("euclidean", 2.0),
    ("cityblock", 2.0),
    ("chebyshev", 2.0),
    ("cosine", 2.0),
    *(("minkowski", p) for p in (1.0, 1.01, 1.5, 2.0, 3.0, 10.0, 50.0)),
]
IDS = [f"{metric}-{p:g}" if metric == "minkowski" else metric for metric, p in CASES]
every_metric = pytest.mark.parametrize(("metric", "p"), CASES, ids=IDS)
few = settings(max_examples=25)
RNG_SEED = 20_240_229


def objective(points, weights, result, metric, p):
    """The sum of weight x cost by its definition, with SciPy's distances."""
    power = {"euclidean": 2, "minkowski": p}.get(metric, 1)
    keywords = {"p": p} if metric == "minkowski" else {}
    away = cdist(points, result.centroids, metric, **keywords)
    return float((weights * away[np.arange(len(points)), result.labels] ** power).sum())


def spread_points(n, d, seed=RNG_SEED):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + 6 * rng.integers(0, 3, (n, 1)) + 1


@st.composite
def tables(draw):
    """Points on a grid or anywhere, copies among them, none of them all zeros; weights; k."""
    shape = (draw(st.integers(1, 24)), draw(st.integers(1, 4)))
    whole = st.integers(-3, 3).map(float)
    real = st.floats(-100, 100, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-3)
    points = draw(hnp.arrays(np.float64, shape, elements=draw(st.sampled_from([whole, real]))))
    points[~points.any(axis=1)] = 1.0
    weights = draw(hnp.arrays(np.float64, shape[:1], elements=st.integers(1, 4).map(float)))
    return points, weights, draw(st.integers(1, 6))


@every_metric
@few
@given(tables(), st.sampled_from(["k-means++", "random"]))
def test_the_objective_never_rises(metric, p, table, init):
    points, weights, k = table
    k = min(k, len(points))

    result = kmeans(points, k, weights=weights, metric=metric, p=p, init=init, tol=0, max_iter=30)

    history = np.array(result.wcss_history)
    rounding = 1e-11 * history[0] + 1e-28 * weights.sum()
    assert (np.diff(history) <= rounding).all()
    assert history[-1] == result.wcss
    assert np.isfinite(result.centroids).all()


@every_metric
def test_labels_centroids_and_objective_belong_together(metric, p):
    points = spread_points(90, 3)
    weights = np.random.default_rng(1).uniform(0.5, 2, 90)

    result = kmeans(points, 3, weights=weights, metric=metric, p=p)

    away = distances(torch.from_numpy(points), torch.from_numpy(result.centroids), metric, p)
    assert (result.labels == away.argmin(dim=1).numpy()).all()
    assert result.wcss == pytest.approx(objective(points, weights, result, metric, p), rel=1e-9)


@every_metric
def test_distances_are_those_of_scipy(metric, p):
    points = spread_points(20, 4)
    keywords = {"p": p} if metric == "minkowski" else {}

    ours = distances(torch.from_numpy(points), torch.from_numpy(points[:5]), metric, p)

    np.testing.assert_allclose(ours, cdist(points, points[:5], metric, **keywords), atol=1e-12)


@every_metric
def test_a_point_of_weight_three_counts_as_three_points(metric, p):
    points = spread_points(30, 2)
    weights = np.random.default_rng(2).integers(1, 4, 30)
    keywords = {"metric": metric, "p": p, "init": points[:3], "tol": 0}

    weighted = kmeans(points, 3, weights=weights, **keywords)
    repeated = kmeans(np.repeat(points, weights, axis=0), 3, **keywords)

    np.testing.assert_allclose(weighted.centroids, repeated.centroids, atol=1e-7)
    assert (np.repeat(weighted.labels, weights) == repeated.labels).all()


@every_metric
def test_a_point_of_weight_zero_moves_nothing_and_is_labelled(metric, p):
    points = spread_points(40, 3)
    far = np.concatenate([points, points[:1] * 3])
    weights = np.append(np.ones(40), 0.0)

    plain = kmeans(points, 3, metric=metric, p=p)
    result = kmeans(far, 3, weights=weights, metric=metric, p=p)

    np.testing.assert_array_equal(result.centroids, plain.centroids)
    assert (result.labels[:-1] == plain.labels).all()


@every_metric
def test_an_empty_cluster_takes_a_far_point(metric, p):
    points = np.array([[1.0, 2.0], [1.1, 2.0], [9.0, 1.0], [9.0, 1.1], [3.0, 30.0]])
    init = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])

    result = kmeans(points, 3, init=init, metric=metric, p=p)

    assert set(result.labels.tolist()) == {0, 1, 2}


@every_metric
def test_as_many_clusters_as_distinct_points_cost_nothing(metric, p):
    points = np.array([[1.0, 2.0], [5.0, 1.0], [1.0, 2.0], [-3.0, 4.0]])

    result = kmeans(points, 9, metric=metric, p=p)

    assert result.wcss == pytest.approx(0, abs=1e-30)
    assert len(result.centroids) == 3
    assert result.warnings == ("3 distinct points, for k=9",)


@every_metric
def test_the_same_seed_gives_the_same_bits_and_a_tensor_a_tensor(metric, p, device):
    points = spread_points(60, 3)

    one = kmeans(points, 4, metric=metric, p=p, seed=3)
    two = kmeans(points, 4, metric=metric, p=p, seed=3)
    there = kmeans(torch.from_numpy(points).to(device), 4, metric=metric, p=p, seed=3)

    np.testing.assert_array_equal(one.centroids, two.centroids)
    assert there.centroids.device.type == device.type
    np.testing.assert_allclose(there.centroids.cpu(), one.centroids, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_single_precision_stays_single(metric):
    points = spread_points(50, 3).astype(np.float32)

    result = kmeans(points, 3, metric=metric, p=3.0 if metric == "minkowski" else 2.0)

    history = np.array(result.wcss_history)
    assert result.centroids.dtype == np.float32
    assert (np.diff(history) <= 1e-6 * history[0]).all()


def test_minkowski_of_one_is_cityblock_and_of_two_euclidean():
    points = spread_points(60, 3)

    for p, metric in ((1, "cityblock"), (2, "euclidean")):
        one, other = kmeans(points, 4, metric="minkowski", p=p), kmeans(points, 4, metric=metric)

        np.testing.assert_array_equal(one.centroids, other.centroids)


@pytest.mark.parametrize("n", [30, 31])
def test_a_cityblock_center_is_the_median_of_each_coordinate(n):
    points = spread_points(n, 4)

    result = kmeans(points, 1, metric="cityblock")

    np.testing.assert_allclose(result.centroids[0], np.median(points, axis=0))


@pytest.mark.parametrize("p", [1.2, 1.5, 3, 4.5, 10])
def test_a_minkowski_center_is_the_best_in_each_coordinate(p):
    points = spread_points(25, 2)

    result = kmeans(points, 1, metric="minkowski", p=p, tol=0)

    best = sum(
        minimize_scalar(lambda c, x=x: (np.abs(x - c) ** p).sum(), options={"xtol": 1e-12}).fun
        for x in points.T
    )
    assert result.wcss == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize(("d", "slack"), [(1, 1e-9), (2, 1e-9), (3, 2e-3), (8, 2e-3)])
def test_a_chebyshev_center_is_the_best_or_near_it(d, slack):
    """The oracle is linear programming: the least sum of t with |x - c| <= t in each coordinate."""
    points = spread_points(25, d)
    n, eye = len(points), np.eye(d)
    at_most = [[*(sign * row), *-np.eye(n)[i]] for i in range(n) for row in eye for sign in (1, -1)]
    bounds = [sign * points[i, j] for i in range(n) for j in range(d) for sign in (1, -1)]
    cost = [0] * d + [1] * n
    best = linprog(cost, at_most, bounds, bounds=[(None, None)] * d + [(0, None)] * n).fun

    result = kmeans(points, 1, metric="chebyshev", tol=0)

    assert best * (1 - 1e-9) <= result.wcss <= best * (1 + slack)


def test_a_cosine_center_is_the_mean_direction_and_lengths_do_not_matter():
    points = spread_points(40, 3)
    lengths = np.random.default_rng(3).uniform(0.01, 100, (40, 1))

    result = kmeans(points * lengths, 1, metric="cosine")

    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    mean = units.mean(axis=0)
    np.testing.assert_allclose(result.centroids[0], mean / np.linalg.norm(mean))


def test_opposite_directions_have_no_mean_and_the_center_stays():
    result = kmeans(np.array([[1.0, 0.0], [-1.0, 0.0]]), 1, metric="cosine")

    assert np.linalg.norm(result.centroids[0]) == pytest.approx(1)
    assert result.wcss == pytest.approx(2)


def test_multiples_of_one_vector_are_one_direction():
    points = np.array([[1.0, 2.0, 3.0], [3.0, 6.0, 9.0], [7.0, 14.0, 21.0]])

    assert kmeans(points, 2, metric="cosine").warnings == ("1 distinct points, for k=2",)


def test_ties_go_to_the_lowest_index():
    points, init = np.array([[0.0, 1.0], [4.0, 1.0], [2.0, 1.0]]), np.array([[0.0, 1], [4, 1]])

    for metric in ("cityblock", "chebyshev"):
        result = kmeans(points, 2, init=init, metric=metric, max_iter=1)

        assert result.wcss_history[0] == 2
        assert result.labels[2] == 0


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"metric": "manhattan"}, "metric='manhattan' is not allowed: one of euclidean, cityblock"),
        ({"metric": "minkowski", "p": 0.5}, "p=0.5 is not allowed: a number from 1 up"),
        ({"metric": "minkowski", "p": np.inf}, "metric='chebyshev' is its limit"),
        ({"metric": "minkowski", "p": np.nan}, "p=nan is not allowed"),
        ({"metric": "minkowski", "p": 1000.0}, "whose p-th powers no float holds"),
        ({"metric": "cityblock", "p": 3.0}, "unless metric='minkowski'"),
        ({"metric": "cosine", "refine": 1}, "refine=1 is not allowed: 0 with metric='cosine'"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(keywords, named):
    with pytest.raises(OptionError, match=re.escape(named)):
        kmeans(spread_points(9, 2), 2, **keywords)


def test_a_zero_vector_has_no_direction_unless_it_counts_nothing():
    points = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])

    with pytest.raises(InputError, match="row 1 is all zeros, which has no direction"):
        kmeans(points, 2, metric="cosine")
    with pytest.raises(InputError, match="init: row 0 is all zeros"):
        kmeans(points[::2], 1, init=points[1:2], metric="cosine")
    assert kmeans(points, 2, weights=np.array([1, 0, 1]), metric="cosine").wcss == 0
    with pytest.raises(InputError, match="row 2 is all zeros"):
        kmeans(np.array([[1, 0], [2, 0], [0, 0]]), 1, weights=np.array([0, 1, 1]), metric="cosine")


# Over-relaxation


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 9), st.booleans())
def test_beyond_the_means_it_costs_no_more_than_before(seed, d, k, is_integral):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, GRID + 1, (60, d)).astype(np.float32)
    if not is_integral:
        points = (points + rng.random(points.shape)).astype(np.float64)
    engine = backend_for(torch.device("cpu"), "reference")
    weights = torch.from_numpy(rng.integers(1, 50, 60).astype(np.float64))
    problem = engine.pack([torch.from_numpy(points)], [weights], is_integral=is_integral)
    centroids = problem.points[torch.from_numpy(rng.permutation(60)[:k])].clone()
    found = engine.assign_accumulate(problem, centroids, (0, k), labels=True)

    moved = place_beyond(problem, centroids, found)

    means = place_means(problem, centroids, found).double()
    for j in range(d):  # on the other side of the mean, or on it, and no farther away
        before, after = centroids[:, j] - means[:, j], moved[:, j] - means[:, j]
        assert (before * after <= 1).all()
        assert (after.abs() <= before.abs() + 1).all()
    own = found.labels.long()
    costs = [
        float((((problem.points - c[own]).double() ** 2).sum(dim=1) * weights).sum())
        for c in (centroids, moved)
    ]
    assert costs[1] <= costs[0] * (1 + 1e-12)
    if is_integral:
        assert ((moved >= 0) & (moved <= GRID) & (moved == moved.round())).all()


def test_an_over_relaxed_descent_never_rises_and_ends_sooner_and_as_low():
    engine, ends = backend_for(torch.device("cpu")), []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        points = torch.from_numpy(rng.integers(0, GRID + 1, (4000, 3)).astype(np.float32))
        problem = engine.pack([points], [torch.ones(4000, dtype=torch.float64)], is_integral=True)

        plain, longer = (
            descend(engine, problem, [points[:20]], max_iter=300, tol=0.0, still=1e-4, **metric)[0]
            for metric in ({}, {"metric": OVER_RELAXED})
        )

        assert (np.diff(longer.wcss_history) <= 0).all()
        ends.append((longer.n_iter / plain.n_iter, longer.wcss / plain.wcss))
    iterations, wcss = np.mean(ends, axis=0)
    assert iterations < 0.9
    assert wcss < 1.003  # they end in optima of their own, now the one lower, now the other
