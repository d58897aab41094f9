"""Points of many dimensions on the CPU: what is remembered between passes changes no answer."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples import POINTS, SEED, assert_sums_agree, problem_of

from gpu_kmeans import kmeans
from gpu_kmeans.backends import backend_for
from gpu_kmeans.backends.reference import sq_distances

pytest.importorskip("numba")
wide_points = pytest.importorskip("gpu_kmeans.backends.wide_points")

CPU = torch.device("cpu")
ENGINE, REFERENCE = backend_for(CPU, "cpu"), backend_for(CPU, "reference")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def labels_by_definition(points, centroids):
    return sq_distances(torch.from_numpy(points), torch.from_numpy(centroids)).argmin(dim=1)


def walk(points, centroids, moves, rng):
    """Centroids on their way: moved a little, not at all, far, and one of them alone."""
    spread = np.ptp(points, axis=0).max()
    for share in moves:
        if share < 0:
            centroids = centroids.copy()
            centroids[rng.integers(len(centroids))] = points[rng.integers(len(points))]
        else:
            moved = rng.standard_normal(centroids.shape) * share * spread
            centroids = (centroids + moved).astype(points.dtype)
        yield centroids


@DTYPES
@pytest.mark.parametrize("kind", POINTS)
@pytest.mark.parametrize("d", [5, 8, 15, 64, 130], ids="d{}".format)
def test_passes_one_after_the_other_name_the_nearest_centroids(kind, d, dtype):
    for n, k in [(1, 1), (65, 5), (600, 4), (1500, 33)]:
        rng = np.random.default_rng(n)
        points = POINTS[kind](rng, n, d).astype(dtype)
        start = points[rng.integers(n, size=k)]
        layout, labels = wide_points.WidePoints(points, np.ones(n)), np.empty(n, np.int32)
        for centroids in walk(points, start, [0, 0, 1e-6, 1e-3, 0, -1, 0, 0.1, 0.01, 0, -1], rng):
            table = layout.assign(centroids, labels, detail=False)

            assert labels.tolist() == labels_by_definition(points, centroids).tolist(), (n, k)
            fresh = wide_points.WidePoints(points, np.ones(n))
            alone = fresh.assign(centroids, np.empty(0, np.int32), detail=False)
            np.testing.assert_array_equal(table, alone)
            in_detail = np.empty(n, np.int32)
            layout.assign(centroids, in_detail, detail=True)
            assert in_detail.tolist() == labels.tolist(), (n, k)


lattice = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 90), st.integers(5, 9)), elements=st.integers(-2, 2)
)


@settings(max_examples=60)
@given(lattice, st.integers(1, 9), st.lists(st.integers(0, 99), min_size=1, max_size=5), st.data())
def test_among_equals_the_first_is_named_whatever_was_known(points, k, seeds, data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    scale = data.draw(st.sampled_from([1.0, 2.0**-140, 2.0**40]))
    points = (points * scale).astype(dtype)
    layout, labels = (
        wide_points.WidePoints(points, np.ones(len(points))),
        np.empty(len(points), np.int32),
    )
    centroids = np.zeros((k, points.shape[1]), dtype)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        some = rng.random(k) < 0.5
        near = points[rng.integers(len(points), size=k)] + rng.integers(-1, 2, (k, 1)) * scale / 2
        centroids = np.where(some[:, None], near, centroids).astype(dtype)

        layout.assign(centroids, labels, detail=False)

        assert labels.tolist() == labels_by_definition(points, centroids).tolist()


@pytest.mark.parametrize(
    ("offset", "spread", "outlier"),
    [
        (1e8, 1e-3, None),
        (0, 1e-160, None),
        (0, 1e-310, None),
        (0, 1e139, None),
        (1e100, 1e90, None),
        (0, 1, 1e9),
        (0, 1, 1e139),
        (5, 0, None),
    ],
)
@pytest.mark.parametrize("detail", [False, True], ids=["plain", "detail"])
def test_far_off_tiny_and_huge_points_go_where_the_definition_puts_them(
    offset, spread, outlier, detail
):
    rng = np.random.default_rng(SEED)
    points = offset + spread * rng.standard_normal((500, 7))
    if outlier is not None:
        points[77] = outlier
    layout, labels = wide_points.WidePoints(points, np.ones(500)), np.empty(500, np.int32)
    for shift in (0, 0, 1e-9):
        centroids = points[::40] + shift * spread
        layout.assign(centroids, labels, detail=detail)

        assert labels.tolist() == labels_by_definition(points, centroids).tolist()


@DTYPES
def test_most_points_are_known_to_stay_where_centroids_do(dtype):
    points = np.random.default_rng(0).standard_normal((3000, 20)).astype(dtype)
    layout = wide_points.WidePoints(points, np.ones(3000))
    layout.assign(points[:10].copy(), np.empty(0, np.int32), detail=False)

    _, labels, lower = layout._known

    gaps = sq_distances(*map(torch.from_numpy, (points, points[:10]))).double().sqrt()
    second = gaps.scatter(1, torch.from_numpy(labels).long()[:, None], np.inf).amin(dim=1)
    scaled = torch.from_numpy(lower).double() / layout._frame[1]
    assert (scaled <= second * (1 + 1e-6)).all()
    assert (scaled > second * (1 - 1e-3)).double().mean() > 0.99


def test_what_is_known_of_others_is_true_where_scores_are_rounded_most():
    rng = np.random.default_rng(2)
    far = np.where(rng.random((4000, 1)) < 0.5, 1000.0, -1000.0)
    points = far + rng.standard_normal((4000, 20))
    layout = wide_points.WidePoints(points, np.ones(4000))
    centroids = points[:200].copy()
    layout.assign(centroids, np.empty(0, np.int32), detail=False)

    _, labels, lower = layout._known

    gaps = sq_distances(*map(torch.from_numpy, (points, centroids))).sqrt()
    second = gaps.scatter(1, torch.from_numpy(labels).long()[:, None], np.inf).amin(dim=1)
    assert (torch.from_numpy(lower).double() / layout._frame[1] <= second).all()


@DTYPES
@pytest.mark.parametrize("d", [5, 64, 700], ids="d{}".format)
def test_several_problems_of_many_dimensions_keep_apart(d, dtype):
    kinds = [("ties", 65), ("gaussian", 900), ("gaussian", 1)]
    problems = [
        problem_of(kind, n, d, torch.from_numpy(np.zeros(1, dtype)).dtype, 7) for kind, n in kinds
    ]
    points, centroids, weights = zip(*problems, strict=True)
    for active, detail in [(None, False), ([0, 2], True)]:
        ours, theirs = (
            on.assign_accumulate(
                on.pack(points, weights, is_integral=False),
                torch.cat(centroids)[:19],  # 9, 9 and 1
                (0, 9, 18, 19),
                active=active,
                labels=True,
                detail=detail,
            )
            for on in (ENGINE, REFERENCE)
        )

        assert torch.equal(ours.labels, theirs.labels)
        assert_sums_agree(ours, theirs, REFERENCE.pack(points, weights, is_integral=False))


@DTYPES
@pytest.mark.parametrize("n", [9, 64, 65, 3000])
def test_seeds_of_points_of_many_dimensions_are_the_reference_s(n, dtype):
    points, _, weights = problem_of("gaussian", n, 40, torch.float64, 1)
    points = points.to(torch.from_numpy(np.zeros(1, dtype)).dtype)
    draws = torch.from_numpy(np.random.default_rng(0).random((9, 4)))
    ours, theirs = (
        on.seed(on.pack([points], [weights], is_integral=False), [9], [draws])[0]
        for on in (ENGINE, REFERENCE)
    )

    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_no_point_is_chosen_twice_and_none_beyond_the_distinct_ones(offset):
    few = offset + np.random.default_rng(1).standard_normal((6, 11)) * 1e-3
    points = torch.from_numpy(few[np.random.default_rng(2).integers(6, size=500)])
    draws = torch.from_numpy(np.random.default_rng(0).random((20, 4)))
    problem = ENGINE.pack([points], [torch.ones(500, dtype=torch.float64)], is_integral=False)

    rows = ENGINE.seed(problem, [20], [draws])[0]

    assert len(rows) == len(points[rows].unique(dim=0)) == 6


def test_nothing_is_remembered_of_another_number_of_centroids():
    points = np.random.default_rng(4).standard_normal((900, 10))
    layout, labels = wide_points.WidePoints(points, np.ones(900)), np.empty(900, np.int32)
    for k in (30, 5, 5, 31, 1, 30):
        layout.assign(points[:k], labels, detail=False)  # no copy: the old ones lie behind it

        assert labels.tolist() == labels_by_definition(points, points[:k]).tolist()


def test_threads_may_use_one_problem_at_once():
    points = np.random.default_rng(0).standard_normal((4000, 12))
    layout = wide_points.WidePoints(points, np.ones(4000))
    starts = [points[i : i + 15].copy() for i in range(8)]

    def run(centroids):
        labels = np.empty(4000, np.int32)
        for _ in range(5):
            layout.assign(centroids, labels, detail=False)
        return labels.tolist()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, starts * 3))

    expected = [labels_by_definition(points, centroids).tolist() for centroids in starts]
    assert found == expected * 3


@DTYPES
@pytest.mark.parametrize("tol", [0.0, 1e-4])
def test_a_fit_goes_the_reference_s_way(dtype, tol):
    rng = np.random.default_rng(3)
    points = (rng.standard_normal((700, 9)) + 4 * rng.integers(0, 3, (700, 1))).astype(dtype)

    ours, theirs = (
        kmeans(points, 12, init=points[:12].copy(), tol=tol, backend=name)
        for name in ("cpu", "reference")
    )

    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert (ours.n_iter, ours.converged) == (theirs.n_iter, theirs.converged)
    np.testing.assert_allclose(ours.wcss_history, theirs.wcss_history, rtol=1e-6)
    np.testing.assert_allclose(ours.centroids, theirs.centroids, rtol=1e-5, atol=1e-6)


def test_a_cluster_that_gets_nothing_takes_the_farthest_point():
    points = np.random.default_rng(5).standard_normal((300, 6))
    start = np.concatenate([points[:4], np.full((1, 6), 50.0)])

    ours, theirs = (kmeans(points, 5, init=start, backend=name) for name in ("cpu", "reference"))

    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert len(np.unique(ours.labels)) == 5
