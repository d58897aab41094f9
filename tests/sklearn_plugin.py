"""A pytest plugin that runs scikit-learn's own tests of KMeans against ours.

    python -m pytest -p sklearn_plugin --pyargs sklearn.cluster.tests.test_k_means

Ours is put in place before that module is imported, so the tests are those of the installed
scikit-learn, with nothing copied. What cannot apply is left out, and what is known to fail is
expected to, each by name and with its reason; a test that passes although it is expected to fail is
an error, and so is a name that scikit-learn no longer has.
"""

import numpy as np
import pytest
import torch

MINI_BATCH = "about MiniBatchKMeans, which we do not have"
HELPER = "calls a private helper of scikit-learn, not KMeans"

NOT_APPLICABLE = {
    "test_euclidean_distance": HELPER,
    "test_inertia": HELPER,
    "test_is_same_clustering": HELPER,
    "test_kmeans_plusplus_wrong_params": "about x_squared_norms, which our seeding does not take",
    "test_minibatch_declared_convergence": MINI_BATCH,
    "test_minibatch_iter_steps": MINI_BATCH,
    "test_minibatch_kmeans_init_size": MINI_BATCH,
    "test_minibatch_kmeans_partial_fit_init": MINI_BATCH,
    "test_minibatch_kmeans_verbose": MINI_BATCH,
    "test_minibatch_kmeans_warning_init_size": MINI_BATCH,
    "test_minibatch_reassign": MINI_BATCH,
    "test_minibatch_sensible_reassign": MINI_BATCH,
    "test_minibatch_update_consistency": MINI_BATCH,
    "test_minibatch_with_many_reassignments": MINI_BATCH,
    "test_relocate_empty_clusters": HELPER,
}
EXPECTED_FAILURES: dict[str, str] = {}  # by name, each with its reason


def pytest_configure():
    """Put ours in place: in the package, and in the module whose `k_means` function calls it."""
    import sklearn.cluster
    from sklearn.cluster import _kmeans

    from gpu_kmeans import KMeans

    KMeans._init_centroids = _init_centroids
    sklearn.cluster.KMeans = _kmeans.KMeans = KMeans
    sklearn.cluster.kmeans_plusplus = _kmeans_plusplus


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Leave out what does not apply; expect to fail what is known to."""
    known = {item.originalname for item in items}
    if unknown := (NOT_APPLICABLE.keys() | EXPECTED_FAILURES.keys()) - known:
        message = f"scikit-learn has no such tests any more: {sorted(unknown)}"
        raise pytest.UsageError(message)
    left_out = [item for item in items if _is_left_out(item)]
    items[:] = [item for item in items if not _is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    for item in items:
        if reason := EXPECTED_FAILURES.get(item.originalname):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def _is_left_out(item):
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = {getattr(value, "__name__", "") for value in parameters}
    return item.originalname in NOT_APPLICABLE or "MiniBatchKMeans" in names


def _init_centroids(_self, *, X, init, sample_weight, n_centroids, random_state, **_unused):
    """Stand in for the private method two of the tests call, with our seeding."""
    from gpu_kmeans.backends import backend_for
    from gpu_kmeans.seeding import greedy_seeds, random_seeds

    backend = backend_for(torch.device("cpu"))
    exists = sample_weight > 0
    points, weights = torch.from_numpy(X[exists]), torch.from_numpy(sample_weight[exists])
    problem = backend.pack([points], [weights], is_integral=False)
    rng = np.random.default_rng(random_state.randint(2**31))
    if init == "random":
        return random_seeds(problem, n_centroids, rng).numpy()
    return greedy_seeds(backend, problem, n_centroids, rng).numpy()


def _kmeans_plusplus(X, n_clusters, *, random_state=None, **_unused):
    """Stand in for scikit-learn's function, with our seeding."""
    from sklearn.utils import check_random_state

    rows = np.ascontiguousarray(X.toarray() if hasattr(X, "toarray") else X)
    centers = _init_centroids(
        None,
        X=rows,
        init="k-means++",
        sample_weight=np.ones(len(rows)),
        n_centroids=n_clusters,
        random_state=check_random_state(random_state),
    )
    return centers, np.array([(rows == center).all(axis=1).argmax() for center in centers])
