"""Plots people look at: functions that return figures, and one that writes them.

Figures are built without pyplot, so there is no current figure and no global state. They draw what
they are given; what has to be computed first is in `gpu_kmeans`, or in `app.plot_jobs`. The service
draws in a process of its own, `app.drawing_process`.
"""

from app.plots.comparison import comparison_figure
from app.plots.cube import cube_figure
from app.plots.drawing import write_figure
from app.plots.elbow import draw_elbow, elbow_figure
from app.plots.starts import starts_figure
from app.plots.steps import clusters_figure, steps_figure

__all__ = [
    "clusters_figure",
    "comparison_figure",
    "cube_figure",
    "draw_elbow",
    "elbow_figure",
    "starts_figure",
    "steps_figure",
    "write_figure",
]
