"""KMeans does what scikit-learn's does, for arrays and for tensors."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gpu_kmeans import (
    DeviceError,
    InputError,
    KMeans,
    OptionError,
    ShapeError,
    estimator,
    kmeans,
)
from gpu_kmeans.distances import distances

CENTERS = np.array([[0.0, 0.0, 0.0], [4.0, 4.0, 0.0], [0.0, 4.0, 8.0]])


def blobs(dtype=np.float64, n=90):
    rng = np.random.default_rng(0)
    return (CENTERS[np.arange(n) % 3] + rng.normal(0, 0.4, (n, 3))).astype(dtype)


def outputs(model, X):
    """Everything array-like that a fitted model holds or answers."""
    return {
        "cluster_centers_": model.cluster_centers_,
        "labels_": model.labels_,
        "predict": model.predict(X),
        "transform": model.transform(X),
        "fit_predict": model.fit_predict(X),
        "fit_transform": model.fit_transform(X),
    }


# Rows of pixels count once


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize("form", ["uint8", "int64", "float32", "scaled"])
def test_equal_rows_of_pixels_count_once_and_change_nothing(monkeypatch, d, form):
    sizes, kmeans = [], estimator.kmeans
    monkeypatch.setattr(
        estimator, "kmeans", lambda rows, *a, **b: sizes.append(len(rows)) or kmeans(rows, *a, **b)
    )
    levels = np.random.default_rng(d).integers(0, 6, (3000, d)) * 40
    X = levels / 255 if form == "scaled" else levels.astype(form)
    init = np.random.default_rng(d).uniform(0, X.max(), (5, d))

    counted = KMeans(5, init=init).fit(X)
    moved = KMeans(5, init=init + 0.1).fit(X + 0.1)

    assert sizes == [len(np.unique(levels, axis=0)), 3000]
    assert counted.n_iter_ == moved.n_iter_
    np.testing.assert_allclose(counted.cluster_centers_, moved.cluster_centers_ - 0.1, atol=1e-3)
    assert counted.inertia_ == pytest.approx(moved.inertia_, rel=1e-4)
    np.testing.assert_array_equal(counted.predict(X), counted.labels_)


def test_the_textbook_program_runs_as_it_is_written():
    photo = load_sample_image("china.jpg")[::4, ::4]
    rows = [tuple(pixel) for row in photo.tolist() for pixel in row]

    model = KMeans(n_clusters=16, init="k-means++", n_init=10, max_iter=20)
    labels = model.fit_predict(np.array(rows))
    picture = model.cluster_centers_[labels].round().astype("uint8").reshape(photo.shape)
    wcss = [KMeans(n_clusters=k).fit(np.array(rows)).inertia_ for k in range(1, 6)]

    assert ((picture.astype(float) - photo) ** 2).sum() == pytest.approx(model.inertia_, rel=1e-2)
    assert wcss == sorted(wcss, reverse=True)


# Tensors and arrays


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_go_in_and_tensors_come_out_on_the_same_device(dtype, device):
    X = torch.from_numpy(blobs()).to(device, dtype)
    model = KMeans(3, random_state=0).fit(X, sample_weight=torch.ones(len(X), device=device))

    for name, values in outputs(model, X).items():
        assert isinstance(values, torch.Tensor), name
        assert values.device == X.device, name
        assert values.dtype == (torch.int32 if values.ndim == 1 else dtype), name
    assert isinstance(model.inertia_, float)
    assert model.score(X) == pytest.approx(-model.inertia_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_go_in_and_arrays_of_their_type_come_out(dtype):
    X = blobs(dtype)
    model = KMeans(3, random_state=0).fit(X)

    for name, values in outputs(model, X).items():
        assert isinstance(values, np.ndarray), name
        assert values.dtype == (np.int32 if values.ndim == 1 else dtype), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_a_tensor_and_the_equal_array_give_the_same_bits(dtype):
    X = (blobs() * 20 + 9).clip(0).astype(dtype)

    of_array = KMeans(3, random_state=0).fit(X)
    of_tensor = KMeans(3, random_state=0).fit(torch.from_numpy(X))

    np.testing.assert_array_equal(of_tensor.cluster_centers_.numpy(), of_array.cluster_centers_)
    np.testing.assert_array_equal(of_tensor.labels_.numpy(), of_array.labels_)
    assert of_tensor.inertia_ == of_array.inertia_


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float16, np.float64),
        (np.longdouble, np.float64),
        (np.int32, np.float64),
        (np.uint64, np.float64),
        (np.bool_, np.float64),
        (np.dtype(">f4"), np.float32),
    ],
    ids=str,
)
def test_other_number_types_are_widened(dtype, expected):
    model = KMeans(2, random_state=0).fit((blobs() > 2).astype(dtype))

    assert model.cluster_centers_.dtype == expected


def test_unsigned_numbers_beyond_int64_keep_their_sign():
    model = KMeans(2, random_state=0).fit(np.array([[0], [2**64 - 1]], np.uint64))

    assert sorted(model.cluster_centers_[:, 0]) == [0, 2.0**64]


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_tensors_are_taken_as_their_arrays_are(dtype):
    X = torch.tensor([[1, 2], [3, 4], [500, 6]])

    model = KMeans(2, random_state=0).fit(X.to(dtype))

    assert model.inertia_ == KMeans(2, random_state=0).fit(X.numpy()).inertia_
    assert model.predict(X.to(dtype)).tolist() == model.labels_.tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.bool, torch.int32])
def test_other_tensor_types_are_widened(dtype):
    model = KMeans(2, random_state=0).fit(torch.from_numpy(blobs() > 2).to(dtype))

    wide = torch.float32 if dtype.is_floating_point else torch.float64
    assert model.cluster_centers_.dtype == wide


def test_a_tensor_with_gradients_is_taken_for_its_values():
    X = torch.from_numpy(blobs()).requires_grad_()

    assert not KMeans(3).fit(X).transform(X).requires_grad


def test_what_comes_out_follows_what_goes_in_not_what_was_fitted():
    X = blobs()
    model = KMeans(3, random_state=0).fit(X)

    labels = model.predict(torch.from_numpy(X))

    assert isinstance(labels, torch.Tensor)
    np.testing.assert_array_equal(labels.numpy(), model.labels_)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (torch.zeros(3), "must be .n, d."),
        (torch.zeros(0, 3), "no points"),
        (torch.tensor([[0.0], [torch.nan]]), "finite"),
        (torch.zeros(2, 2, dtype=torch.complex64), "real numbers"),
        (torch.eye(3).to_sparse(), "to_dense"),
    ],
    ids=["1-d", "empty", "nan", "complex", "sparse"],
)
def test_a_tensor_that_cannot_be_clustered_is_refused(X, message):
    with pytest.raises(InputError, match=message):
        KMeans(1).fit(X)


def test_a_tensor_of_other_width_than_the_fit_is_refused():
    model = KMeans(3).fit(torch.from_numpy(blobs()))

    with pytest.raises(ValueError, match="expecting 3 features"):
        model.predict(torch.zeros(2, 4))


# Other distances


METRICS = [("cityblock", 2), ("chebyshev", 2), ("minkowski", 3), ("cosine", 2)]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize(("metric", "p"), METRICS)
def test_another_distance_is_that_of_kmeans_in_every_method(metric, p, kind):
    X, weights = blobs() + 9, np.arange(90) % 3 + 1.0
    init = X[:3]

    model = KMeans(3, init=init, metric=metric, p=p).fit(kind(X), sample_weight=weights)

    ours = kmeans(X, 3, weights=weights, init=init, metric=metric, p=p)
    away = distances(torch.from_numpy(X), torch.from_numpy(ours.centroids), metric, p)
    np.testing.assert_array_equal(model.cluster_centers_, ours.centroids)
    np.testing.assert_array_equal(model.labels_, ours.labels)
    np.testing.assert_array_equal(model.predict(kind(X)), ours.labels)
    np.testing.assert_allclose(model.transform(kind(X)), away, rtol=1e-12, atol=1e-15)
    assert model.inertia_ == ours.wcss
    assert model.score(kind(X), sample_weight=weights) == pytest.approx(-ours.wcss)


def test_rows_too_near_for_a_power_of_their_distance_still_have_a_nearest_centre():
    model = KMeans(2, metric="minkowski", p=50, random_state=0).fit(blobs() / 9)
    rows = np.array([[0.5, 0.5, 0.5], [0.5 + 1e-7, 0.5, 0.5], [1e6, 0.5, 0.5]])

    together = model.predict(rows), model.transform(rows)

    for i in range(3):
        assert together[0][i] == model.predict(rows[i : i + 1])[0]
        np.testing.assert_array_equal(together[1][i], model.transform(rows[i : i + 1])[0])


def test_equal_rows_count_once_under_another_distance_too():
    X = np.random.default_rng(0).integers(0, 9, (500, 2))

    counted = KMeans(4, init=X[:4], metric="cityblock").fit(X)

    plain = kmeans(X, 4, init=X[:4].astype(float), metric="cityblock")
    assert counted.inertia_ == plain.wcss
    np.testing.assert_array_equal(counted.predict(X), counted.labels_)


def test_a_row_without_direction_is_named_as_it_stands_in_the_table():
    X = np.array([[1, 2], [1, 2], [3, 1], [0, 0]])

    with pytest.raises(InputError, match="row 3 is all zeros"):
        KMeans(2, metric="cosine").fit(X)
    model = KMeans(2, metric="cosine").fit(X, sample_weight=[1, 1, 1, 0])
    with pytest.raises(InputError, match="row 3 is all zeros"):
        model.predict(X)
    with pytest.raises(InputError, match="row 3 is all zeros"):
        model.transform(X)


# Sparse matrices


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_a_sparse_matrix_gives_what_its_dense_form_gives(kind):
    X = np.where(blobs() > 2, blobs(), 0)

    of_sparse, of_dense = KMeans(3, random_state=0).fit(kind(X)), KMeans(3, random_state=0).fit(X)

    np.testing.assert_array_equal(of_sparse.labels_, of_dense.labels_)
    np.testing.assert_array_equal(of_sparse.predict(kind(X)), of_dense.labels_)


def test_a_sparse_matrix_too_large_to_be_dense_is_refused():
    with pytest.raises(InputError, match=r"would take 7450.6 GiB, over 2; reduce it first"):
        KMeans(3).fit(sparse.csr_array((10**6, 10**6)))


# Parameters


def given_first_rows(X, n_clusters, random_state):
    assert isinstance(random_state, np.random.RandomState)
    return X[:n_clusters]


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.from_numpy, sparse.csr_array], ids=["array", "tensor", "sparse"]
)
def test_a_callable_gives_the_first_centres(kind):
    X = blobs()

    called = KMeans(3, init=given_first_rows, n_init=1).fit(kind(X))
    given_centers = KMeans(3, init=X[:3]).fit(kind(X))

    np.testing.assert_array_equal(called.labels_, given_centers.labels_)
    assert called.inertia_ == given_centers.inertia_


def test_a_callable_is_called_for_every_start_and_the_best_is_kept():
    X, calls = np.array([[0.0], [1.0], [10.0], [11.0], [20.0], [21.0]]), []

    def init(_, n_clusters, random_state):
        calls.append(random_state.randint(1000))
        return X[:n_clusters] if len(calls) != 4 else X[::2]

    model = KMeans(3, init=init, random_state=0).fit(X)

    assert len(set(calls)) == 10
    assert model.inertia_ == 1.5


def test_several_starts_from_given_centres_are_warned_of():
    with pytest.warns(RuntimeWarning, match="performing only one init in KMeans instead of n_init"):
        KMeans(3, init=CENTERS, n_init=4).fit(blobs())


def test_given_centres_are_not_changed():
    init = CENTERS + 1
    KMeans(3, init=init).fit(blobs())

    np.testing.assert_array_equal(init, CENTERS + 1)


@pytest.mark.parametrize(
    "init", ["k-means++", "random", given_first_rows], ids=["k-means++", "random", "callable"]
)
def test_a_whole_number_as_random_state_gives_the_same_bits_each_time(init):
    X = np.random.default_rng(0).normal(size=(500, 3))

    first, second = (KMeans(9, init=init, random_state=7).fit(X) for _ in range(2))

    np.testing.assert_array_equal(first.cluster_centers_, second.cluster_centers_)


def test_a_random_state_is_drawn_from_and_so_is_numpys_global_one():
    X, rng = np.random.default_rng(0).normal(size=(500, 3)), np.random.RandomState(0)
    model = KMeans(9, max_iter=1, random_state=rng)

    assert model.fit(X).inertia_ != model.fit(X).inertia_

    np.random.seed(0)  # noqa: NPY002 - what programs from the textbook do
    seeded = KMeans(9, max_iter=1).fit(X)
    assert seeded.inertia_ == KMeans(9, max_iter=1, random_state=0).fit(X).inertia_


def test_centres_that_are_given_draw_no_random_numbers():
    rng = np.random.RandomState(0)
    KMeans(3, init=CENTERS, random_state=rng).fit(blobs())

    assert rng.randint(1000) == np.random.RandomState(0).randint(1000)


@pytest.mark.parametrize("tol", [0, 1e-2])
def test_verbose_writes_the_iterations_to_standard_output(capsys, tol):
    X = np.random.default_rng(0).normal(size=(500, 3))

    model = KMeans(5, random_state=0, tol=tol, verbose=1).fit(X)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Initialization complete"
    assert [line.split(",")[0] for line in lines[1:-1]] == [
        f"Iteration {i}" for i in range(model.n_iter_)
    ]
    why = f"center shift is within tolerance {tol}" if tol else "strict convergence"
    assert lines[-1] == f"Converged at iteration {model.n_iter_ - 1}: {why}."


def test_it_is_silent_unless_asked(capsys):
    KMeans(3).fit(blobs())

    assert not capsys.readouterr().out


@pytest.mark.parametrize("copy_x", [True, False])
def test_the_rows_are_never_changed(copy_x):
    X = blobs()
    KMeans(3, copy_x=copy_x).fit(X)

    np.testing.assert_array_equal(X, blobs())


def test_elkan_is_another_name_for_the_same():
    X = blobs()

    lloyd, elkan = (KMeans(3, random_state=0, algorithm=a).fit(X) for a in ("lloyd", "elkan"))

    np.testing.assert_array_equal(lloyd.cluster_centers_, elkan.cluster_centers_)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_backend_can_be_chosen(backend):
    X = blobs()

    model = KMeans(3, init=CENTERS, backend=backend).fit(X)

    np.testing.assert_array_equal(model.predict(X), KMeans(3, init=CENTERS).fit(X).labels_)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 0}, "n_clusters=0 is not allowed: a whole number from 1 up"),
        ({"n_clusters": 2.0}, "n_clusters=2.0"),
        ({"n_init": 0}, "n_init=0"),
        ({"n_init": "many"}, "n_init='many' is not allowed: 'auto' or a whole number"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"tol": -1.0}, "tol=-1.0"),
        ({"init": "best"}, "init='best'"),
        ({"algorithm": "full"}, "algorithm='full' is not allowed: 'lloyd' or 'elkan'"),
        ({"device": "abacus"}, "device='abacus' is not allowed: 'cpu', 'cuda', 'auto' or None"),
        ({"backend": "abacus"}, "backend='abacus'"),
    ],
    ids=str,
)
def test_a_parameter_out_of_range_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        KMeans(**options).fit(blobs())


@pytest.mark.parametrize("init", [CENTERS[:2], CENTERS[:, :2], CENTERS[0], 5.0], ids=np.shape)
def test_centres_of_another_shape_are_refused(init):
    with pytest.raises(ShapeError, match=r"The shape of the initial centers .* does not match"):
        KMeans(3, init=init).fit(blobs())


def test_centres_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="init must be finite"):
        KMeans(3, init=CENTERS * np.nan).fit(blobs())


def test_more_clusters_than_rows_are_refused():
    with pytest.raises(InputError, match=r"n_samples=90 should be >= n_clusters=91"):
        KMeans(91).fit(blobs())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_a_device_that_is_not_there_is_refused_unless_left_open():
    with pytest.raises(DeviceError, match="CUDA cannot be had"):
        KMeans(3, device="cuda").fit(blobs())
    with pytest.raises(DeviceError, match="device='meta' cannot be had here"):
        KMeans(3, device="meta").fit(blobs())

    assert KMeans(3, device="auto").fit(blobs()).n_iter_


def test_arrays_computed_on_a_device_come_back_as_arrays(device):
    X = blobs()

    model = KMeans(3, random_state=0, device=device).fit(X)

    assert isinstance(model.labels_, np.ndarray)
    np.testing.assert_array_equal(model.predict(X), model.labels_)


# Weights


@given(st.lists(st.integers(0, 4), min_size=90, max_size=90).filter(lambda w: sum(w) > 9))
def test_from_given_centres_a_row_of_weight_w_counts_as_w_rows(weights):
    X, init = blobs(), CENTERS[::-1] + 1

    weighted = KMeans(3, init=init).fit(X, sample_weight=weights)
    repeated = KMeans(3, init=init).fit(np.repeat(X, weights, axis=0))

    np.testing.assert_allclose(weighted.cluster_centers_, repeated.cluster_centers_, atol=1e-9)
    np.testing.assert_array_equal(np.repeat(weighted.labels_, weights), repeated.labels_)
    assert weighted.n_iter_ == repeated.n_iter_
    assert weighted.score(X, sample_weight=weights) == pytest.approx(-weighted.inertia_)


@pytest.mark.parametrize(
    "weights", [list(range(90)), np.arange(90, dtype=np.float32), torch.arange(90)], ids=type
)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_weights_come_as_anything_one_dimensional(weights, kind):
    X = kind(blobs())
    model = KMeans(3, init=CENTERS).fit(X, sample_weight=weights)

    expected = KMeans(3, init=CENTERS).fit(blobs(), sample_weight=np.arange(90.0))
    assert model.inertia_ == expected.inertia_
    assert model.score(X, sample_weight=weights) == pytest.approx(-expected.inertia_)


def test_one_number_weighs_every_row():
    model = KMeans(3, init=CENTERS).fit(blobs(), sample_weight=2)

    assert model.inertia_ == pytest.approx(2 * KMeans(3, init=CENTERS).fit(blobs()).inertia_)


@pytest.mark.parametrize("weights", [np.full(90, -1.0), np.zeros(90), np.full(90, np.nan)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_weights_that_weigh_nothing_sensible_are_refused(weights, kind):
    with pytest.raises(ValueError, match=r"[Ww]eight"):
        KMeans(3).fit(kind(blobs()), sample_weight=weights)


def test_a_row_of_weight_zero_is_labelled_but_moves_nothing():
    X, weights = blobs(), np.arange(90) % 2
    model = KMeans(3, init=CENTERS).fit(X, sample_weight=weights)

    alone = KMeans(3, init=CENTERS).fit(X[1::2])
    np.testing.assert_array_equal(model.cluster_centers_, alone.cluster_centers_)
    np.testing.assert_array_equal(model.labels_, alone.predict(X))


# Fewer distinct rows than clusters


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_with_fewer_distinct_rows_than_clusters_centres_repeat_and_a_warning_says_so(kind):
    X = kind([[0.0], [1.0], [1.0], [5.0]])
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(3\) found smaller than"):
        model = KMeans(4, random_state=0).fit(X)

    assert model.cluster_centers_.shape == (4, 1)
    assert {float(c) for c in model.cluster_centers_[:, 0]} == {0.0, 1.0, 5.0}
    assert set(model.labels_.tolist()) == {0, 1, 2}
    assert model.predict(X).tolist() == model.labels_.tolist()
    assert model.inertia_ == 0


# Among scikit-learn's tools


def test_a_model_that_is_not_fitted_says_so():
    for method in ("predict", "transform", "score"):
        with pytest.raises(NotFittedError):
            getattr(KMeans(), method)(blobs())


def test_it_is_a_step_of_a_pipeline():
    model = make_pipeline(StandardScaler(), KMeans(3, random_state=0))
    model.fit(blobs(), kmeans__sample_weight=np.ones(90))

    assert len(np.unique(model.predict(blobs()))) == 3
    assert model.transform(blobs()).shape == (90, 3)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_grid_search_finds_the_number_of_clusters_the_score_prefers(kind):
    search = GridSearchCV(KMeans(random_state=0), {"n_clusters": [1, 2, 3]}, cv=3)

    assert search.fit(kind(blobs())).best_params_ == {"n_clusters": 3}


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_fitted_model_survives_pickling(kind):
    X = kind(blobs())
    model = KMeans(3, random_state=0).fit(X)

    again = pickle.loads(pickle.dumps(model))  # noqa: S301 - ours

    assert type(again.labels_) is type(model.labels_)
    assert again.predict(X).tolist() == model.labels_.tolist()


def test_a_clone_has_the_parameters_and_no_fit():
    model = KMeans(3, init=CENTERS, tol=0.5, device="cpu").fit(blobs())

    again = clone(model)

    assert again.get_params().keys() == model.get_params().keys()
    assert (again.tol, again.device, again.init.tolist()) == (0.5, "cpu", CENTERS.tolist())
    assert not hasattr(again, "labels_")


def test_data_frames_give_names_to_features_and_take_them():
    frame = pd.DataFrame(blobs(), columns=["r", "g", "b"])
    model = KMeans(2, random_state=0).set_output(transform="pandas").fit(frame)

    distances = model.transform(frame)

    assert model.feature_names_in_.tolist() == ["r", "g", "b"]
    assert distances.columns.tolist() == ["kmeans0", "kmeans1"]
    assert model.get_feature_names_out().tolist() == ["kmeans0", "kmeans1"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "g", "r"]])


def test_a_tensor_forgets_the_names_of_the_features():
    model = KMeans(2).fit(pd.DataFrame(blobs(), columns=["r", "g", "b"]))

    assert not hasattr(model.fit(torch.from_numpy(blobs())), "feature_names_in_")
