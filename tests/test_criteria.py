"""What the curve says about k: every criterion, on blobs whose number is known."""

import numpy as np
import pytest
from sklearn.metrics import calinski_harabasz_score

from gpu_kmeans import OptionError, elbow, kmeans

METRICS = [("euclidean", 2), ("cityblock", 2), ("chebyshev", 2), ("minkowski", 3), ("cosine", 2)]
every_metric = pytest.mark.parametrize(("metric", "p"), METRICS)


def blobs(d=2, centers=4, n=200):
    """Four clumps far apart, also as directions."""
    rng = np.random.default_rng(5)
    corners = np.array([[9.0, 0], [0, 9], [-9, 0], [0, -9]])[:centers]
    points = np.zeros((n, d))
    points[:, :2] = corners[np.arange(n) % centers]
    return points + 0.3 * rng.normal(size=(n, d))


@every_metric
def test_every_criterion_finds_four_blobs(metric, p):
    curve = elbow(blobs(d=5), 10, metric=metric, p=p, target_error=1.5)

    found = {name: criterion.k for name, criterion in curve.criteria.items()}
    if metric == "minkowski":
        assert found.pop("target_error") in {3, 4}
    elif metric == "cosine":
        assert found.pop("target_error") == 1  # no two directions are more than 2 apart
    assert set(found.values()) == {4}
    assert curve.knee == 4


@every_metric
def test_the_curve_of_a_metric_falls_to_its_end_at_the_distinct_points(metric, p):
    points = np.array([[1.0, 2], [3, 9], [1, 2], [7, 7], [7, -1]])

    curve = elbow(points, 9, metric=metric, p=p)

    assert curve.ks == (1, 2, 3, 4)
    assert list(curve.wcss) == sorted(curve.wcss, reverse=True)
    assert curve.wcss[-1] == 0
    assert len(curve.fit_s) == 4


@every_metric
def test_the_first_of_the_curve_is_a_fit_of_one_cluster(metric, p):
    points = blobs(d=3)

    curve = elbow(points, 3, metric=metric, p=p)

    one = kmeans(points, 1, metric=metric, p=p, tol=0)
    assert curve.wcss[0] == pytest.approx(one.wcss, rel=1e-3)


@every_metric
def test_the_curve_comes_near_the_best_of_ten_fits(metric, p):
    points = blobs(d=3)

    curve = elbow(points, 5, metric=metric, p=p)

    best = kmeans(points, 4, metric=metric, p=p, n_init=10)
    assert curve.wcss[3] <= best.wcss * 1.01


def test_calinski_harabasz_is_scikit_learn_s():
    points = blobs()
    result = kmeans(points, 4, n_init=5)

    curve = elbow(points, 4)

    ours = curve.criteria["calinski_harabasz"].values[-1]
    assert ours == pytest.approx(calinski_harabasz_score(points, result.labels))


def test_a_simplified_silhouette_is_its_formula():
    points = blobs(centers=3)
    result = kmeans(points, 3, n_init=5)

    value = elbow(points, 3).criteria["silhouette"].values[-1]

    away = np.sort(np.linalg.norm(points[:, None] - result.centroids[None], axis=2), axis=1)
    assert value == pytest.approx((1 - away[:, 0] / away[:, 1]).mean(), rel=1e-6)


def test_a_weight_of_two_counts_twice_in_every_criterion():
    points, weights = blobs(n=40), np.resize([1.0, 2.0], 40)

    weighted = elbow(points, 6, weights=weights).criteria
    repeated = elbow(np.repeat(points, weights.astype(int), axis=0), 6).criteria

    for name, criterion in weighted.items():
        assert criterion.k == repeated[name].k
        ours, theirs = (
            np.array(found, float) for found in (criterion.values, repeated[name].values)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_target_error_of_a_picture_is_in_its_levels():
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)

    curve = elbow(picture, 20, target_error=60.0)

    criterion = curve.criteria["target_error"]
    assert criterion.values[0] == pytest.approx(np.sqrt(curve.wcss[0] / 144))
    at = curve.ks.index(criterion.k)
    assert criterion.values[at] <= 60 < criterion.values[at - 1]


def test_a_target_out_of_reach_has_no_k():
    assert elbow(blobs(), 3, target_error=1e-6).criteria["target_error"].k is None


def test_equal_points_have_no_criterion_but_the_error():
    criteria = elbow(np.ones((5, 2)), 4).criteria

    assert {name: criterion.k for name, criterion in criteria.items()} == {
        "knee": None,
        "calinski_harabasz": None,
        "silhouette": None,
        "target_error": 1,
    }


def test_every_criterion_says_what_it_means():
    assert all(len(c.meaning) > 40 for c in elbow(blobs(), 3).criteria.values())


@pytest.mark.parametrize(
    "keywords",
    [{"target_error": -1.0}, {"target_error": np.nan}, {"metric": "manhattan"}, {"p": 3.0}],
)
def test_a_bad_option_is_refused_by_name(keywords):
    with pytest.raises(OptionError, match=next(iter(keywords))):
        elbow(blobs(), 3, **keywords)


def test_a_picture_takes_no_other_metric():
    with pytest.raises(OptionError, match="give its colours as points"):
        elbow(np.zeros((2, 2, 3), np.uint8), metric="cityblock")
