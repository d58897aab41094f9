"""The first centroids: which, how many, and how good."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import BACKENDS, any_points, blobs, photo

from gpu_kmeans import kmeans
from gpu_kmeans.backends import backend_for
from gpu_kmeans.color import srgb8_to_features
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.seeding import distinct_rows, greedy_seeds, random_seeds

CPU = torch.device("cpu")
on_every_backend = pytest.mark.parametrize("backend", BACKENDS)


def problem_of(points, weights=None, backend="reference"):
    rows = torch.from_numpy(points)
    masses = torch.ones(len(rows)) if weights is None else torch.from_numpy(weights)
    return backend_for(CPU, backend).pack([rows], [masses.double()], is_integral=False)


def plain_greedy_seeds(points, weights, draws):
    """Greedy k-means++ as the paper has it, drawing by the running sum."""
    distances = np.full(len(points), 1.0)
    chosen = []
    for step, numbers in enumerate(draws):
        running = np.cumsum(weights * distances)
        if not running[-1] > 0:
            break
        trials = np.searchsorted(running, numbers * running[-1], side="right")
        trials = trials[:1] if step == 0 else trials
        tried = [((points - points[t]) ** 2).sum(axis=1) for t in trials]
        kept = tried if step == 0 else [np.minimum(t, distances) for t in tried]
        best = int(np.argmin([(weights * t).sum() for t in kept]))
        distances = kept[best]
        chosen.append(int(trials[best]))
    return chosen


@on_every_backend
@pytest.mark.parametrize("k", [1, 2, 9, 40])
def test_seeds_of_colors_are_those_of_the_plainest_program(backend, k):
    engine = backend_for(CPU, backend)
    histogram = Histogram.from_pixels(torch.from_numpy(photo(9)), engine)
    features, weights = srgb8_to_features(histogram.colors, "rgb"), histogram.counts.double()
    draws = np.random.default_rng(k).random((k, 2 + int(math.log(k))))

    problem = engine.pack([features], [weights], is_integral=True)
    rows = engine.seed(problem, [k], [torch.from_numpy(draws)])[0]

    assert rows.tolist() == plain_greedy_seeds(features.double().numpy(), weights.numpy(), draws)


@on_every_backend
@pytest.mark.parametrize("d", [1, 3, 6], ids="d{}".format)
def test_seeds_are_different_points_of_the_table(backend, d):
    points = blobs(500, d, 9)
    problem = problem_of(points, backend=backend)

    seeds = greedy_seeds(backend_for(CPU, backend), problem, 20, np.random.default_rng(0)).numpy()

    assert len(np.unique(seeds, axis=0)) == 20
    assert (points[:, None] == seeds).all(axis=2).any(axis=0).all()


@on_every_backend
def test_a_heavy_point_is_drawn_first_more_often(backend):
    points, weights = np.arange(10.0)[:, None], np.ones(10)
    weights[3] = 91
    problem, engine = problem_of(points, weights, backend), backend_for(CPU, backend)

    first = [
        float(greedy_seeds(engine, problem, 1, np.random.default_rng(seed))[0, 0])
        for seed in range(200)
    ]

    assert 170 <= first.count(3.0) <= 192  # 182 are expected


@on_every_backend
def test_greedy_seeds_are_better_than_random_ones(backend):
    points = blobs(2000, 3, 20, spread=0.5)

    def before_the_first_step(init, seed):
        return kmeans(points, 20, init=init, seed=seed, max_iter=1, backend=backend).wcss_history[0]

    greedy, random = (
        np.mean([before_the_first_step(init, seed) for seed in range(5)])
        for init in ("k-means++", "random")
    )

    assert greedy < 0.5 * random


def test_random_seeds_are_different_rows_drawn_by_weight():
    points, weights = np.arange(50.0)[:, None], np.where(np.arange(50) < 5, 1000.0, 0.001)
    problem = problem_of(points, weights)

    seeds = random_seeds(problem, 6, np.random.default_rng(0))[:, 0].tolist()

    assert len(set(seeds)) == 6
    assert {0.0, 1.0, 2.0, 3.0, 4.0} < set(seeds)


@given(any_points(), st.integers(1, 12))
def test_distinct_rows_are_found_where_there_are_few(points, limit):
    rows = distinct_rows(torch.from_numpy(points), limit)

    distinct, first = np.unique(points + 0.0, axis=0, return_index=True)
    if len(distinct) > limit:
        assert rows is None
    else:
        assert rows.tolist() == sorted(first.tolist())


def test_a_distinct_row_far_down_a_table_is_not_missed():
    points = torch.zeros(10_000, 2)
    points[9_999] = 1.0

    assert distinct_rows(points, 2).tolist() == [0, 9_999]
    assert distinct_rows(points, 1) is None
