"""Before and after, side by side, with sizes."""

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from app.plots.drawing import INK
from app.sketches import reduce_picture

_WIDTH = 11.0  # inches
_CAPTION = 0.9  # inches of text and palette
_TALLEST, _LOWEST = 11.0, 0.5  # inches of a picture, however narrow or wide it is
_STRIP = 0.06  # height of the palette, of the figure's width / 2


def comparison_figure(
    before: UInt8[np.ndarray, "h w c"],
    after: UInt8[np.ndarray, "h w c"],
    captions: tuple[str, str],
    palette: UInt8[np.ndarray, "k rgb"],
    shares: Float[np.ndarray, " k"],
) -> Figure:
    """Draw two pictures side by side, over the palette of the second.

    Args:
        before: sRGB, perhaps with alpha.
        after: Likewise, of the same size.
        captions: What to say of each: colours, bytes.
        palette: The colours of the second, sRGB.
        shares: How much of the picture each has; adds up to 1.

    Returns:
        A figure 11 inches wide. Never raises.
    """
    h, w = before.shape[:2]
    height = min(max(_WIDTH / 2 * h / w, _LOWEST), _TALLEST)
    figure = Figure(figsize=(_WIDTH, height + _CAPTION), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[height, _WIDTH / 2 * _STRIP])
    for i, (picture, caption) in enumerate(zip((before, after), captions, strict=True)):
        axes = figure.add_subplot(grid[0, i])
        axes.imshow(reduce_picture(picture), interpolation="none")
        axes.set_title(caption, color=INK, fontsize=11)
        axes.axis("off")
    strip = figure.add_subplot(grid[1, :])
    order = np.argsort(palette[:, :3] @ [0.299, 0.587, 0.114])
    left = np.concatenate([[0], np.cumsum(shares[order])[:-1]])
    strip.barh(0, shares[order], left=left, color=palette[order][:, :3] / 255, height=1)
    strip.set_xlim(0, 1)
    strip.axis("off")
    return figure
