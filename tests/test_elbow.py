"""The elbow curve and its knee, against the definition and against kneed."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kneed import KneeLocator
from samples import BACKENDS, PICTURES, blobs, photo, with_alpha

from gpu_kmeans import elbow, kmeans, quantize
from gpu_kmeans.elbow import curve_ks, find_knee

on_every_backend = pytest.mark.parametrize("backend", BACKENDS)


def kneed(ks, wcss):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a curve without a knee
        knee = KneeLocator(ks, wcss, curve="convex", direction="decreasing").knee
    return None if knee is None else int(knee)


CURVES = {
    "hyperbola": [100 / k for k in range(1, 21)],
    "steps": [100, 90, 40, 39, 38, 12, 11, 10.5, 10],
    "exponential": [np.exp(-k / 3) for k in range(30)],
    "sharp-bend": [100, 50, 4, 3, 2, 1, 0.5],
    "plateau": [100, 10, 10, 10, 10, 10],
    "late-fall": [100, 99, 98, 97, 96, 5],
    "three-points": [9, 2, 1],
    "photograph": elbow(photo(8), 16).wcss,
}


@pytest.mark.parametrize("name", CURVES)
def test_the_knee_of_a_curve_is_the_one_kneed_finds(name):
    wcss = CURVES[name]
    ks = range(1, len(wcss) + 1)

    assert find_knee(ks, wcss) == kneed(ks, wcss)


@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=40))
def test_the_knee_of_a_random_convex_curve_is_the_one_kneed_finds(bends):
    falls = np.cumsum(bends)
    wcss = np.cumsum(falls)[::-1].tolist()

    assert find_knee(range(1, len(wcss) + 1), wcss) == kneed(range(1, len(wcss) + 1), wcss)


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=30), st.data())
def test_the_knee_of_any_falling_curve_is_the_one_kneed_finds(values, data):
    wcss = sorted(map(float, values), reverse=True)
    gaps = data.draw(st.lists(st.integers(1, 9), min_size=len(wcss), max_size=len(wcss)))
    ks = np.cumsum(gaps).tolist()

    expected = kneed(ks, wcss) if wcss[0] > wcss[-1] else None
    assert find_knee(ks, wcss) == expected


@pytest.mark.parametrize(
    "wcss", [[5.0], [5.0, 1.0], [3.0, 3.0, 3.0], [4.0, 3.0, 2.0, 1.0]], ids=str
)
def test_a_curve_without_a_bend_has_no_knee(wcss):
    assert find_knee(range(1, len(wcss) + 1), wcss) is None


@on_every_backend
def test_the_knee_of_well_separated_blobs_is_their_number(backend):
    centers = np.array([[0.0, 0], [50, 0], [0, 50], [50, 50], [25, 90]])
    points = np.repeat(centers, 60, axis=0) + np.random.default_rng(0).normal(size=(300, 2))

    assert elbow(points, 12, backend=backend).knee == 5


@on_every_backend
def test_each_k_is_near_what_a_fit_of_its_own_finds(backend):
    pixels = photo(8)

    curve = elbow(pixels, 12, backend=backend)

    rows, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    fits = [kmeans(rows, k, weights=counts, seed=k, backend=backend).wcss for k in curve.ks]
    ratios = np.array(curve.wcss) / fits
    assert ratios.mean() < 1.01
    assert ratios.max() < 1.1


@on_every_backend
def test_wcss_of_one_cluster_is_the_total_about_the_mean(backend):
    rows = photo(5).reshape(-1, 3).astype(float)

    curve = elbow(photo(5), 2, backend=backend)

    assert curve.wcss[0] == pytest.approx(((rows - rows.mean(axis=0)) ** 2).sum(), rel=1e-12)


@on_every_backend
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e9], ids="offset{:g}".format)
def test_where_the_origin_lies_does_not_matter(backend, offset):
    centers = np.array([[0.0, 0], [50, 0], [0, 50], [50, 50]])
    points = np.repeat(centers, 60, axis=0) + np.random.default_rng(0).normal(size=(240, 2))

    curve = elbow(points + offset, 8, backend=backend)

    expected = elbow(points, 8, backend=backend)
    np.testing.assert_allclose(curve.wcss[:4], expected.wcss[:4], rtol=1e-3)
    assert curve.knee == expected.knee == 4


@on_every_backend
def test_only_the_k_asked_for_are_returned_and_do_not_depend_on_the_others(backend):
    points = blobs(300, 2, 8)

    whole = elbow(points, 12, backend=backend)
    some = elbow(points, ks=[7, 3, 12, 3], backend=backend)

    assert some.ks == (3, 7, 12)
    assert some.wcss == tuple(whole.wcss[k - 1] for k in some.ks)


def test_a_curve_ends_at_the_distinct_points_and_says_so():
    points = np.repeat(np.array([[0.0], [1.0], [5.0]]), 4, axis=0)

    curve = elbow(points, ks=[2, 10, 50])

    assert curve.ks == (2, 3)
    assert curve.wcss == (2.0, 0.0)
    assert "3 distinct points" in curve.warnings[0]


@on_every_backend
def test_a_wcss_that_rounds_to_zero_does_not_end_the_curve(backend):
    points = np.array([[0.1], [np.nextafter(0.1, 1)], [0.0]])

    curve = elbow(points, 5, weights=np.array([3, 2, 2]), backend=backend)

    assert curve.ks == (1, 2, 3)


@pytest.mark.parametrize("name", PICTURES)
def test_the_curve_beside_a_picture_is_the_curve_of_the_picture(name):
    image = quantize(PICTURES[name], 9, space="oklab", dither=0.5, refine=0, curve=True)

    assert image.curve == elbow(PICTURES[name], 9)


def test_the_curve_beside_a_photograph_meets_the_longer_one():
    pixels = with_alpha(photo(8))

    beside = quantize(pixels, 20, refine=0, curve=True).curve
    longer = elbow(pixels, 24)

    assert beside.ks == curve_ks(20)
    assert beside.wcss == tuple(longer.wcss[k - 1] for k in beside.ks)


@pytest.mark.parametrize("k", [1, 2, 15, 16, 17, 64, 200, 256])
def test_the_ks_of_a_curve_are_dense_at_first_and_end_at_k(k):
    ks = curve_ks(k)

    assert ks[: min(k, 16)] == tuple(range(1, min(k, 16) + 1))
    assert ks[-1] == k
    assert list(ks) == sorted(set(ks))
    assert len(ks) <= 16 + 8 * 4 + 1


@on_every_backend
def test_progress_rises_and_what_the_hook_raises_ends_the_curve(backend):
    shares = []
    elbow(photo(12), 6, on_progress=shares.append, backend=backend)

    def stop(_):
        raise TimeoutError("enough")

    assert shares == sorted(shares)
    assert shares[-1] == 1
    with pytest.raises(TimeoutError, match="enough"):
        elbow(photo(12), 6, on_progress=stop, backend=backend)


@pytest.mark.parametrize(
    ("metric", "p"), [("cityblock", 2), ("chebyshev", 2), ("cosine", 2), ("minkowski", 3)]
)
def test_a_curve_by_another_metric_is_near_fits_of_each_k(metric, p):
    above = []
    for seed in range(5):
        points = 5 + np.random.default_rng(seed).normal(size=(200, 3)).astype(np.float32)
        curve = elbow(points, 12, metric=metric, p=p)
        fits = {k: kmeans(points, k, metric=metric, p=p, n_init=3) for k in (2, 3, 5, 8, 12)}
        above += [curve.wcss[k - 1] / fit.wcss for k, fit in fits.items()]

    assert np.mean(above) < 1.01
