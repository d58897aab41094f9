"""The elbow curve drawn: WCSS against k, the knee marked.

Figures are built without pyplot, so there is no current figure and no global state; a lock guards
the font cache and the settings that matplotlib's writers share.
"""

import io
import threading
from typing import Literal

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from app.schemas import ElbowAnswer

PlotFormat = Literal["svg", "png"]
_INK, _LINE, _KNEE = "#1f2933", "#2563a8", "#c2410c"
_rendering = threading.Lock()


def elbow_figure(answer: ElbowAnswer) -> Figure:
    """Draw an elbow curve.

    Args:
        answer: What `/elbow` answers.

    Returns:
        A figure of 7 x 4.5 inches. Never raises.
    """
    ks = [point.k for point in answer.curve]
    wcss = [point.wcss for point in answer.curve]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(ks, wcss, color=_LINE, marker="o", markersize=4, linewidth=1.8)
    if answer.knee is not None:
        at = ks.index(answer.knee)
        axes.axvline(answer.knee, color=_KNEE, linewidth=1, linestyle="--")
        axes.plot(ks[at], wcss[at], color=_KNEE, marker="o", markersize=9, fillstyle="none")
        axes.annotate(
            f"knee at k = {answer.knee}",
            (ks[at], wcss[at]),
            xytext=(10, 14),
            textcoords="offset points",
            color=_KNEE,
        )
    axes.set_title("Elbow curve", color=_INK)
    axes.set_xlabel("k, number of clusters")
    axes.set_ylabel("WCSS, sum of squared distances to the nearest centroid")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, color="#e3e8ee", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_elbow(answer: ElbowAnswer, plot_format: PlotFormat) -> bytes:
    """Write the elbow curve as a picture; the same answer gives the same bytes.

    Args:
        answer: What `/elbow` answers.
        plot_format: `svg` (text stays text) or `png` (1050 x 675 pixels).

    Returns:
        The file. Never raises.
    """
    file = io.BytesIO()
    metadata = {"Date": None} if plot_format == "svg" else {"Software": None}
    with _rendering, rc_context({"svg.fonttype": "none", "svg.hashsalt": "elbow"}):
        elbow_figure(answer).savefig(file, format=plot_format, dpi=150, metadata=metadata)
    return file.getvalue()
