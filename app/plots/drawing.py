"""What the plots share: colours, plain axes, and writing a figure to a file's bytes."""

import io
import threading

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.sketches import PlotFormat

INK, LINE, ACCENT, FAINT = "#1f2933", "#2563a8", "#c2410c", "#5f6b77"
# Of clusters: told apart by those who see red and green alike (Okabe and Ito, 2008).
CLUSTERS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#555555")
DPI = 150
_rendering = threading.Lock()


def plain_axes(axes: Axes) -> Axes:
    """Take away the frame and lay a light grid. Never raises."""
    axes.grid(visible=True, color="#e3e8ee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def write_figure(figure: Figure, plot_format: PlotFormat) -> bytes:
    """Write a figure as a file; the same figure gives the same bytes.

    A lock guards the font cache and the settings that matplotlib's writers share.

    Args:
        figure: Any.
        plot_format: `svg` (text stays text) or `png` (150 dots an inch).

    Returns:
        The file. Never raises.
    """
    file = io.BytesIO()
    metadata = {"Date": None} if plot_format == "svg" else {"Software": None}
    with _rendering, rc_context({"svg.fonttype": "none", "svg.hashsalt": "gpu-kmeans"}):
        figure.savefig(file, format=plot_format, dpi=DPI, metadata=metadata)
    return file.getvalue()
