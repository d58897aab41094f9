"""The elbow curve drawn: WCSS against k, the knee marked, and how long each k took."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from app.plots.drawing import ACCENT, FAINT, INK, LINE, plain_axes, write_figure
from app.schemas import ElbowAnswer
from app.sketches import PlotFormat


def elbow_figure(answer: ElbowAnswer) -> Figure:
    """Draw an elbow curve.

    Args:
        answer: What `/elbow` answers.

    Returns:
        A figure of 7 x 4.5 inches: the curve, and the fit time of each k as bars. Never raises.
    """
    ks = [point.k for point in answer.curve]
    wcss = [point.wcss for point in answer.curve]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = plain_axes(figure.add_subplot())
    axes.plot(ks, wcss, color=LINE, marker="o", markersize=4, linewidth=1.8)
    if answer.knee is not None:
        at = ks.index(answer.knee)
        axes.axvline(answer.knee, color=ACCENT, linewidth=1, linestyle="--")
        axes.plot(ks[at], wcss[at], color=ACCENT, marker="o", markersize=9, fillstyle="none")
        axes.annotate(
            f"knee at k = {answer.knee}",
            (ks[at], wcss[at]),
            xytext=(10, 14),
            textcoords="offset points",
            color=ACCENT,
        )
    axes.set_title("Elbow curve", color=INK)
    axes.set_xlabel("k, number of clusters")
    axes.set_ylabel("WCSS, sum of squared distances")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if answer.fit_ms:
        _draw_times(axes.twinx(), ks, answer.fit_ms)
    return figure


def _draw_times(axes: Axes, ks: list[int], fit_ms: list[float]) -> None:
    axes.bar(ks, fit_ms, color=FAINT, alpha=0.25, width=0.6)
    axes.set_ylabel("fit time of each k, ms", color=FAINT)
    axes.set_ylim(0, 3 * max(fit_ms) or 1)  # low, so that the curve stays in view
    axes.tick_params(axis="y", colors=FAINT)
    axes.spines[["top", "right"]].set_visible(False)


def draw_elbow(answer: ElbowAnswer, plot_format: PlotFormat) -> bytes:
    """Write the elbow curve as a picture; the same answer gives the same bytes.

    Args:
        answer: What `/elbow` answers.
        plot_format: `svg` or `png` (1050 x 675 pixels).

    Returns:
        The file. Never raises.
    """
    return write_figure(elbow_figure(answer), plot_format)
