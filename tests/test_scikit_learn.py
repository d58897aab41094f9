"""scikit-learn's own checks and tests pass against ours, and both walk the same way."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import sklearn.cluster
from sklearn.datasets import load_sample_image
from sklearn.utils.estimator_checks import parametrize_with_checks

from gpu_kmeans import KMeans

ROOT = Path(__file__).parents[1]
# Merging and sorting equal rows before seeding would mend it, but costs more than it gives: of
# 200,000 rows of three floats, k = 8, finding equal ones by torch.unique took 1.6 times the whole
# fit, by a hash, a sort and a gather 0.98 (medians of three in one run, two busy cores). Tables of
# few levels, where rows do repeat, are merged in any case (gpu_kmeans/equal_rows.py).
RANDOM_SEEDS = (
    "the seeds are drawn from the rows in their order, so that repeated and reordered rows start "
    "elsewhere; with given centres the two are equal"
)


def test_it_takes_every_parameter_of_scikit_learn_with_its_default():
    theirs = sklearn.cluster.KMeans().get_params()

    assert theirs.items() <= KMeans().get_params().items()


@parametrize_with_checks(
    [KMeans(), KMeans(metric="cityblock")],
    expected_failed_checks=lambda _: {
        "check_sample_weight_equivalence_on_dense_data": RANDOM_SEEDS,
        "check_sample_weight_equivalence_on_sparse_data": RANDOM_SEEDS,
    },
    xfail_strict=True,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # four distinct rows
def test_it_passes_the_check_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """What became of scikit-learn's own tests of KMeans, run against ours: {test: outcome}."""
    folder = tmp_path_factory.mktemp("suite")
    command = [sys.executable, "-m", "pytest", "-p", "sklearn_plugin", "-p", "no:randomly"]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    command += ["--junitxml", "report.xml", "--pyargs", "sklearn.cluster.tests.test_k_means"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)]),
        "SKLEARN_RUN_FLOAT32_TESTS": "1",
    }
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (folder / "report.xml").exists(), run.stdout + run.stderr
    cases = ET.parse(folder / "report.xml").iter("testcase")  # noqa: S314 - made above
    outcomes = {
        case.get("name"): (case[0].tag, case[0].get("type") or "", case[0].text)
        if len(case)
        else ()
        for case in cases
    }
    return run.returncode, outcomes


def test_the_tests_of_scikit_learn_pass_against_ours(suite):
    returncode, outcomes = suite
    unexpected = {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome and outcome[:2] != ("skipped", "pytest.xfail")
    }

    assert not unexpected
    assert returncode == 0


def test_most_of_the_tests_of_scikit_learn_apply(suite):
    functions = {name.split("[")[0] for name in suite[1]}

    assert len(functions) >= 40


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("d", [1, 3, 6])
@pytest.mark.parametrize("options", [{}, {"tol": 0}, {"tol": 0.01}, {"max_iter": 3}], ids=str)
def test_from_the_same_centres_it_walks_as_scikit_learn_does(seed, d, options):
    rng = np.random.default_rng(seed)
    X, init = rng.normal(size=(700, d)), rng.normal(size=(7, d))

    ours = KMeans(7, init=init, **options).fit(X)
    theirs = sklearn.cluster.KMeans(7, init=init, **options).fit(X)

    assert ours.n_iter_ == theirs.n_iter_
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-9)


@pytest.mark.parametrize("k", [4, 16])
def test_on_a_photograph_it_walks_as_scikit_learn_does(k):
    X = load_sample_image("flower.jpg")[::8, ::8].reshape(-1, 3)
    init = np.random.default_rng(k).permutation(np.unique(X, axis=0))[:k] + 0.3

    ours = KMeans(k, init=init).fit(X)
    theirs = sklearn.cluster.KMeans(k, init=init).fit(X)

    assert ours.n_iter_ == theirs.n_iter_
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
