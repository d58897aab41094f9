"""Another distance, and why: stray points drag means away, medians stay.

Two clumps, and one point in ten a faulty reading far to one side. Writes another_distance.png.
"""

import numpy as np
from matplotlib.figure import Figure

from gpu_kmeans import kmeans

rng = np.random.default_rng(3)
truth = np.array([[0.0, 0.0], [6.0, 0.0]])
points = truth[np.arange(200) % 2] + 0.6 * rng.normal(size=(200, 2))
points[::10] += [0.0, 12.0]

figure = Figure(figsize=(10, 4.2), layout="constrained")
for axes, metric in zip(
    figure.subplots(1, 2, sharex=True, sharey=True), ("euclidean", "cityblock"), strict=True
):
    result = kmeans(points, k=2, metric=metric, init=truth)
    off = np.abs(result.centroids - truth).max()
    print(f"{metric:10} objective {result.wcss:8.1f}, centroids off by {off:.2f}")
    axes.scatter(*points.T, c=[f"C{label}" for label in result.labels], s=10)
    axes.scatter(*truth.T, marker="o", s=160, facecolors="none", edgecolors="black", label="truth")
    axes.scatter(*result.centroids.T, marker="X", s=90, color="black", label="centroids")
    axes.set_title(f"{metric}: off by {off:.2f}")
    axes.legend(frameon=False, loc="center right")
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("another_distance.png", dpi=100)
