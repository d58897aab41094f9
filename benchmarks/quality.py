"""WCSS per pixel of what a method found, recomputed from the pictures alone."""

from dataclasses import dataclass

import numpy as np

from benchmarks.methods import Outcome, count_colors

BLOCK = 1 << 14  # colours compared at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A picture to compare with: its pixels, and its distinct colours with their counts."""

    pixels: np.ndarray
    colors: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Original":
        colors, _, counts = count_colors(pixels.reshape(-1, 3))
        return cls(pixels=pixels, colors=colors.astype(np.float64), counts=counts)

    @property
    def size(self) -> int:
        return self.pixels.shape[0] * self.pixels.shape[1]

    def written(self, outcome: Outcome) -> float:
        """Return WCSS per pixel of the 8-bit palette picture."""
        if outcome.picture is not None:
            return self._to_picture(outcome.picture)
        if outcome.centroids is None:
            raise ValueError("a method gives centroids or a picture")
        return self.to_nearest(np.clip(outcome.centroids.round(), 0, 255))

    def unrounded(self, outcome: Outcome) -> float | None:
        """Return WCSS per pixel of the centroids before rounding, None where there are none."""
        return None if outcome.centroids is None else self.to_nearest(outcome.centroids)

    def to_nearest(self, centroids: np.ndarray) -> float:
        """Return WCSS per pixel of every pixel against its nearest centroid."""
        squares, total = (centroids**2).sum(axis=1), 0.0
        for first in range(0, len(self.colors), BLOCK):
            colors = self.colors[first : first + BLOCK]
            nearest = (squares - 2 * colors @ centroids.T).min(axis=1)
            distances = np.maximum(nearest + (colors**2).sum(axis=1), 0)
            total += float(distances @ self.counts[first : first + BLOCK])
        return total / self.size

    def _to_picture(self, picture: np.ndarray) -> float:
        if picture.shape != self.pixels.shape:
            raise ValueError(f"the picture is {picture.shape}, not {self.pixels.shape}")
        rows = zip(self.pixels, picture, strict=True)  # one at a time: memory stays small
        return sum(int(((a.astype(np.int64) - b) ** 2).sum()) for a, b in rows) / self.size
