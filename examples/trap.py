"""The random-initialization trap: where random starts and k-means++ starts end, and why.

Writes trap.png, the final WCSS of 200 starts of either kind, and trap_steps.png, Lloyd's iteration
caught with two centroids in one blob and one between two others.
"""

import numpy as np

from app.plot_jobs import take_steps, try_starts
from app.plots import starts_figure, steps_figure

rng = np.random.default_rng(2)
corners = np.array([[0, 0], [8, 0], [0, 8], [30, 30], [38, 30]])
points = corners[np.arange(500) % 5] + rng.normal(size=(500, 2))

starts = try_starts(points, k=5, starts=200)
random, plus = starts.caught()
print(f"caught in another optimum: {random:.0%} of random starts, {plus:.0%} of k-means++ starts")
starts_figure(starts).savefig("trap.png", dpi=100)

unlucky = points[[3, 8, 13, 4, 0]]  # three in the blob at (30, 30): rows 3, 8, 13
steps = take_steps(points, unlucky)
print("WCSS", " -> ".join(f"{step.wcss:.0f}" for step in steps), f"; the best is {starts.best:.0f}")
steps_figure(points, steps).savefig("trap_steps.png", dpi=100)
