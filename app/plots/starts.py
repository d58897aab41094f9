"""The random-initialization trap: where many random and many k-means++ starts end."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from app.plots.drawing import ACCENT, INK, LINE, plain_axes
from app.sketches import Starts


def starts_figure(starts: Starts) -> Figure:
    """Draw two histograms of final WCSS, over the best.

    Args:
        starts: As `app.plot_jobs.try_starts` gives them.

    Returns:
        A figure of 7 x 4 inches. Never raises.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = plain_axes(figure.add_subplot())
    best = starts.best
    values = [starts.random / (best or 1), starts.plus / (best or 1)]
    least = 1 if best else 0  # there are no multiples of a WCSS of 0
    bins = np.linspace(least, max(least + 0.02, float(np.max(np.concatenate(values)))), 31)
    names, caught = ("random", "k-means++"), starts.caught()
    axes.hist(
        values,
        bins=bins.tolist(),
        weights=[np.full(len(each), 1 / len(each)) for each in values],
        color=[ACCENT, LINE],
        label=[
            f"{name}: {share:.0%} end over 1% above"
            for name, share in zip(names, caught, strict=True)
        ],
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title(
        f"Where {len(starts.random)} starts of either kind end, k = {starts.k}", color=INK
    )
    axes.set_xlabel("final WCSS / the best seen" if best else "final WCSS")
    axes.set_ylabel("share of the starts")
    axes.legend(frameon=False)
    return figure
