"""Counting a picture's colours: k-means never sees a pixel twice.

A photograph of two megapixels has 30 to 700 thousand distinct colours. They come in Morton order
(interleaved bits), so that neighbours in the list are neighbours in space.

For searching, far fewer points do: `coarsen` merges cells of an octree, bottom up, where the
colours in them differ least for their weight. 4,096 such points lead to optima as good as 30
thousand cells of six bits a channel do, in a fifth of the time.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import RLock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gpu_kmeans.backends import Backend, Problems
from gpu_kmeans.backends.abilities import merges_cells, runs_ahead
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.color import srgb8_to_features

__all__ = ["COARSE_POINTS", "Histogram", "coarse_points", "coarsen", "coarsen_together"]

FEWEST_POINTS, COARSE_POINTS = 2048, 4096  # of the merged colours: of few clusters, and of many
POINTS_PER_CLUSTER = 64, 32  # from the one to the other, and above
Cells = tuple[np.ndarray, np.ndarray, np.ndarray]  # codes, sums and masses
Merging = tuple[  # how cells are added up, and how they are merged
    Callable[[Tensor, Tensor, Tensor], Cells],
    Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[Tensor, Tensor]],
]
FINEST_CELLS = 40_000  # the tree starts from the smallest cells of which there are no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """The distinct colours of a picture.

    Attributes:
        colors: (n, 3) or (n, 4), in Morton order. 3 channels where the picture is opaque, though it
            may have come with alpha; a fully transparent pixel is (0, 0, 0, 0) whatever it hid.
        counts: (n,) how many pixels have each.
        inverse: (pixels,) int32, each pixel's colour.
        shape: Of the picture, (h, w, channels).
        pixels: How many were counted: more than there are in a tally's plane.
    """

    colors: Tensor
    counts: Tensor
    inverse: Tensor
    shape: tuple[int, int, int]
    pixels: int
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)
    _lock: RLock = field(default_factory=RLock, init=False, repr=False)

    def features(self, space: str) -> Tensor:
        """Place the colours on the grid of a space, (n, c), once for all who ask. Never raises."""
        placed: Tensor = self._once(space, lambda: srgb8_to_features(self.colors, space))
        return placed

    def codes(self) -> Tensor:
        """Return the colours' Morton codes, (n,), rising, once for all who ask. Never raises."""
        codes: Tensor = self._once("codes", lambda: morton_codes(self.colors))
        return codes

    def problem(self, backend: Backend, space: str) -> Problems:
        """Pack the colours as often as they count, once for all who ask. Never raises."""
        points, weights = self.features(space), self.weights()
        pack = partial(backend.pack, [points], [weights], is_integral=True)
        packed: Problems = self._once((backend.name, space), pack)
        return packed

    def merged(self, backend: Backend, space: str, target: int) -> tuple[Tensor, Tensor]:
        """Merge the colours, see `coarsen`; cells are added up once for all who ask."""
        colors, features, weights = self.colors, self.features(space), self.weights()
        if runs_ahead(backend) or len(colors) <= target:
            return coarsen_together(backend, [colors], [features], [weights], target)[0]
        add_up, merge = _merging_by(backend)
        cells: Cells = self._once(("cells", space), partial(add_up, colors, features, weights))
        points, masses = merge(*cells, target)
        return points.to(features), masses.to(weights)

    def weights(self) -> Tensor:
        """Return the counts in float64, (n,), once for all who ask. Never raises."""
        weights: Tensor = self._once("weights", lambda: _as_doubles(self.counts))
        return weights

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Make what several threads may want, in the first of them."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            return self._kept[key]

    @classmethod
    def from_pixels(cls, pixels: UInt8[Tensor, "h w c"], backend: Backend) -> "Histogram":
        """Count the colours of a picture. Never raises."""
        return cls.from_all([pixels], backend)[0]

    @classmethod
    def from_all(
        cls, pictures: Sequence[UInt8[Tensor, "_h _w _c"]], backend: Backend
    ) -> list["Histogram"]:
        """Count the colours of each picture, all at once where that pays. Never raises."""
        rows = _visible_rows(pictures)
        if runs_ahead(backend):
            found = backend.histograms(rows)
        else:
            found = [backend.histogram(of_one) for of_one in rows]
        return [
            cls(colors=colors, counts=counts, inverse=inverse, shape=(h, w, c), pixels=h * w)
            for (colors, counts, inverse), (h, w, c) in zip(
                found, (pixels.shape for pixels in pictures), strict=True
            )
        ]

    def with_channels(self, channels: int) -> "Histogram":
        """Add opaque alpha to the colours where four channels are wanted and there are three."""
        if self.colors.shape[1] == channels:
            return self
        alpha = torch.full_like(self.colors[:, :1], 255)
        return replace(self, colors=torch.cat([self.colors, alpha], dim=1))

    @property
    def has_transparent(self) -> bool:
        """Some pixels are fully transparent: their colour is the first, all zeros."""
        return self.colors.shape[1] == 4 and not bool(self.colors[0].any())  # noqa: PLR2004


def _as_doubles(counts: Tensor) -> Tensor:
    if counts.device.type == "cpu":  # numpy: torch's team of threads looks out for more work
        return torch.from_numpy(counts.numpy().astype(np.float64))
    return counts.double()


def _visible_rows(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Return each one's pixels: three channels where all are opaque, nothing beneath alpha 0."""
    rows = [pixels.reshape(-1, pixels.shape[2]) for pixels in pictures]
    with_alpha = [i for i, of_one in enumerate(rows) if of_one.shape[1] == 4]  # noqa: PLR2004
    if with_alpha:
        opaque = torch.stack([(rows[i][:, 3] == 255).all() for i in with_alpha])  # noqa: PLR2004
        for i, is_opaque in zip(with_alpha, opaque.tolist(), strict=True):
            colors, alpha = rows[i][:, :3], rows[i][:, 3:]
            rows[i] = colors.contiguous() if is_opaque else rows[i] * (alpha > 0)
    return rows


def coarse_points(k: int) -> int:
    """Return about how many merged colours k clusters are searched on.

    Never raises.

    Example:
        >>> coarse_points(16), coarse_points(64), coarse_points(256)
        (2048, 4096, 8192)
    """
    most, fewest = POINTS_PER_CLUSTER
    return max(min(max(FEWEST_POINTS, most * k), COARSE_POINTS), fewest * k)


def coarsen(
    colors: UInt8[Tensor, "n c"],
    features: Float[Tensor, "n c"],
    weights: Float[Tensor, " n"],
    target: int,
) -> tuple[Float[Tensor, "m c"], Float[Tensor, " m"]]:
    """Merge neighbouring colours into about `target` weighted means.

    Args:
        colors: In Morton order.
        features: Whole numbers, the points that are merged.
        weights: How much each counts.
        target: About how many points are wanted.

    Returns:
        Points, rounded to the grid, and weights; what came in, where it is not more than the
        target. Never raises.
    """
    return _coarsen((sum_cells, merge_cells), colors, features, weights, target)


def coarsen_together(
    engine: Backend,
    colors: Sequence[UInt8[Tensor, "_n c"]],
    features: Sequence[Float[Tensor, "_n c"]],
    weights: Sequence[Float[Tensor, " _n"]],
    target: int,
) -> list[tuple[Tensor, Tensor]]:
    """Do as `coarsen` for each of several pictures, all at once where that pays. Never raises."""
    if runs_ahead(engine):
        return engine.merge(colors, features, weights, target)
    merging = _merging_by(engine)
    return [_coarsen(merging, *one, target) for one in zip(colors, features, weights, strict=True)]


def _coarsen(
    merging: Merging, colors: Tensor, features: Tensor, weights: Tensor, target: int
) -> tuple[Tensor, Tensor]:
    if len(colors) <= target:
        return features, weights
    add_up, merge = merging
    points, masses = merge(*add_up(colors, features, weights), target)
    return points.to(features), masses.to(weights)


def _merging_by(engine: Backend) -> Merging:
    if merges_cells(engine):
        return engine.sum_cells, engine.merge_cells
    return sum_cells, merge_cells


def sum_cells(
    colors: UInt8[Tensor, "_n c"],
    features: Float[Tensor, "_n c"],
    weights: Float[Tensor, " _n"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add up the colours in the smallest cells of the octree of which there are few enough.

    Args:
        colors: In Morton order.
        features: Whole numbers.
        weights: How much each counts.

    Returns:
        The m cells' Morton codes (m,), rising; sums (c, m) of their features, each as often as it
        counts; how much each cell counts (m,). Never raises.
    """
    starts, shift = _finest_cells(colors.cpu().numpy())
    values, masses = features.cpu().numpy(), weights.cpu().numpy()
    columns = [np.add.reduceat(values[:, j] * masses, starts) for j in range(values.shape[1])]
    # One row a coordinate: numpy adds along rows, not along triples, several times faster.
    sums, masses = np.stack(columns), np.add.reduceat(masses, starts)
    corners = colors[torch.from_numpy(starts).to(colors.device)] >> shift
    return morton_codes(corners).cpu().numpy(), sums, masses


def _finest_cells(colors: np.ndarray) -> tuple[np.ndarray, int]:
    """Return where the cells begin at the finest level of few enough, and that level's shift."""
    packed = np.zeros(len(colors), np.uint32)
    for column in colors.T:
        packed = packed << 8 | column
    changed = np.concatenate([[np.uint32(0xFFFFFFFF)], packed[1:] ^ packed[:-1]])
    for shift in range(8):
        mask = np.uint32((0xFF >> shift << shift) * 0x01010101)
        begins = (changed & mask) != 0
        if np.count_nonzero(begins) <= FINEST_CELLS:
            break
    return np.flatnonzero(begins), shift


def merge_cells(
    codes: np.ndarray, sums: np.ndarray, masses: np.ndarray, target: int
) -> tuple[Tensor, Tensor]:
    """Merge what `sum_cells` returns into about `target` points.

    Returns:
        Points (p, c), rounded to the grid, and masses (p,), float64. Never raises.
    """
    firsts = _merged_starts(codes, sums, masses, target)
    total, mass = np.add.reduceat(sums, firsts, axis=1), np.add.reduceat(masses, firsts)
    points = np.floor(total / mass + 0.5).T.copy()
    return torch.from_numpy(points), torch.from_numpy(mass)


def _merged_starts(
    codes: np.ndarray, sums: np.ndarray, masses: np.ndarray, target: int
) -> np.ndarray:
    """Return where the merged cells begin, the least scattered parents being merged first.

    A parent's scatter (weighted squared distance of its cells' means from its own mean) is at least
    the sum of its children's, so taking all parents below a threshold takes whole subtrees.
    """
    if len(codes) <= target:
        return np.arange(len(codes))
    levels = []
    squares, counts = (sums**2).sum(axis=0) / masses, np.ones(len(codes), int)
    while len(codes) > 1:
        codes = codes >> len(sums)
        starts = _run_starts(codes)
        children = np.diff(starts, append=len(codes))
        codes, masses, squares, counts = (
            codes[starts],
            *(np.add.reduceat(column, starts) for column in (masses, squares, counts)),
        )
        sums = np.add.reduceat(sums, starts, axis=1)
        scatter = squares - (sums**2).sum(axis=0) / masses
        scatter[counts == 1] = 0  # nothing is merged, nothing scattered
        levels.append((scatter, children, counts))
    scatters = np.concatenate([scatter for scatter, _, _ in levels])
    saved = np.concatenate([children - 1 for _, children, _ in levels])
    order = np.argsort(scatters, kind="stable")
    surplus = int(saved.sum()) + 1 - target
    needed = int(np.searchsorted(np.cumsum(saved[order]), surplus))
    limit = scatters[order][min(needed, len(order) - 1)]
    covered = np.zeros(int(saved.sum()) + 2, int)
    for scatter, _, counts in levels:
        ends = np.cumsum(counts)
        merged = scatter <= limit
        np.add.at(covered, (ends - counts)[merged] + 1, 1)
        np.add.at(covered, ends[merged], -1)
    return np.flatnonzero(np.cumsum(covered)[: len(covered) - 1] == 0)


def _run_starts(codes: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
