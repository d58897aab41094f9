"""Dithering by kernels of CUDA C++, in a few launches: see `sources/dithering.cu`, `moments.cu`."""

import torch
from torch import Tensor

from gpu_kmeans.backends import BLUR, DIFFUSION_ROWS, fixed_point
from gpu_kmeans.backends.cuda.memory import Memory
from gpu_kmeans.backends.cuda.program import available, program, shared_bytes

__all__ = ["blurred_moments", "counts", "dither", "serves"]

DIMENSIONS = (3, 4)  # that a colour may have here
COORDINATES = 4
CELLS = {3: 1 << 18, 4: 1 << 16}  # by dimensions
LISTED_BLOCKS = {3: 1 << 12, 4: 1 << 8}  # of 4 cells a side
LISTED_CANDIDATES = 1 << 22  # bytes; where they are full, all entries are compared
BAND_THREADS = 256
PREPARING_BLOCKS, PREPARING_THREADS, LISTING_THREADS = 512, 256, 64
MOST_ROW_THREADS = 512
WARP = 32
TILE_ROWS, TILE_COLUMNS = 16, 32
MOMENT_BLOCKS = 132  # as many as a large GPU has multiprocessors
OWN_BYTES = 20 << 10  # of a block that counts: its variables, and what is reserved
MOST_TILES = 1 << 14  # of a block: 2^23 pixels, whose counts surely fit in 32 bits


def serves(colors: Tensor) -> bool:
    """Say whether colours of so many dimensions are dithered here, on the device they are on.

    Raises:
        torch.OutOfMemoryError: As `gpu_kmeans.backends.cuda.program.available`.
    """
    return colors.shape[1] in DIMENSIONS and available(colors.device)


def counts(colors: Tensor, k: int) -> bool:
    """Say whether `blurred_moments` of k entries fit into a block. Raises as `serves` does."""
    return serves(colors) and _pair_bytes(k) + OWN_BYTES <= shared_bytes(colors.device)


def dither(
    colors: Tensor,
    inverse: Tensor,
    palette: Tensor,
    *,
    strength: float,
    own: Tensor,
    sweeps: int,
) -> Tensor:
    """Do as `gpu_kmeans.backends.Backend.dither`, for colours of 3 or 4 dimensions.

    Raises:
        RuntimeError: The driver refuses a launch.
    """
    (h, w), (k, d), device = inverse.shape, palette.shape, colors.device
    run, bands = program("dithering", device).launch, -(-h // DIFFUSION_ROWS)
    zeros = torch.zeros(2 * COORDINATES + 1, dtype=torch.int32, device=device)
    box, taken = zeros[:-1], zeros[-1:]
    third = (w + 6) // 3  # columns of which every third is one, with two empty ones on each side
    room = Memory(
        device,
        records=(torch.int64, h * w),
        entries=(torch.int64, k),
        misses=(torch.int64, (h + 4) * 3 * third if sweeps else 0),
        cells=(torch.int64, CELLS[d]),
        lists=(torch.uint8, LISTED_CANDIDATES),
        touched=(torch.int32, bands, BAND_THREADS),
    )
    records, entries, misses, cells, lists, touched = map(
        room.__getitem__, ("records", "entries", "misses", "cells", "lists", "touched")
    )
    indices = torch.empty(h, w, dtype=torch.uint8, device=device)
    run(
        f"prepare_{d}", PREPARING_BLOCKS, PREPARING_THREADS, colors.contiguous(),
        inverse.to(torch.int32).contiguous(), palette.contiguous(), own.to(torch.int32), box,
        records, entries, misses, PREPARING_BLOCKS, len(colors), h, w, k, sweeps,
    )  # fmt: skip
    run(
        f"list_candidates_{d}", LISTED_BLOCKS[d], LISTING_THREADS,
        entries, box, cells, lists, taken, LISTED_CANDIDATES, k,
    )  # fmt: skip
    given, found = (records, entries, cells, lists, box), (indices, misses)
    run(
        f"diffuse_{d}", bands, BAND_THREADS,
        *given, *found, touched, fixed_point(strength), h, w, k, sweeps,
    )  # fmt: skip
    share, threads = fixed_point(strength / BLUR[len(BLUR) // 2] ** 2), _row_threads(w)
    for phase in (*range(min(3, h)),) * sweeps:
        rows = len(range(phase, h, 3))
        run(f"reconsider_{d}", rows, threads, *given, *found, share, phase, w, k)
    return indices


def blurred_moments(
    colors: Tensor, inverse: Tensor, indices: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Do as `gpu_kmeans.backends.Backend.blurred_moments`, for colours of 3 or 4 dimensions.

    Raises:
        RuntimeError: The driver refuses a launch.
    """
    (h, w), d, device = inverse.shape, colors.shape[1], colors.device
    tiles = -(-h // TILE_ROWS) * -(-w // TILE_COLUMNS)
    blocks = min(tiles, max(MOMENT_BLOCKS, -(-tiles // MOST_TILES)))
    both = torch.zeros(k * (k + d), dtype=torch.int64, device=device)
    meetings, sums = both[: k * k], both[k * k :]
    program("moments", device).launch(
        f"count_blurred_{d}", blocks, TILE_ROWS * TILE_COLUMNS, colors.contiguous(),
        inverse.to(torch.int32).contiguous(), indices.contiguous(), meetings, sums,
        blocks, h, w, k, shared=_pair_bytes(k),
    )  # fmt: skip
    return meetings.reshape(k, k), sums.reshape(k, d)


def _pair_bytes(k: int) -> int:
    return k * (k + 1) // 2 * 4


def _row_threads(w: int) -> int:
    """Say how many threads share a third of a row, none of them much longer than the others."""
    columns = -(-w // 3)
    rounds = -(-columns // MOST_ROW_THREADS)
    return -(-columns // (rounds * WARP)) * WARP
