"""How the CPU backend lays out points of more than four dimensions, and what it does with them."""

import functools
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpu_kmeans.backends.descent_kernels import LONELY
from gpu_kmeans.backends.threads import parallel, sharers
from gpu_kmeans.backends.tile_vectors import TILE
from gpu_kmeans.backends.wide_kernels import (
    BLOCK,
    aim,
    assign,
    assign_detail,
    draw,
    drift,
    lay_out,
    move,
    relax,
    survey,
    weigh,
)

CHUNKS = 16  # of a pass, at most: each has a table of its own, and costs a call
PASS_WORK = 1 << 22  # of one of them, at least: products of coordinates, some 0.1 ms
SEED_WORK = 1 << 19  # likewise of laying out and of choosing seeds
ADDING = 16  # what adding a point up costs, in scores of it
HIGHEST = 1000  # exponent of the scale: its square times the least number must not be lost


class WidePoints:
    """The points of one problem: in rows as they came, and in tiles, a column after the other."""

    def __init__(self, points: np.ndarray, weights: np.ndarray) -> None:
        """Lay points (n, d) and weights (n,) out."""
        self.size, self.width = points.shape
        self._tiles = -(-self.size // TILE)
        found = self._share(lambda a, b: survey(points, a * TILE, min(b * TILE, self.size)), 1)
        origin, scale = _middle_and_scale(found, self.size)
        kind = np.finfo(points.dtype)
        limits = (float(kind.eps) / 2, float(kind.smallest_subnormal), float(kind.max))
        self._frame = (origin, scale, limits)
        padded = self._tiles * TILE
        columns = np.empty(padded * self.width, np.float32)
        squares, norms = np.empty(padded, np.float32), np.empty(self._tiles)
        self._points = (points, weights, columns, squares, norms)
        self._known: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._lock = threading.Lock()
        self._share(partial(lay_out, points, origin, scale, *self._points[2:]), 1)

    def assign(self, centroids: np.ndarray, labels: np.ndarray, *, detail: bool) -> np.ndarray:
        """Give each point its nearest of the centroids (k, d), in one pass shared by threads.

        Writes labels (n,) where there is room; returns a table (k, columns), see `wide_kernels`.
        """
        aimed = self._aim(centroids)
        if detail:
            return self._pass(assign_detail, aimed, labels)
        before, names, lower = self._take_known(centroids)
        drifts = np.empty(0) if before is None else drift(before, centroids, self._frame[1])
        table = self._pass(assign, aimed, (names, lower, drifts))
        if len(labels):
            labels[:] = names
        self._known = (centroids.copy(), names, lower)
        return table

    def descend(
        self, centroids: np.ndarray, most: int, previous: float, rules: tuple[float, float, bool]
    ) -> tuple[np.ndarray, list[float], int]:
        """Do as `layouts.Layout.descend`, one iteration at a time."""
        del most
        table = self.assign(centroids, np.empty(0, np.int32), detail=False)
        moved, cost, state = move(table, centroids, previous, *rules)
        return moved, [] if state == LONELY else [cost], state

    def _take_known(
        self, centroids: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """Take what is known of the points from a pass over as many centroids, nobody else does."""
        with self._lock:
            known, self._known = self._known, None
        if known is None:
            return None, np.empty(self.size, np.int32), np.empty(self.size, np.float32)
        before, names, lower = known
        return before if before.shape == centroids.shape else None, names, lower

    def _pass(self, kernel: Callable[..., np.ndarray], aimed: Any, found: Any) -> np.ndarray:
        """Run a kernel over all tiles and add its tables up: in chunks that are always the same."""
        work = TILE * self.width * (len(aimed[0]) + ADDING)
        size = max(-(-self._tiles // CHUNKS), -(-PASS_WORK // work))
        size = -(-size // BLOCK) * BLOCK
        run = partial(kernel, self._points, self._frame, aimed, found)
        return functools.reduce(np.add, parallel(lambda chunk: run(*chunk), self._chunks(size)))

    def seed(self, uniforms: np.ndarray) -> np.ndarray:
        """Return the rows chosen by greedy k-means++; see the reference for the rule."""
        rows, weights, *_ = self._points
        nearest = np.full(self._tiles * TILE, -np.inf)
        nearest[: self.size] = 1
        potentials = np.add.reduceat(weights, range(0, self.size, TILE))
        tried = np.empty((uniforms.shape[1], self._tiles))
        given = (self._points, self._frame, nearest, potentials)
        chosen = [int(draw(weights, nearest, potentials, uniforms[0, :1])[0])]
        nearest[: self.size] = np.inf
        for draws in uniforms[1:]:
            self._share(partial(relax, *given, self._aim(rows[chosen[-1:]])), 1)
            if not potentials.sum() > 0:
                break
            picked = draw(weights, nearest, potentials, draws)
            self._share(partial(weigh, *given, self._aim(rows[picked]), tried), len(picked))
            chosen.append(int(picked[tried.sum(axis=1).argmin()]))
        return np.array(chosen)

    def _aim(self, centroids: np.ndarray) -> tuple[Any, ...]:
        return (centroids, *aim(centroids, *self._frame[:2]))

    def _share(self, run: Callable[[int, int], Any], times: int) -> list[Any]:
        """Share work on all tiles, from one to another, among threads; each tile so many times."""
        least = -(-SEED_WORK // (TILE * self.width * times))
        size = max(least, -(-self._tiles // (2 * sharers())))
        return parallel(lambda chunk: run(*chunk), self._chunks(size))

    def _chunks(self, size: int) -> list[tuple[int, int]]:
        return [(a, min(a + size, self._tiles)) for a in range(0, self._tiles, size)]


def _middle_and_scale(found: Sequence[np.ndarray], size: int) -> tuple[np.ndarray, float]:
    """Return the mean, and the power of two that brings all coordinates about it below 1."""
    middle = sum(part[0] for part in found) / size
    low = functools.reduce(np.minimum, (part[1] for part in found))
    high = functools.reduce(np.maximum, (part[2] for part in found))
    spread = float(np.maximum(high - middle, middle - low).max())
    if not 0 < spread < np.inf:
        return middle, 1.0
    return middle, float(np.ldexp(1.0, min(HIGHEST, -int(np.frexp(spread)[1]))))
