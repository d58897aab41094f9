"""Leaving a local optimum: never worse, often better, always as many centroids."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import BACKENDS, blobs, color_problem, lattice_points, photo

from gpu_kmeans import kmeans, quantize
from gpu_kmeans.backends import SearchPlan, backend_for
from gpu_kmeans.refinement import (
    breathe_by_steps,
    grow_by_steps,
    refine_centroids,
    split_widest,
)

CPU = torch.device("cpu")
on_every_backend = pytest.mark.parametrize("backend", BACKENDS)


def packed(points, backend):
    engine = backend_for(CPU, backend)
    rows = torch.from_numpy(points)
    weights = torch.ones(len(rows), dtype=torch.float64)
    return engine, engine.pack([rows], [weights], is_integral=False)


def wcss_of(engine, problem, centroids):
    return float(engine.assign_accumulate(problem, centroids, (0, len(centroids))).wcss[0])


@on_every_backend
@settings(max_examples=12)
@given(lattice_points(), st.integers(1, 6))
def test_as_many_centroids_come_out_and_wcss_is_no_higher(backend, points, k):
    engine, problem = packed(points, backend)
    start = problem.points[:k].clone()

    refined = refine_centroids(engine, problem, start, effort=1.0, rng=np.random.default_rng(0))

    assert refined.shape == start.shape
    assert refined.isfinite().all()
    assert wcss_of(engine, problem, refined) <= wcss_of(engine, problem, start) + 1e-9


@on_every_backend
def test_no_effort_returns_the_centroids_as_they_are(backend):
    engine, problem = packed(blobs(50, 2, 4), backend)
    start = problem.points[:4]

    same = refine_centroids(engine, problem, start, effort=0.0, rng=np.random.default_rng(0))

    assert torch.equal(same, start)


@on_every_backend
def test_the_widest_cluster_is_split_along_its_widest_coordinate(backend):
    points = np.array([[0.0, 0], [0, 1], [100, 0], [100, 40]])
    engine, problem = packed(points, backend)
    centroids = torch.tensor([[0.0, 0.5], [100.0, 20.0]], dtype=torch.float64)

    wider = split_widest(engine, problem, centroids, 1)

    assert wider[0].tolist() == [0, 0.5]
    assert sorted(wider[1:].tolist()) == [[100, 4.0], [100, 36.0]]


@on_every_backend
def test_refining_helps_on_average(backend):
    points = blobs(600, 2, 30, spread=0.3)

    plain, refined = (
        np.mean([kmeans(points, 30, refine=r, seed=s, backend=backend).wcss for s in range(3)])
        for r in (0, 1)
    )

    assert refined < 0.98 * plain


def test_more_effort_finds_better_palettes_on_average():
    plain, refined, hard = (
        np.mean([quantize(photo(4), 64, refine=effort, seed=seed).wcss for seed in range(3)])
        for effort in (0, 1, 2)
    )

    assert hard < refined < 0.99 * plain


def test_what_the_progress_hook_raises_ends_the_search():
    engine, problem = packed(blobs(50, 2, 4), BACKENDS[0])

    def stop(_):
        raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"):
        refine_centroids(
            engine,
            problem,
            problem.points[:4],
            effort=1.0,
            rng=np.random.default_rng(0),
            on_progress=stop,
        )


@pytest.mark.parametrize("effort", [1.0, 8.0])
def test_a_search_finds_the_same_in_few_calls_as_lane_by_lane_in_threads(effort):
    points, weights = color_problem(1500, 3)
    engine, before, found = backend_for(CPU, "cpu"), torch.get_num_threads(), []
    problem = engine.pack([points], [weights], is_integral=True)

    for threads in (1, 2):
        torch.set_num_threads(threads)
        rng = np.random.default_rng(0)
        found.append(refine_centroids(engine, problem, points[:30], effort=effort, rng=rng))
    torch.set_num_threads(before)

    assert torch.equal(*found)


@settings(max_examples=20)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 40), st.booleans(), st.booleans()
)
def test_a_compiled_breath_has_the_bits_of_its_definition(seed, d, k, is_integral, has_copies):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 2041 if not has_copies else 9, (500, d)).astype(np.float32)
    if not is_integral:
        points = points + rng.random(points.shape)
    engine = backend_for(CPU, "cpu")
    weights = torch.from_numpy(rng.integers(1, 50, 500).astype(np.float64))
    problem = engine.pack([torch.from_numpy(points)], [weights], is_integral=is_integral)
    centroids = problem.points[torch.from_numpy(rng.permutation(500)[:k])].clone()
    wcss = wcss_of(engine, problem, centroids)
    breaths, lanes = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    plan = SearchPlan(
        lanes=lanes,
        first_steps=1,
        steps_in=5,
        steps_out=7,
        still=3e-4,
        reach=0.8,
        extra=tuple(rng.integers(1, max(2, k), breaths).tolist()),
        luck=rng.standard_exponential((lanes, breaths, k)),
    )

    quick, lowest = engine.breathe(problem, centroids, wcss, plan)
    plain, wanted = breathe_by_steps(engine, problem, centroids, wcss, plan)

    assert lowest == wanted
    assert torch.equal(quick, plain)
    plan = replace(plan, luck=rng.standard_exponential((lanes, breaths, k + 1)))
    grown = engine.grow(problem, centroids, plan)
    assert torch.equal(grown, grow_by_steps(engine, problem, centroids, plan))
    assert len(grown) == k + 1
