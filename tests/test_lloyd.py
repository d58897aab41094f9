"""kmeans() against scikit-learn, and what it does at its edges."""

import warnings

import numpy as np
import pytest
from samples import BACKENDS, blobs, china
from sklearn.cluster import KMeans as ScikitKMeans
from sklearn.exceptions import ConvergenceWarning

from gpu_kmeans import KMeans, kmeans

on_every_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(scope="module")
def colors():
    """The distinct colours of the photograph as points, and how often each occurs."""
    rows, counts = np.unique(china().reshape(-1, 3), axis=0, return_counts=True)
    return rows.astype(np.float64), counts.astype(np.float64)


def scikit(points, start, weights=None, **options):
    """Scikit-learn's fit from the same first centroids, its warnings about empty clusters aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ScikitKMeans(len(start), init=start, n_init=1, **options).fit(
            points, sample_weight=weights
        )


def sorted_rows(centroids):
    return centroids[np.lexsort(centroids.T)]


# Against scikit-learn, from the same first centroids


@pytest.mark.parametrize("k", [4, 16, 64])
def test_on_a_photograph_it_walks_as_scikit_learn_does(colors, k):
    points, weights = colors
    rng = np.random.default_rng(k)
    start = points[rng.choice(len(points), k, replace=False)]
    start += rng.uniform(-0.4, 0.4, start.shape)  # between colours, so that there are no ties

    ours = kmeans(points, k, weights=weights, init=start, max_iter=20, tol=0.0)

    theirs = scikit(points, start, weights, max_iter=20, tol=0.0)
    assert ours.wcss == pytest.approx(theirs.inertia_, rel=1e-4)
    assert ours.n_iter == theirs.n_iter_
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_, rtol=0.01)


@on_every_backend
@pytest.mark.parametrize("d", [1, 2, 3, 5, 8], ids="d{}".format)
@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
def test_on_blobs_it_comes_to_rest_where_scikit_learn_does(backend, d, weighted):
    points = blobs(900, d, 7, seed=d)
    weights = np.random.default_rng(d).uniform(0, 3, 900).round(1) if weighted else None
    start = points[:9]

    ours = kmeans(points, 9, weights=weights, init=start, tol=0.0, backend=backend)

    theirs = scikit(points, start, weights, tol=0.0)
    assert ours.wcss == pytest.approx(theirs.inertia_, rel=1e-9)
    assert (ours.n_iter, ours.converged) == (theirs.n_iter_, True)
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_)
    counted = slice(None) if weights is None else weights > 0
    np.testing.assert_array_equal(ours.labels[counted], theirs.labels_[counted])


@on_every_backend
@pytest.mark.parametrize("tol", [0.3, 1e-2, 1e-4], ids="tol{}".format)
def test_it_stops_where_scikit_learn_stops(backend, tol):
    points = blobs(2000, 3, 5)
    start = points[:12]

    ours = kmeans(points, 12, init=start, tol=tol, backend=backend)

    theirs = scikit(points, start, tol=tol)
    assert ours.n_iter == theirs.n_iter_
    assert ours.wcss == pytest.approx(theirs.inertia_, rel=1e-9)
    assert ours.converged


@on_every_backend
@pytest.mark.parametrize("seed", range(4))
def test_an_empty_cluster_takes_the_point_that_scikit_learn_gives_it(backend, seed):
    points = blobs(400, 2, 4, seed=seed)
    start = np.concatenate([points[:3], [[1e3, 1e3]]])

    ours = kmeans(points, 4, init=start, tol=0.0, backend=backend)

    theirs = scikit(points, start, tol=0.0)
    assert ours.wcss == pytest.approx(theirs.inertia_, rel=1e-9)
    assert ours.n_iter == theirs.n_iter_


@on_every_backend
@pytest.mark.parametrize("seed", range(4))
def test_several_empty_clusters_all_find_points(backend, seed):
    points = blobs(400, 2, 6, seed=seed)
    start = np.concatenate([points[:2], 1e3 + np.arange(8.0).reshape(4, 2)])

    ours = kmeans(points, 6, init=start, tol=0.0, backend=backend)

    theirs = scikit(points, start, tol=0.0)
    assert len(np.unique(ours.labels)) == 6
    assert np.isfinite(ours.centroids).all()
    assert ours.wcss <= 1.2 * theirs.inertia_


def test_one_start_is_within_a_hundredth_of_scikit_learns_median(colors):
    points, weights = colors
    medians = [
        ScikitKMeans(64, n_init=1, max_iter=20, random_state=seed)
        .fit(points, sample_weight=weights)
        .inertia_
        for seed in range(10)
    ]

    ours = [
        KMeans(64, n_init=1, max_iter=20, random_state=seed).fit(china().reshape(-1, 3)).inertia_
        for seed in range(3)
    ]

    assert max(ours) <= 1.01 * np.median(medians)


# Starts


@on_every_backend
def test_the_best_of_several_starts_is_kept(backend):
    points = blobs(300, 2, 12)

    best = kmeans(points, 12, init="random", n_init=6, seed=3, backend=backend)

    one = kmeans(points, 12, init="random", n_init=1, seed=3, backend=backend)
    assert best.wcss < one.wcss


@on_every_backend
def test_greedy_seeding_avoids_the_random_initialization_trap(backend):
    centers = np.array([[x, y] for x in (0, 100, 200) for y in (0, 100, 200)])
    points = np.repeat(centers, 40, axis=0) + np.random.default_rng(0).normal(size=(360, 2))

    greedy = [kmeans(points, 9, seed=seed, backend=backend).wcss for seed in range(5)]
    random = [
        kmeans(points, 9, init="random", seed=seed, backend=backend).wcss for seed in range(5)
    ]

    assert max(greedy) < 2 * 360 * 1.3  # every blob has its own centroid
    assert max(random) > 10 * max(greedy)


@on_every_backend
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8], ids="offset{:g}".format)
def test_where_the_origin_lies_does_not_matter(backend, offset):
    points = blobs(400, 3, 6)

    fit = kmeans(points + offset, 6, refine=1, backend=backend)

    expected = kmeans(points, 6, refine=1, backend=backend)
    assert fit.wcss == pytest.approx(expected.wcss, rel=1e-3)


@on_every_backend
@pytest.mark.parametrize("scale", [1e-100, 1e-200, 1e-307], ids="scale{:g}".format)
def test_points_closer_than_squares_can_tell_are_still_clustered(backend, scale):
    points = blobs(200, 2, 4) * scale

    fit = kmeans(points, 4, backend=backend)

    assert 1 <= len(fit.centroids) <= 4
    assert np.isfinite(fit.centroids).all()
    assert np.abs(fit.centroids).max() <= np.abs(points).max()


@on_every_backend
def test_points_whose_squares_vanish_are_warned_of(backend):
    fit = kmeans(
        np.array([[1.0], [2.0], [3.0]], np.float32) * np.float32(1e-30), 2, backend=backend
    )

    assert len(fit.centroids) < 2
    assert "scale the points" in fit.warnings[0]


@on_every_backend
def test_refining_leaves_the_trap_of_a_bad_start(backend):
    points = np.concatenate([blobs(100, 2, 1, seed=s, spread=0.1) for s in range(6)])
    start = points[:6]  # all in the first blob

    trapped = kmeans(points, 6, init=start, tol=0.0, backend=backend)
    refined = kmeans(points, 6, init=start, tol=0.0, refine=1, backend=backend)

    assert refined.wcss <= trapped.wcss
    assert refined.wcss < 600 * 2 * 0.1**2 * 1.3


# What is said about the fit


@on_every_backend
def test_a_fit_that_is_cut_short_says_that_it_did_not_converge(backend):
    fit = kmeans(blobs(500, 2, 9), 9, max_iter=1, tol=0.0, backend=backend)

    assert (fit.n_iter, fit.converged) == (1, False)


@on_every_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_cluster_is_the_weighted_mean(backend, dtype):
    points, weights = blobs(500, 3, 4).astype(dtype), np.random.default_rng(0).uniform(0, 2, 500)

    fit = kmeans(points, 1, weights=weights, backend=backend)

    mean = np.average(points.astype(np.float64), axis=0, weights=weights)
    total = (weights[:, None] * (points - mean) ** 2).sum()
    np.testing.assert_allclose(fit.centroids[0], mean, rtol=1e-5)
    assert fit.wcss == pytest.approx(total, rel=1e-5)
    assert not fit.labels.any()


@on_every_backend
def test_progress_is_reported_in_shares_that_rise(backend):
    shares = []

    kmeans(blobs(500, 2, 9), 9, n_init=3, refine=1, on_progress=shares.append, backend=backend)

    assert len(shares) > 3
    assert all(0 <= share <= 1 for share in shares)
    assert shares == sorted(shares)


@on_every_backend
def test_what_the_progress_hook_raises_ends_the_fit(backend):
    def stop(_):
        raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"):
        kmeans(blobs(500, 2, 9), 9, on_progress=stop, backend=backend)


def test_more_clusters_than_a_byte_can_name_are_taken():
    fit = kmeans(blobs(2000, 3, 9), 400, max_iter=3)

    assert fit.centroids.shape == (400, 3)
    assert len(np.unique(fit.labels)) == 400
