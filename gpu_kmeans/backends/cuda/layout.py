"""Points as the kernels like them: coordinate by coordinate, in tiles with boxes.

Each problem is filled up to whole tiles by copies of its last point with weight 0. Colours come in
Morton order; other points of up to four dimensions are put into it, so that boxes are small.
"""

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor

from gpu_kmeans.backends import Problems
from gpu_kmeans.backends.cuda.passes import TILE
from gpu_kmeans.backends.reference import morton_codes

BOXED_DIMENSIONS = 4  # a box of 128 neighbours prunes little in more
LIGHT = float(1 << 31)  # weights up to which sums fit into words, see `sources/points.cuh`
ALIGNMENT = 16  # numbers of 4 bytes or more: above the 16 bytes that Triton asks about


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Several problems in the layout of the kernels; `size` is the number of rows, filled up.

    Attributes:
        points: (d, size) coordinates.
        weights: (size,) float64, 0 where a tile is filled up.
        masses: (size,) int64, the same of an integral problem; else empty.
        rows: (size,) int64, the row of the packed points that stands here.
        boxes: (2, d, tiles) low and high corners; empty beyond four dimensions.
        problem_of: (tiles,) int32, whose tile it is.
        tiles_of: (problems,) int32, how many tiles each has.
        first_tile_of: (problems,) int32.
        first_tiles: The same, and the number of all tiles, on the host.
    """

    points: Tensor
    weights: Tensor
    masses: Tensor
    rows: Tensor
    boxes: Tensor
    problem_of: Tensor
    tiles_of: Tensor
    first_tile_of: Tensor
    first_tiles: tuple[int, ...]
    _known: dict[str, bool] = field(default_factory=dict, init=False, repr=False)

    @property
    def is_light(self) -> bool:
        """All weights of an integral problem add up to less than 2^31. Waits for the sum, once."""
        if "light" not in self._known:
            self._known["light"] = float(self.weights.sum()) < LIGHT
        return self._known["light"]

    @property
    def size(self) -> int:
        """Rows, filled up to whole tiles."""
        return self.points.shape[1]

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
    return Tiles(
        points=laid,
        weights=weights,
        masses=weights.to(torch.int64) if problems.is_integral else rows[:0],
        rows=rows,
        boxes=boxes,
        problem_of=as_int32(
            torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)), device
        ),
        tiles_of=as_int32(counts, device),
        first_tile_of=as_int32(first_tiles[:-1], device),
        first_tiles=first_tiles,
    )


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


def as_int32(values: Sequence[int] | Tensor, device: torch.device) -> Tensor:
    """Bring whole numbers to the device without waiting for it."""
    return to_device(torch.as_tensor(values, dtype=torch.int32), device)


def stream_of(device: torch.device) -> int:
    """Name the stream that launches go to: what is kept for one is not there yet on another."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


@functools.lru_cache(maxsize=256)
def _known(
    values: tuple[float, ...], dtype: torch.dtype, device: torch.device, _stream: int
) -> Tensor:
    return to_device(torch.tensor(values, dtype=dtype), device)


def known_int32(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Bring numbers to the device that may well be there already: they are not to be written."""
    return _known(values, torch.int32, device, stream_of(device))


def known_int64(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Do as `known_int32`."""
    return _known(values, torch.int64, device, stream_of(device))


def known_float64(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Do as `known_int32`."""
    return _known(values, torch.float64, device, stream_of(device))


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Bring a small tensor to the device without waiting for it."""
    if device.type != "cuda":
        return values
    return values.to(device, non_blocking=True)  # the driver has read it when this returns


def rows_of(
    value: float, count: int, rows: int, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """Return so many tensors of a value from one allocation, each as aligned as a new one.

    Triton compiles a kernel anew for a pointer that is aligned otherwise.
    """
    padded = -(-max(1, rows) // ALIGNMENT) * ALIGNMENT
    filled = torch.full((count, padded), value, dtype=dtype, device=device)
    return [row[:rows] for row in filled]


def on(device: torch.device) -> AbstractContextManager[object]:
    """Launch on this device, whichever is the current one. Triton asks for the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def morton_order(points: Tensor) -> Tensor:
    """Sort points along a Morton curve of 256 steps a side: any order is right, this is fast."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    span = torch.where(high > low, high - low, 1)
    levels = ((points - low) / span * 255).to(torch.uint8)
    return morton_codes(levels).argsort(stable=True)
