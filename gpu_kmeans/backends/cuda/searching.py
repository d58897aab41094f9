"""Whole searches on a few thousand points of pictures, by CUDA C++: a block to a search.

Seeding is one launch, a breath of every search another: nothing goes back to the host in between,
and a search never leaves its multiprocessor. See `sources/seeding.cu` and `sources/search.cu`.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gpu_kmeans.backends import SearchPlan
from gpu_kmeans.backends.cuda.layout import Tiles, to_device
from gpu_kmeans.backends.cuda.program import program
from gpu_kmeans.backends.cuda.words import BLOCK_TILES, SUMMED_DIMENSIONS, copies_for, words

THREADS = 1024
SHARED_BYTES = 96 << 10  # of a search: what every GPU since Volta has
MOST_DRAWS = 32  # see `sources/seeding.cu`


@dataclass(slots=True)
class _Bests:
    """The best centroids of each group of lanes, (groups, room, d), and their WCSS."""

    centroids: Tensor
    wcss: Tensor


def can_search(tiles: Tiles, room: int) -> bool:
    """Say whether each problem fits into a block, with so many centroids. May wait for its sum."""
    d = len(tiles.points)
    tiles_of = (b - a for a, b in pairwise(tiles.first_tiles))
    fits = d in SUMMED_DIMENSIONS and _bytes(room, d, 1, detail=True) <= SHARED_BYTES
    return fits and max(tiles_of) <= BLOCK_TILES and tiles.is_light


def seed(tiles: Tiles, searches: int, uniforms: Tensor, room: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose seeds by greedy k-means++, for so many searches of every problem.

    Args:
        tiles: The points.
        searches: Of each problem.
        uniforms: (problems x searches, k, draws) float64, on the device.
        room: Rows for the centroids of each search.

    Returns:
        Points (problems x searches, room, d), where they stand (problems x searches, k), and how
        many there are. Never raises.
    """
    (b, k, draws), d, device = uniforms.shape, len(tiles.points), tiles.points.device
    nearest = torch.empty(b, tiles.size, dtype=torch.float32, device=device)
    seeds = torch.zeros(b, k, dtype=torch.int32, device=device)
    counts = torch.zeros(b, dtype=torch.int32, device=device)
    centroids = torch.zeros(b, room, d, dtype=torch.float32, device=device)
    program("seeding", device).launch(
        f"seed_{d}", b, THREADS, tiles.points, tiles.masses, tiles.size, tiles.first_tile_of,
        tiles.tiles_of, searches, k, draws, uniforms, nearest, seeds, counts, centroids, room,
    )  # fmt: skip
    return centroids, seeds, counts


class Search:
    """Searches on their way, so many of each problem, each by so many lanes."""

    def __init__(self, tiles: Tiles, starts: Tensor, searches: int, plan: SearchPlan) -> None:
        """Set out from `starts`, (problems x searches, room, d)."""
        groups, room, d = starts.shape
        device = starts.device
        self._tiles, self._starts, self._plan = tiles, starts, plan
        self._per_problem = searches
        b = groups * plan.lanes
        self._luck = to_device(torch.as_tensor(plan.luck), device)  # (b, breaths, width)
        shape = (2, b, room, d) if plan.lanes > 1 else (2, 1, 1, 1)
        self._found = torch.zeros(shape, dtype=torch.float32, device=device)
        self._wcss = torch.zeros(2, b, dtype=torch.float64, device=device)
        self._launches = 0
        self._bests = _Bests(starts, self._wcss[0])

    def advance(self, kept: int, extra: int, breath: int, *, grows: bool = False) -> Tensor:
        """Launch a breath, after keeping what the last one found, and growing by one if asked.

        Args:
            kept: How many centroids each problem has before.
            extra: How many are split and dropped; 0 for no breath.
            breath: The row of the luck.
            grows: Split one more, settle, and keep that.

        Returns:
            The best centroids, (groups, room, d), before the breath where there are several lanes,
            after it where there is one. Never raises.
        """
        plan, tiles, starts = self._plan, self._tiles, self._starts
        (groups, room, d), device = starts.shape, starts.device
        before = self._bests
        bests = _Bests(
            torch.zeros_like(starts), torch.zeros(groups, dtype=torch.float64, device=device)
        )
        old, new = self._launches % 2, (self._launches + 1) % 2
        copies = copies_for(SHARED_BYTES - _bytes(room, d, 0), room, d)
        shared = max(_bytes(room, d, copies), _bytes(room, d, 1, detail=True))
        width, breaths = self._luck.shape[2], self._luck.shape[1]
        program("search", device).launch(
            f"advance_{d}", groups * plan.lanes, THREADS, tiles.points, tiles.masses, tiles.size,
            tiles.boxes, tiles.count, tiles.first_tile_of, tiles.tiles_of, starts, room, kept,
            0 if self._launches else plan.first_steps, int(grows), self._per_problem, plan.lanes,
            extra, plan.steps_in, plan.steps_out, copies, plan.still, plan.reach,
            self._luck[0, breath], width * breaths, self._found[old], self._wcss[old],
            before.centroids, before.wcss, self._found[new], self._wcss[new], bests.centroids,
            bests.wcss, shared=shared,
        )  # fmt: skip
        self._launches += 1
        self._bests = bests
        return bests.centroids

    @property
    def lowest(self) -> Tensor:
        """The WCSS of the best of each group."""
        return self._bests.wcss


def _bytes(room: int, d: int, copies: int, *, detail: bool = False) -> int:
    """Return the bytes of a block's own memory: see `Search.lay_out` in `sources/search.cu`."""
    rows = 16 if d == 3 else 32  # noqa: PLR2004
    return room * (rows + 16 + 12 * d + 8 + 4 * copies * words(d, detail=detail))
