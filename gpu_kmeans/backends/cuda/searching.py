"""Whole searches on a few thousand points of pictures, by CUDA C++: a block to a search.

Seeding is one launch, a breath of every search another: nothing goes back to the host in between,
and a search never leaves its multiprocessor. See `sources/seeding.cu` and `sources/search.cu`.
"""

import functools
from itertools import pairwise

import torch
from torch import Tensor

from gpu_kmeans.backends import SearchPlan
from gpu_kmeans.backends.cuda.layout import Tiles, to_device
from gpu_kmeans.backends.cuda.program import program
from gpu_kmeans.backends.cuda.words import BLOCK_TILES, SUMMED_DIMENSIONS, row_bytes, sum_bytes

THREADS = 1024
CLUSTER, CLUSTERED_THREADS = 8, 512  # blocks to a search where there are few, threads to a block
FEW_SEARCHES = 16  # with as many blocks to each, they fit on a GPU of 128 multiprocessors
MOST_COPIES = 8  # of sums, which different lanes add to
SHARED_BYTES = 96 << 10  # of a search: what every GPU since Volta has


def can_search(tiles: Tiles, room: int) -> bool:
    """Say whether each problem fits into a block, with so many centroids. May wait for its sum."""
    d = len(tiles.points)
    tiles_of = (b - a for a, b in pairwise(tiles.first_tiles))
    fits = d in SUMMED_DIMENSIONS and _bytes(room, d) <= SHARED_BYTES
    return fits and max(tiles_of) <= BLOCK_TILES and tiles.is_light


def seed(tiles: Tiles, uniforms: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """Choose seeds by greedy k-means++, for several searches of every problem.

    Args:
        tiles: The points.
        uniforms: (searches, k, draws) float64, on the device; the same for each problem.
        room: Rows for the centroids of each search.

    Returns:
        Points (problems x searches, room, d), and how many of them are seeds. Never raises.
    """
    (searches, k, draws), d, device = uniforms.shape, len(tiles.points), tiles.points.device
    b = len(tiles.tiles_of) * searches
    nearest = torch.empty(searches, tiles.size, dtype=torch.float32, device=device)
    counts = torch.empty(b, dtype=torch.int32, device=device)
    centroids = torch.zeros(b, room, d, dtype=torch.float32, device=device)
    program("seeding", device).launch(
        f"seed_{d}", b, THREADS, tiles.points, tiles.masses, tiles.size, tiles.first_tile_of,
        tiles.tiles_of, searches, k, draws, uniforms, nearest, counts, centroids, room,
    )  # fmt: skip
    return centroids, counts


class Search:
    """Searches on their way, so many of each problem, each by so many lanes.

    Attributes:
        bests: (launches + 1, groups, room, d) the best centroids after each launch; the first are
            not. Of several lanes those before the breath that the launch took, of one after it.
        lowest: (launches + 1, groups) their WCSS.
    """

    def __init__(self, tiles: Tiles, starts: Tensor, plan: SearchPlan, launches: int) -> None:
        """Set out from `starts`, (groups, room, d), as many groups for each problem."""
        groups, room, d = starts.shape
        device, lanes = starts.device, plan.lanes
        self._tiles, self._starts, self._plan = tiles, starts, plan
        self._searches = groups // len(tiles.tiles_of)
        self._luck = to_device(torch.from_numpy(plan.luck), device)  # (b, breaths, width)
        shape = (groups * lanes, room, d) if lanes > 1 else (1, 1, 1)
        self._found = torch.empty(2, *shape, dtype=torch.float32, device=device)
        self._wcss = torch.empty(2, groups * lanes, dtype=torch.float64, device=device)
        self.bests = torch.zeros(launches + 1, groups, room, d, dtype=torch.float32, device=device)
        self.lowest = torch.zeros(launches + 1, groups, dtype=torch.float64, device=device)
        self._done = 0

    def advance(self, kept: int, extra: int = 0, *, grows: bool = False) -> None:
        """Keep what the last launch found, grow by one if asked, and take a breath.

        Args:
            kept: How many centroids each problem has before.
            extra: How many are split and dropped; 0 for no breath.
            grows: Split one more, settle, and keep that.
        """
        plan, tiles, starts, i = self._plan, self._tiles, self._starts, self._done
        groups, room, d = starts.shape
        luck = self._luck[0, i] if extra else None
        kernel, blocks, threads, copies = f"advance_{d}", 1, THREADS, MOST_COPIES
        sums, details = (room * sum_bytes(d, detail=detail) for detail in (False, True))
        shared = _bytes(room, d) - details
        if groups * plan.lanes <= FEW_SEARCHES:
            blocks, threads = _cluster_size(starts.device), CLUSTERED_THREADS
            kernel, shared = f"{kernel}_together", shared + details * (1 + (blocks > 1))
        else:
            copies = max(1, min(copies, (SHARED_BYTES - shared) // sums))
            shared += max(copies * sums, details)
        program("search", starts.device).launch(
            kernel, groups * plan.lanes * blocks, threads, tiles.points, tiles.masses, tiles.size,
            tiles.boxes, tiles.count, tiles.first_tile_of, tiles.tiles_of, starts, room, kept,
            0 if i else plan.first_steps, int(grows), self._searches, plan.lanes, extra,
            plan.steps_in, plan.steps_out, copies, plan.still, plan.reach, luck,
            self._luck.stride(0), self._found[i % 2], self._wcss[i % 2], self.bests[i],
            self.lowest[i], self._found[(i + 1) % 2], self._wcss[(i + 1) % 2], self.bests[i + 1],
            self.lowest[i + 1], shared=shared,
        )  # fmt: skip
        self._done += 1


@functools.cache
def _cluster_size(device: torch.device) -> int:
    """Return how many blocks take a search together: one where they cannot."""
    is_able = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
    return CLUSTER if is_able else 1


def _bytes(room: int, d: int) -> int:
    """Return the bytes of a block's own memory: see `Search.lay_out` in `sources/search.cu`."""
    return room * (row_bytes(d, detail=True) + 16 + 12 * d + 8)
