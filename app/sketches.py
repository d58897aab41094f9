"""What is to be drawn, cut down to what can be seen: values small enough for a pipe.

They pass between what computes a plot and what draws it, which is a process that knows neither
torch nor the engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

PlotFormat = Literal["svg", "png"]
MOST_POINTS = 4000  # more hide one another, and make an SVG of megabytes
_CAUGHT = 1.01  # times the best WCSS seen: above, the start has led to another optimum
_MOST_PIXELS = 1600  # on either side: twice what the figure has dots for
_AT_ONCE = 1 << 18  # pixels that are averaged together: 4 MB as numbers
_RGB = 3  # channels before alpha


@dataclass(frozen=True, slots=True)
class Sketch:
    """A figure that is not drawn yet.

    Attributes:
        name: The function of `app.plots` that draws it, without its ending `_figure`.
        arguments: What that function takes.
    """

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where an iteration stands.

    Attributes:
        n_iter: Iterations done.
        centroids: Where they are then.
        labels: Each point's nearest of them.
        wcss: The objective of both.
    """

    n_iter: int
    centroids: Float[np.ndarray, "k 2"]
    labels: Int[np.ndarray, " n"]
    wcss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Where each start ended.

    Attributes:
        k: Clusters.
        random: The final WCSS of each random start.
        plus: Of each k-means++ start.
    """

    k: int
    random: Float[np.ndarray, " n"]
    plus: Float[np.ndarray, " n"]

    @property
    def best(self) -> float:
        """The lowest WCSS of all."""
        return float(min(self.random.min(), self.plus.min()))

    def caught(self) -> tuple[float, float]:
        """The shares of random and of k-means++ starts that end over 1 % above the best."""
        limit = self.best * _CAUGHT
        return float((self.random > limit).mean()), float((self.plus > limit).mean())


def sample_rows(n: int, most: int = MOST_POINTS, seed: int = 0) -> Int[np.ndarray, " m"]:
    """Choose which of n rows are drawn: all, or as many as are worth it. Never raises.

    Example:
        >>> sample_rows(3, 5).tolist(), len(sample_rows(9, 5))
        ([0, 1, 2], 5)
    """
    if n <= most:
        return np.arange(n)
    return np.random.default_rng(seed).choice(n, most, replace=False)


def sample_steps(
    points: Float[np.ndarray, "n 2"], steps: Sequence[Step]
) -> tuple[Float[np.ndarray, "m 2"], list[Step]]:
    """Keep of points, and of their labels in every step, those that are drawn. Never raises."""
    rows = sample_rows(len(points))
    return points[rows], [replace(step, labels=step.labels[rows]) for step in steps]


def sample_colors(pixels: UInt8[np.ndarray, "h w c"], seed: int = 0) -> UInt8[np.ndarray, "1 m c"]:
    """Keep the pixels that are drawn, and nothing of what is fully transparent. Never raises."""
    colors = pixels.reshape(-1, pixels.shape[2])
    if pixels.shape[2] > _RGB:
        colors = colors[colors[:, _RGB] > 0]
    sample: np.ndarray = colors[sample_rows(len(colors), seed=seed)]
    return sample[None]


def reduce_picture(picture: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "i j c"]:
    """Average blocks of pixels until there are no more than can be seen, some at a time.

    Never raises.
    """
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


def check_plane(points: Num[np.ndarray, "..."]) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ShapeError: The points are not in the plane.
    """
    if points.ndim != 2 or points.shape[1] != 2:  # noqa: PLR2004
        from gpu_kmeans import ShapeError  # not needed where it is drawn, since it was checked

        raise ShapeError(f"only points in the plane can be drawn: (n, 2), got {points.shape}")
