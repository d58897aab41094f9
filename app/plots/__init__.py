"""Plots people look at: functions that return figures, and one that writes them.

Figures are built without pyplot, so there is no current figure and no global state. They draw what
they are given; what has to be computed first is in `gpu_kmeans`, or in `app.plots.starts`.
"""

from app.plots.comparison import comparison_figure
from app.plots.cube import cube_figure
from app.plots.drawing import PlotFormat, write_figure
from app.plots.elbow import draw_elbow, elbow_figure
from app.plots.starts import Starts, starts_figure, try_starts
from app.plots.steps import Step, clusters_figure, steps_figure, take_steps

__all__ = [
    "PlotFormat",
    "Starts",
    "Step",
    "clusters_figure",
    "comparison_figure",
    "cube_figure",
    "draw_elbow",
    "elbow_figure",
    "starts_figure",
    "steps_figure",
    "take_steps",
    "try_starts",
    "write_figure",
]
