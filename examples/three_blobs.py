"""Three blobs in any dimension: python examples/three_blobs.py 10.

Clusters them, compares with where they came from, and draws the plane through the three centroids
in three_blobs.png.
"""

import sys

import numpy as np

from app.plots import clusters_figure
from gpu_kmeans import kmeans

d = int(sys.argv[1]) if len(sys.argv) > 1 else 5

rng = np.random.default_rng(1)
truth = np.repeat([0, 1, 2], 200)
centers = rng.uniform(-10, 10, (3, d))
points = centers[truth] + rng.normal(size=(600, d))

result = kmeans(points, k=3, n_init=5)

match = np.array([np.bincount(truth[result.labels == c], minlength=3).argmax() for c in range(3)])
print(f"{d} dimensions: {(match[result.labels] == truth).mean():.1%} where they came from,")
print(f"WCSS {result.wcss:.1f} after {result.n_iter} iterations: {result.wcss_history}")

# Two directions span the plane through three centroids, however many dimensions there are.
spokes = result.centroids - result.centroids.mean(axis=0)
plane = np.linalg.svd(spokes)[2][:2].T if d > 1 else np.eye(1, 2)
flat, flat_centroids = points @ plane, result.centroids @ plane
figure = clusters_figure(flat, result.labels, flat_centroids, f"Three blobs in {d} dimensions")
figure.savefig("three_blobs.png", dpi=100)
