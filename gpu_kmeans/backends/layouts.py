"""How the CPU backend lays out points for its kernels, and one pass over them.

Two layouts, either in tiles of neighbours with a bounding box. Whole numbers of few bits, as the
colours of pictures are, come as int16 (`whole_kernels`); any others in their own type (`kernels`),
and whole ones too where somebody asks for what the other kernels do not do.
"""

import functools

import numpy as np
import torch

from gpu_kmeans.backends import descent_kernels, kernels, order_kernels, whole_kernels
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.backends.threads import parallel, sharers
from gpu_kmeans.backends.tile_vectors import TILE

NARROW = 4  # dimensions: a box of 64 neighbours prunes little in more
CHUNK_TILES = 256  # 16 thousand points: some 0.1 ms of work, above the price of taking it up
FEWEST_TILES = 512  # of whole numbers, for one thread; they go four times as fast


class Layout:
    """The points of one problem, in tiles; numpy arrays, which nobody changes."""

    def __init__(self, points: np.ndarray, weights: np.ndarray, *, is_integral: bool) -> None:
        """Lay points (n, d), d <= 4, and weights (n,) out."""
        self.is_integral = is_integral
        self._points, self._weights = points, weights
        self._whole = _lay_out_whole(points, weights) if is_integral else ()
        if not self._whole:
            _ = self.floats

    @property
    def size(self) -> int:
        """Number of points, without the padding."""
        return len(self._points)

    @functools.cached_property
    def floats(self) -> "Floats":
        """The layout of `kernels`, made when it is first wanted."""
        return Floats(self._points, self._weights, is_integral=self.is_integral)

    @functools.cached_property
    def _whole_in_full(self) -> tuple[object, ...]:
        """Return what a search on whole numbers takes: squares and weights of each point too.

        In an order of its own: sums do not depend on it, and a search asks for no labels.
        """
        order = order_kernels.order_by_halves(self._points)
        points, masses = self._points[order], self._weights[order]
        padded = len(self._whole[1]) * TILE
        weights, squares = np.zeros(padded, np.int64), np.zeros((padded, 4))
        weights[: self.size] = masses
        squares[: self.size, : points.shape[1]] = points.astype(float) ** 2 * masses[:, None]
        return _lay_out_whole(points, masses), squares, weights

    def search_layout(self, rows: np.ndarray) -> tuple[object, ...]:
        """Return the layout that `search_kernels` take, for centroids (4, k)."""
        return self._whole_in_full if self._fits(rows) else self.floats.arrays

    def assign(self, centroids: np.ndarray, labels: np.ndarray, *, detail: bool) -> np.ndarray:
        """Give each point its nearest of the centroids (k, d), in one pass shared by threads.

        Writes labels (n,) where there is room; returns a table (k, columns), see `kernels`.
        """
        return self._assign(four_rows(centroids), labels, detail=detail)

    def seed(self, uniforms: np.ndarray) -> np.ndarray:
        """Return the rows chosen by greedy k-means++, see `kernels`."""
        return self.floats.seed(uniforms)

    def _assign(self, rows: np.ndarray, labels: np.ndarray, *, detail: bool) -> np.ndarray:
        if detail or not self._fits(rows):
            return self.floats.assign(rows, labels, detail=detail)
        whole, tiles = self._whole, len(self._whole[1])
        own = np.empty(tiles * TILE if len(labels) else 0, np.int32)
        chunks = _shares(tiles)
        table = sum(parallel(lambda chunk: whole_kernels.assign(whole, rows, chunk, own), chunks))
        labels[:] = own[: len(labels)]
        return np.asarray(table)

    def descend(
        self, centroids: np.ndarray, most: int, previous: float, rules: tuple[float, float, bool]
    ) -> tuple[np.ndarray, list[float], int]:
        """Iterate from centroids (k, d) of a problem of whole numbers, up to so many times.

        All at once, but a pass at a time where threads share it. `previous` is the WCSS of the
        iteration before, the rules are what `descent_kernels.move` takes last.
        Returns centroids, the WCSS of the iterations done, and how it goes on.
        """
        rows = four_rows(centroids)
        if len(_shares(-(-self.size // TILE))) > 1:
            table = self._assign(rows, np.empty(0, np.int32), detail=False)
            moved, cost, state = descent_kernels.move(table, rows, previous, *rules)
            found = [] if state == descent_kernels.LONELY else [cost]
        else:
            layout = (self._whole,) if self._fits(rows) else self.floats.arrays
            costs = np.empty(most)
            moved, done, state = descent_kernels.descend(layout, rows, costs, previous, *rules)
            found = costs[:done].tolist()
        return moved[: centroids.shape[1]].T.copy(), found, state

    def _fits(self, rows: np.ndarray) -> bool:
        return bool(self._whole) and float(np.abs(rows).max()) <= whole_kernels.MOST_COORDINATE


class Floats:
    """Points in their own type, padded to whole tiles by points of weight 0."""

    def __init__(self, points: np.ndarray, weights: np.ndarray, *, is_integral: bool) -> None:
        """Lay points (n, d) out in columns; in Morton order, where they do not come in it."""
        n = len(points)
        self.size = n
        self.order = None if is_integral else _morton_order(points)
        if self.order is not None:
            points, weights = points[self.order], weights[self.order]
        tiles = -(-n // TILE)
        self.points, self.weights = (
            np.empty((4, tiles * TILE), points.dtype),
            np.empty(tiles * TILE),
        )
        # Low corner, high corner, origin of the sums; and those of x - origin (4), of 1, of
        # |x - origin|^2.
        self.boxes, self._sums = np.empty((3, 4, tiles), points.dtype), np.empty((6, tiles))
        written = (self.points, self.weights, self.boxes, self._sums)
        parallel(
            lambda chunk: kernels.lay_out(points, weights, is_integral, chunk, *written),
            tile_chunks(tiles, CHUNK_TILES),
        )

    @property
    def arrays(self) -> tuple[object, ...]:
        """What a search on these points takes."""
        huge = np.finfo(self.points.dtype).max
        return self.points, self.weights, self.boxes, self._sums, huge

    def seed(self, uniforms: np.ndarray) -> np.ndarray:
        """Do as `Layout.seed`, skipping tiles that a new seed cannot improve."""
        given = (self.points, self.weights, self.boxes, self.size, uniforms)
        rows: np.ndarray = kernels.greedy_seeds(*given)
        return rows if self.order is None else self.order[rows]

    def assign(self, rows: np.ndarray, labels: np.ndarray, *, detail: bool) -> np.ndarray:
        """Do as `Layout.assign` for centroids (4, k), chunk by chunk, adding up in order."""
        own = np.empty(self.points.shape[1] if len(labels) else 0, np.int32)
        kernel = kernels.assign_detail if detail else kernels.assign
        *whole, huge = self.arrays

        def run(chunk: tuple[int, int]) -> np.ndarray:
            found: np.ndarray = kernel(*whole, rows, chunk, own, huge)
            return found

        chunks = tile_chunks(self.boxes.shape[2], CHUNK_TILES)
        table = functools.reduce(np.add, parallel(run, chunks))
        if len(labels):
            labels[slice(None) if self.order is None else self.order] = own[: self.size]
        return table


def _lay_out_whole(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the arrays that `whole_kernels` take; none where the numbers are too large."""
    most = weights.max()
    if most > whole_kernels.MOST_WEIGHT:
        return ()
    tiles, has_fourth = -(-len(points) // TILE), points.shape[1] > 3  # noqa: PLR2004
    rows = 4 + has_fourth
    is_heavy = bool(int(most) >> whole_kernels.LIGHT_BITS)
    places = (rows + is_heavy, 3 if has_fourth else -1, rows - 1, rows if is_heavy else -1)
    plan = np.array([place * TILE if place >= 0 else -1 for place in places])
    halves, boxes = np.empty(tiles * plan[0], np.int16), np.empty((tiles, 4), np.int32)
    supers = np.empty((-(-tiles // kernels.SUPER), 4), np.int32)
    sums = np.empty((tiles, whole_kernels.SUMS), np.int64)
    written = (halves, boxes, supers, sums)
    fits = parallel(
        lambda chunk: whole_kernels.lay_out(points, weights, chunk, plan, *written),
        _shares(tiles),
    )
    return (*written, plan) if all(fits) else ()


def four_rows(values: np.ndarray) -> np.ndarray:
    """Lay values (n, d) out as (4, n), missing dimensions 0."""
    rows = np.zeros((4, len(values)), values.dtype)
    rows[: values.shape[1]] = values.T
    return rows


def _morton_order(points: np.ndarray) -> np.ndarray:
    """Sort points along a Morton curve of 256 steps a side: any order is right, this is fast."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1)
    levels = torch.from_numpy(((points - low) / span * 255).astype(np.uint8))
    return np.argsort(morton_codes(levels).numpy(), kind="stable")


def _shares(tiles: int) -> list[tuple[int, int]]:
    """Two chunks for each thread: sums of whole numbers do not depend on them."""
    threads = sharers()
    size = max(FEWEST_TILES, -(-tiles // (2 * threads if threads > 1 else 1)))
    return tile_chunks(tiles, -(-size // kernels.SUPER) * kernels.SUPER)


def tile_chunks(count: int, size: int) -> list[tuple[int, int]]:
    """Fixed chunks, whatever the threads: the order of addition is part of the answer."""
    return [(a, min(a + size, count)) for a in range(0, count, size)]
