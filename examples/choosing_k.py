"""Choosing k: four criteria on clear blobs and on a photograph, where they need not agree.

Writes choosing_k.png and prints what each criterion picks and what it means.
"""

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image

from gpu_kmeans import elbow

rng = np.random.default_rng(0)
corners = np.array([[0, 0], [10, 0], [0, 10], [10, 10], [5, 20]])
blobs = corners[rng.integers(5, size=600)] + rng.normal(size=(600, 2))
photo = np.ascontiguousarray(load_sample_image("flower.jpg")[::2, ::2])

figure = Figure(figsize=(10, 4), layout="constrained")
for axes, (name, points, target) in zip(
    figure.subplots(1, 2), (("blobs", blobs, 2.0), ("a photograph", photo, 25.0)), strict=True
):
    curve = elbow(points, k_max=16, target_error=target)
    axes.plot(curve.ks, curve.wcss, color="black", marker=".")
    print(f"\n{name}")
    for i, (rule, criterion) in enumerate(curve.criteria.items()):
        print(f"  {rule:18} k = {criterion.k}: {criterion.meaning}")
        if criterion.k is not None:
            x = criterion.k + (i - 1.5) / 12  # beside one another where they agree
            axes.axvline(x, color=f"C{i}", linestyle="--", label=f"{rule}: {criterion.k}")
    axes.set(title=name, xlabel="k", ylabel="WCSS")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("choosing_k.png", dpi=100)
