"""Kernels answer alike in the process that compiles them and in those that load them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIT = """
import numpy as np
from gpu_kmeans import kmeans

generator = np.random.default_rng(0)
middles = 9.0 * generator.normal(size=(5, 3))
points = middles[generator.integers(0, 5, 3000)] + generator.normal(size=(3000, 3))
fit = kmeans(points, 5, weights=generator.uniform(0, 2, 3000), max_iter=5, backend="cpu")
print(fit.centroids.tobytes().hex(), fit.labels.tobytes().hex(), fit.wcss_history)
"""


@pytest.mark.slow
def test_a_fit_has_the_same_bits_whether_its_kernels_are_compiled_or_loaded(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def fit():
        command = [sys.executable, "-c", FIT]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        return done.stdout

    compiled, loaded = fit(), fit()
    assert any(tmp_path.rglob("*.nbc"))
    assert compiled == loaded
