"""Iterations in one compiled call against their definition, to the bit; and where they stop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import color_problem

from gpu_kmeans.backends import backend_for, layouts, reference
from gpu_kmeans.backends.cpu import ITERATIONS_AT_ONCE
from gpu_kmeans.descent import descend, mean_variances
from gpu_kmeans.distances import EUCLIDEAN, OVER_RELAXED

CPU = torch.device("cpu")
on_both_metrics = pytest.mark.parametrize(
    "metric", [EUCLIDEAN, OVER_RELAXED], ids=["means", "beyond"]
)
HEAVY = 2.0**30  # a weight that the loops on whole numbers do not take: those in floating point do


def descents(points, weights, starts, **words):
    """What the compiled loops find, after seeing that the definition finds the same."""
    found = []
    for name in ("cpu", "reference"):
        engine = backend_for(CPU, name)
        problems = engine.pack(points, weights, is_integral=True)
        found.append(descend(engine, problems, starts, **words))
    for one, other in zip(*found, strict=True):
        assert one.wcss_history == other.wcss_history
        assert (one.wcss, one.n_iter, one.converged) == (other.wcss, other.n_iter, other.converged)
        for values in ("centroids", "labels", "masses", "means"):
            assert torch.equal(getattr(one, values), getattr(other, values)), values
    return found[0]


@pytest.fixture(params=[1, 3], ids="threads{}".format)
def _threads(request, monkeypatch):
    """One thread, and several that share even a small problem's passes."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr(layouts, "FEWEST_TILES", 8)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@on_both_metrics
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("k", [1, 2, 8, 64, 256])
@pytest.mark.parametrize(("tol", "still"), [(0.0, 0.0), (1e-3, 0.0), (0.0, 1e-3), (1e-4, 1e-4)])
def test_colors_descend_to_the_same_bits(metric, channels, k, tol, still):
    points, weights = color_problem(1500, channels)
    start = points[:: len(points) // k][:k].clone()

    found = descents([points], [weights], [start], max_iter=40, tol=tol, still=still, metric=metric)

    assert found[0].n_iter > 1


@pytest.mark.usefixtures("_threads")
@on_both_metrics
@pytest.mark.parametrize("heaviest", [1.0, HEAVY], ids=["light", "heavy"])
@pytest.mark.parametrize("max_iter", [1, 2, ITERATIONS_AT_ONCE, 30])
def test_past_empty_clusters_the_bits_are_the_same(metric, heaviest, max_iter):
    points, weights = color_problem(1500, 3)
    weights = torch.where(torch.arange(len(weights)) == 7, heaviest, weights)
    far = torch.full((2, 3), 2040.0)
    start = torch.cat([points[:6], points[:3], far])  # copies, of which the first gets all

    found = descents([points], [weights], [start], max_iter=max_iter, tol=0.0, metric=metric)

    assert found[0].n_iter == max_iter or found[0].converged
    assert bool(found[0].masses.all()) or max_iter == 1


@on_both_metrics
def test_problems_side_by_side_each_have_their_own_stop(metric):
    points, weights = color_problem(900, 3)
    parts = [points[:1], points[:5], points]
    masses = [weights[: len(part)] for part in parts]
    starts = [points[:1], torch.cat([points[:2], points[:1]]), points[:40]]

    found = descents(parts, masses, starts, max_iter=25, tol=0.0, metric=metric)

    assert [one.converged for one in found][:2] == [True, True]
    assert len({one.n_iter for one in found}) > 1


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 12),
    st.sampled_from([2, 4, 2041]),
    st.sampled_from([EUCLIDEAN, OVER_RELAXED]),
)
def test_ties_and_copies_descend_to_the_same_bits(seed, d, k, levels, metric):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    points = torch.from_numpy(rng.integers(0, levels, (n, d)).astype(np.float32))
    weights = torch.from_numpy(rng.integers(1, 9, n).astype(np.float64))
    start = torch.from_numpy(rng.integers(0, levels, (k, d)).astype(np.float32))
    tol = float(rng.choice([0.0, 1e-2]))

    descents([points], [weights], [start], max_iter=12, tol=tol, metric=metric)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_who_listens_hears_of_iterations_in_order_and_can_end_them(backend):
    engine = backend_for(CPU, backend)
    points, weights = color_problem(1500, 3)
    problem, heard = engine.pack([points], [weights], is_integral=True), []

    def listen(i):
        heard.append(i)
        if i > ITERATIONS_AT_ONCE:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        descend(engine, problem, [points[:40]], max_iter=90, tol=0.0, on_iteration=listen)
    assert heard[0] == 0
    assert heard == sorted(heard)
    assert max(np.diff(heard)) <= ITERATIONS_AT_ONCE


@pytest.mark.parametrize("channels", [3, 4])
def test_the_variance_of_colors_needs_no_second_pass(channels):
    points, weights = color_problem(1500, channels)
    engine = backend_for(CPU, "cpu")

    found = mean_variances(engine, engine.pack([points], [weights], is_integral=True))

    mean = ((points.double() * weights[:, None]).sum(0) / weights.sum() + 0.5).floor()
    squares = reference.sq_distances(points.double(), mean[None])[:, 0]
    assert found == [float((squares * weights).sum() / weights.sum() / channels)]
