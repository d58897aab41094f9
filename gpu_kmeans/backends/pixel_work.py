"""What the CPU's loops over pixels take, in the layout they like."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from gpu_kmeans.backends.diffusion_kernels import lay_out
from gpu_kmeans.backends.entry_lists import FINEST_SHIFT, MOST_CELLS
from gpu_kmeans.backends.line_kernels import LINE, on_a_line
from gpu_kmeans.backends.sweep_vectors import GROUP, KEEPS, RIM
from gpu_kmeans.backends.wave_vectors import ROWS

__all__ = ["PixelWork", "four_columns"]

LISTED_CANDIDATES = 1 << 19  # 2 MB a thread; where that is full, all entries are compared
_COARSEST_SHIFT = 7  # 16 cells a side, 2^16 in four dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelWork:
    """Colours, entries and cells, as `gpu_kmeans.backends.entry_lists` describes them.

    Attributes:
        table: Colours (n, 4) int16.
        palette: (k, 4) int16.
        limits: (4, 3) int32, of the box about the colours.
        grid: (2,) int32, of its cells.
        cells: How many.
        dimensions: Of the colours.
    """

    table: np.ndarray
    palette: np.ndarray
    limits: np.ndarray
    grid: np.ndarray
    cells: int
    dimensions: int

    @classmethod
    def of(cls, colors: Tensor, palette: Tensor) -> "PixelWork":
        """Lay colours (n, d) and entries (k, d) out, and number the cells."""
        table, box = _four_columns(colors)
        for shift in range(FINEST_SHIFT, _COARSEST_SHIFT + 1):
            first, last = box >> shift
            counts = last - first + 1
            if counts.prod() <= MOST_CELLS:
                break
        steps = np.append(np.cumprod(counts[:0:-1])[::-1], 1)
        return cls(
            table=table,
            palette=four_columns(palette),
            limits=np.stack([*box, steps], axis=1).astype(np.int32),
            grid=np.array([(first * steps).sum(), shift], np.int32),
            cells=int(counts.prod()),
            dimensions=colors.shape[1],
        )

    def new_lists(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Make room for the candidates of each cell, for one thread; none are listed yet."""
        starts = np.full(self.cells, -1, np.int32)
        lists = on_a_line(np.empty(LISTED_CANDIDATES + LINE // 4, np.int32))
        return starts, lists, np.zeros(1, np.int64)

    def new_planes(self, h: int, w: int) -> tuple[np.ndarray, ...]:
        """Make room for what `gpu_kmeans.backends.dither_kernels` knows of pixels, by thirds."""
        pitch, rows = 2 * RIM + _up_to(-(-w // 3), GROUP), _up_to(h, ROWS)
        misses = on_a_line(np.empty((rows + 4) * 3 * 2 * pitch + LINE // 4, np.int32))
        misses = misses.reshape(-1, 3, 2, pitch)
        for rim in (misses[:2], misses[h + 2 :], misses[..., :RIM], misses[..., RIM + w // 3 :]):
            rim[:] = 0  # the rest is written
        return misses, np.full((rows, 3, pitch), KEEPS, np.int16)


def four_columns(values: Tensor) -> np.ndarray:
    """Lay whole numbers (n, d) up to 2040 out as int16 (n, 4), missing dimensions 0."""
    return _four_columns(values)[0]


def _four_columns(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Do so, and return the least and the greatest of each column as well, (2, 4) int64."""
    rows, box = np.empty((len(values), 4), np.int16), np.empty((2, 4), np.int64)
    lay_out(values.contiguous().numpy(), rows, box)
    return rows, box


def _up_to(number: int, step: int) -> int:
    return -(-number // step) * step
