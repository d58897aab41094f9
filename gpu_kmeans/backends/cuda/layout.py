"""Points as the kernels like them: coordinate by coordinate, in tiles with boxes.

Each problem is filled up to whole tiles by copies of its last point with weight 0. Colours come in
Morton order; other points of up to four dimensions are put into it, so that boxes are small.
"""

from itertools import accumulate, pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor

from gpu_kmeans.backends import Problems
from gpu_kmeans.backends.cuda.devices import as_int32
from gpu_kmeans.backends.cuda.memory import Memory
from gpu_kmeans.backends.cuda.passes import TILE
from gpu_kmeans.backends.cuda.words import tiles_of_block
from gpu_kmeans.backends.reference import morton_codes

BOXED_DIMENSIONS = 4  # a box of 128 neighbours prunes little in more
PARTS = ("points", "weights", "masses", "rows", "boxes", "problem_of", "tiles_of", "first_tile_of")
COLUMNS = 3  # of what kernels are told of problems, before their moments: see `tiling`
LIGHT = float(1 << 31)  # weights up to which sums fit into words, see `sources/points.cuh`


class Tiles:
    """Several problems in the layout of the kernels.

    Args:
        memory: Where all that is, see below, except `first_tiles`.
        first_tiles: The first tile of each problem, and the number of all tiles.
        d: Coordinates of a point.
        told: Of those laid out by CUDA C++, what its kernels are told, see `tiling`.

    Attributes:
        points: (d, size) coordinates; `size` is the number of rows, filled up to whole tiles.
        weights: (size,) float64, 0 where a tile is filled up.
        masses: (size,) int64, the same of an integral problem; else empty.
        rows: (size,) int64, the row of the packed points that stands here.
        boxes: (2, d, tiles) low and high corners; empty beyond four dimensions.
        problem_of: (tiles,) int32, whose tile it is.
        tiles_of: (problems,) int32, how many tiles each has.
        first_tile_of: (problems,) int32.
    """

    __slots__ = ("_moments", "_sums_up", "d", "first_tiles", "memory", "told")

    def __init__(
        self, memory: Memory, first_tiles: tuple[int, ...], d: int, told: Tensor | None = None
    ) -> None:
        self.memory, self.first_tiles, self.d, self.told = memory, first_tiles, d, told
        self._moments: np.ndarray | None = None
        self._sums_up: bool | None = None

    def __getattr__(self, name: str) -> Tensor:
        """Make a tensor of a part when one is asked for: kernels of CUDA C++ need but addresses."""
        if name in PARTS:
            return self.memory.tensor(name)
        raise AttributeError(name)

    def moments(self) -> np.ndarray:
        """Weight, squares about zero and sums of each problem: (problems, 2 + d) int64.

        Of tiles that CUDA C++ has laid out, where weights add up to less than `LIGHT`: if not, the
        weight is that or more, and nothing else means anything. Waits, once.
        """
        if self._moments is None:
            told = cast("Tensor", self.told)
            begin = COLUMNS * (self.problems + 1)
            self._moments = told[begin:].cpu().numpy().reshape(self.problems, 2 + self.d)
        return self._moments

    @property
    def is_light(self) -> bool:
        """All weights of each integral problem add up to less than 2^31. Waits to know, once."""
        if self._sums_up is None:
            if self.told is None:
                self._sums_up = float(self.weights.sum()) < LIGHT
            else:
                self._sums_up = float(self.moments()[:, 0].max()) < LIGHT
        return self._sums_up

    @property
    def may_be_light(self) -> bool:
        """It is light, or nobody has asked yet. Waits for nothing."""
        return self._sums_up is not False

    @property
    def problems(self) -> int:
        """How many there are."""
        return len(self.first_tiles) - 1

    @property
    def blocks(self) -> int:
        """Blocks of a pass by CUDA C++: so many of each problem, none of two."""
        each = tiles_of_block(self.count)
        return sum(-(-(b - a) // each) for a, b in pairwise(self.first_tiles))

    @property
    def size(self) -> int:
        """Rows, filled up to whole tiles."""
        return self.count * TILE

    @property
    def count(self) -> int:
        """Tiles of all problems."""
        return self.first_tiles[-1]


def lay_out(problems: Problems) -> Tiles:
    """Lay packed problems out in tiles, by PyTorch. Waits for nothing. Never raises."""
    points, spans = problems.points, problems.spans
    device, d = points.device, points.shape[1]
    counts = [-(-(rows.stop - rows.start) // TILE) for rows in spans]
    first_tiles = tuple(accumulate(counts, initial=0))
    rows = torch.empty(first_tiles[-1] * TILE, dtype=torch.int64, device=device)
    filled = torch.zeros(len(rows), dtype=torch.bool, device=device)
    for span, first in zip(spans, first_tiles, strict=False):
        n = span.stop - span.start
        begin, end = first * TILE, (first + -(-n // TILE)) * TILE
        order = (
            torch.arange(n, device=device) if _is_ordered(problems) else morton_order(points[span])
        )
        rows[begin : begin + n] = order + span.start
        rows[begin + n : end] = order[-1:] + span.start
        filled[begin + n : end] = True
    laid = points[rows].T.contiguous()
    weights = problems.weights[rows].masked_fill(filled, 0)
    corners = laid.reshape(d, first_tiles[-1], TILE)
    has_boxes = d <= BOXED_DIMENSIONS
    boxes = torch.stack([corners.amin(dim=2), corners.amax(dim=2)]) if has_boxes else laid[:0]
    owners = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    memory = Memory(device).put(
        points=laid,
        weights=weights,
        masses=weights.to(torch.int64) if problems.is_integral else rows[:0],
        rows=rows,
        boxes=boxes,
        problem_of=as_int32(owners, device),
        tiles_of=as_int32(counts, device),
        first_tile_of=as_int32(first_tiles[:-1], device),
    )
    return Tiles(memory, first_tiles, d)


def in_rows(problems: Problems, values: Tensor) -> Tensor:
    """Return what is said of the points in the tiles in the order of the packed ones.

    Args:
        problems: Laid out in tiles.
        values: (size,), one for each point of the tiles.

    Returns:
        (n,) values; a view of them where nothing is moved. Never raises.
    """
    tiles = cast("Tiles", problems.layout)
    sizes = [b - a for a, b in pairwise(problems.offsets)]
    starts = [TILE * first for first in tiles.first_tiles]
    spans = [slice(at, at + size) for at, size in zip(starts, sizes, strict=False)]
    own = values[spans[0]] if len(spans) == 1 else torch.cat([values[span] for span in spans])
    if _is_ordered(problems):
        return own
    rows = torch.cat([tiles.rows[span] for span in spans])
    return torch.empty_like(own).scatter_(0, rows, own)


def _is_ordered(problems: Problems) -> bool:
    """Say whether points stand in their tiles in the order in which they came."""
    return problems.is_integral or problems.points.shape[1] > BOXED_DIMENSIONS


def morton_order(points: Tensor) -> Tensor:
    """Sort points along a Morton curve of 256 steps a side: any order is right, this is fast."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    span = torch.where(high > low, high - low, 1)
    levels = ((points - low) / span * 255).to(torch.uint8)
    return morton_codes(levels).argsort(stable=True)
