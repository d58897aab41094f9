"""Before and after, side by side, with sizes."""

from itertools import product

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from app.plots.drawing import INK

_WIDTH = 11.0  # inches
_CAPTION = 0.9  # inches of text and palette
_TALLEST, _LOWEST = 11.0, 0.5  # inches of a picture, however narrow or wide it is
_STRIP = 0.06  # height of the palette, of the figure's width / 2
_MOST_PIXELS = 1600  # on either side: twice what the figure has dots for
_AT_ONCE = 1 << 18  # pixels that are averaged together: 4 MB as numbers
_RGB = 3  # channels before alpha


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
        axes.imshow(_reduced(picture), interpolation="none")
        axes.set_title(caption, color=INK, fontsize=11)
        axes.axis("off")
    strip = figure.add_subplot(grid[1, :])
    order = np.argsort(palette[:, :3] @ [0.299, 0.587, 0.114])
    left = np.concatenate([[0], np.cumsum(shares[order])[:-1]])
    strip.barh(0, shares[order], left=left, color=palette[order][:, :3] / 255, height=1)
    strip.set_xlim(0, 1)
    strip.axis("off")
    return figure


def _reduced(picture: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
    """Average blocks of pixels until there are no more than can be seen, some at a time."""
    n = -(-max(picture.shape[:2]) // _MOST_PIXELS)
    down, across = (min(n, side) for side in picture.shape[:2])
    h, w = picture.shape[0] // down, picture.shape[1] // across
    at_once = max(1, _AT_ONCE // (down * across))  # blocks
    rows, columns = max(1, at_once // w), min(w, at_once)
    reduced = np.empty((h, w, picture.shape[2]), np.uint8)
    for i, j in product(range(0, h, rows), range(0, w, columns)):
        part = reduced[i : i + rows, j : j + columns]
        pixels = picture[i * down :, j * across :]
        pixels = pixels[: len(part) * down, : part.shape[1] * across]
        part[:] = _averages(pixels.reshape(len(part), down, part.shape[1], across, -1))
    return reduced


def _averages(blocks: UInt8[np.ndarray, "h down w across c"]) -> Float[np.ndarray, "h w c"]:
    """Average each block; of what is transparent there is nothing to be seen."""
    pixels = blocks.astype(np.float32)
    if blocks.shape[4] == _RGB:
        means: np.ndarray = pixels.sum(axis=1).sum(axis=2) / (blocks.shape[1] * blocks.shape[3])
        return means.round()
    alpha = pixels[..., _RGB:].sum(axis=1).sum(axis=2)
    colors = (pixels[..., :_RGB] * pixels[..., _RGB:]).sum(axis=1).sum(axis=2)
    colors /= np.maximum(alpha, 1)
    return np.concatenate([colors, alpha / (blocks.shape[1] * blocks.shape[3])], axis=2).round()
