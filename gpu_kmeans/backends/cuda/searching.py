"""Whole searches on a few thousand points of pictures, by CUDA C++: a block to a search.

Seeding is one launch, a breath of every search another: nothing goes back to the host in between,
and a search never leaves its multiprocessor. See `sources/seeding.cu` and `sources/search.cu`.
"""

import functools
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gpu_kmeans.backends import SearchPlan
from gpu_kmeans.backends.cuda.devices import to_device
from gpu_kmeans.backends.cuda.layout import Tiles
from gpu_kmeans.backends.cuda.memory import Memory, Part
from gpu_kmeans.backends.cuda.program import program, shared_bytes
from gpu_kmeans.backends.cuda.words import BLOCK_TILES, SUMMED_DIMENSIONS, row_bytes, sum_bytes

SINGLE, DOUBLE = 4, 8  # bytes
THREADS = 1024
CLUSTER, CLUSTERED_THREADS = 8, 512  # blocks to a search where there are few, threads to a block
FEW_SEARCHES = 16  # with as many blocks to each, they fit on a GPU of 128 multiprocessors
MOST_COPIES = 8  # of sums, which different lanes add to
SHARED_BYTES = 96 << 10  # of a search: what every GPU since Ampere has, and some KB more
OWN_BYTES = 2 << 10  # of its variables beside these, and what is reserved


def can_search(tiles: Tiles, room: int) -> bool:
    """Say whether each problem fits into a block, with so many centroids. Waits for nothing.

    One that weighs too much, if nobody has asked that yet, is found out by seeding: it has no
    seeds.
    """
    tiles_of = (b - a for a, b in pairwise(tiles.first_tiles))
    fits = tiles.d in SUMMED_DIMENSIONS and _bytes(room, tiles.d) <= SHARED_BYTES
    return fits and max(tiles_of) <= BLOCK_TILES and tiles.may_be_light


def search(
    tiles: Tiles, draws: Tensor, plan: SearchPlan, on_breath: Callable[[float], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Do as `AheadBackend.search`: WCSS and counts are on the host."""
    (searches, k, trials), device = draws.shape, tiles.memory.device
    room, groups = k + max(plan.extra, default=0), tiles.problems * searches
    numbers = np.concatenate([draws.numpy().reshape(-1), plan.luck.reshape(-1)])
    uniforms = to_device(torch.from_numpy(numbers), device)
    begin = uniforms.data_ptr()
    luck = begin + draws.numel() * DOUBLE
    seeds = seed_parts(tiles, searches, room)
    run = Search(tiles, plan, luck, (groups, room, len(plan.extra) + 1), **seeds)
    seed(tiles, begin, (searches, k, trials), room, run.memory)
    starts = run.memory["starts"]
    for breath, extra in enumerate(plan.extra):
        on_breath(breath / len(plan.extra))
        run.advance(starts, k, extra)
    run.advance(starts, k)
    best = run.memory.tensor("bests")[-1, :, :k]
    lowest, counts = run.memory.fetch("lowest", "counts")
    return best, torch.from_numpy(lowest[-1]), torch.from_numpy(counts)


def grow(
    tiles: Tiles, start: Tensor, last: int, plan: SearchPlan
) -> Iterator[Float[Tensor, "_k d"]]:
    """Do as `AheadBackend.grow`.

    Raises:
        RuntimeError: The problem weighs too much, which `can_search` did not know yet.
    """
    if not tiles.is_light:
        raise RuntimeError("weights add up to 2^31 or more")
    luck = to_device(torch.from_numpy(plan.luck), start.device)
    room = last + max(plan.extra)
    run = Search(tiles, plan, luck.data_ptr(), (1, room, last - 1))
    start, bests = start.contiguous(), run.memory.tensor("bests").view(-1, tiles.d)
    for k, extra in zip(range(2, last + 1), plan.extra, strict=True):
        run.advance(start.data_ptr(), k - 1, extra, grows=True)
        yield bests[(k - 2) * room : (k - 2) * room + k]


def seed_parts(tiles: Tiles, searches: int, room: int) -> dict[str, Part]:
    """Say what `seed` leaves in memory: `counts`, how many seeds there are, and `starts`.

    These are points, (problems x searches, room, d). Never raises.
    """
    b = tiles.problems * searches
    return {
        "counts": (torch.int32, b),
        "starts": (torch.float32, b, room, tiles.d),
        "nearest": (torch.float32, searches, tiles.size),
    }


def seed(
    tiles: Tiles, uniforms: int, shape: tuple[int, int, int], room: int, memory: Memory
) -> None:
    """Choose seeds by greedy k-means++, for several searches of every problem.

    Args:
        tiles: The points.
        uniforms: Where draws begin on the device, float64; the same for each problem.
        shape: Of these: searches, k, draws.
        room: Rows for the centroids of each search.
        memory: Has room for `seed_parts`.

    Never raises.
    """
    of, (searches, k, draws) = tiles.memory, shape
    program("seeding", memory.device).launch(
        f"seed_{tiles.d}", tiles.problems * searches, THREADS, of["points"], of["masses"],
        tiles.size, of["first_tile_of"], of["tiles_of"], searches, k, draws, uniforms,
        memory["nearest"], memory["counts"], memory["starts"], room,
    )  # fmt: skip


class Search:
    """Searches on their way, as many groups of lanes for each problem.

    What it leaves in memory is `bests`, (launches, groups, room, d), the best centroids after each
    launch: of several lanes those before the breath that the launch took, of one after it; and
    `lowest`, (launches, groups), their WCSS.

    Args:
        tiles: The points.
        plan: What to do.
        luck: Where the plan's begins on the device. Whoever holds it has to until all is launched.
        shape: Groups; rows for the centroids of each; launches.
        parts: What else there is to be in memory, after what is left there.
    """

    def __init__(
        self, tiles: Tiles, plan: SearchPlan, luck: int, shape: tuple[int, int, int], **parts: Part
    ) -> None:
        (groups, room, launches), d = shape, tiles.d
        lanes = groups * plan.lanes
        self._tiles, self._plan, self._luck = tiles, plan, luck
        self._groups, self._room, self._done = groups, room, 0
        self.memory = Memory(
            tiles.memory.device,
            bests=(torch.float32, launches, groups, room, d),
            lowest=(torch.float64, launches, groups),
            **parts,
            wcss=(torch.float64, 2, lanes),
            found=(torch.float32, 2, lanes, room, d),
        )

    def advance(self, starts: int, kept: int, extra: int = 0, *, grows: bool = False) -> None:
        """Keep what the last launch found, grow by one if asked, and take a breath.

        Args:
            starts: Where centroids to set out from begin, (groups, room, d); read by the first.
            kept: How many centroids each problem has before.
            extra: How many are split and dropped; 0 for no breath.
            grows: Split one more, settle, and keep that.
        """
        plan, tiles, own, i = self._plan, self._tiles, self.memory, self._done
        of, d, room, lanes = tiles.memory, tiles.d, self._room, self._groups * plan.lanes
        kernel, blocks, threads, copies = f"advance_{d}", 1, THREADS, MOST_COPIES
        sums, details = (room * sum_bytes(d, detail=detail) for detail in (False, True))
        shared, cluster = _bytes(room, d) - details, _cluster_size(own.device)
        together = shared + details * (1 + (cluster > 1))
        if lanes <= FEW_SEARCHES and together + OWN_BYTES <= shared_bytes(own.device):
            kernel, blocks, threads = f"{kernel}_together", cluster, CLUSTERED_THREADS
            shared = together
        else:
            copies = max(1, min(copies, (SHARED_BYTES - shared) // sums))
            shared += max(copies * sums, details)
        breaths, width = plan.luck.shape[1:]
        luck = self._luck + i * width * DOUBLE if extra else None
        # The first launch reads nothing of what is before it: that need not be there.
        before, after, turn = max(0, i - 1), i, i % 2
        best, lowest = room * d * self._groups * SINGLE, self._groups * DOUBLE
        found, wcss = room * d * lanes * SINGLE, lanes * DOUBLE
        program("search", own.device).launch(
            kernel, lanes * blocks, threads, of["points"], of["masses"], tiles.size,
            of["boxes"], tiles.count, of["first_tile_of"], of["tiles_of"], starts, room, kept,
            0 if i else plan.first_steps, int(grows), self._groups // tiles.problems, plan.lanes,
            extra, plan.steps_in, plan.steps_out, copies, plan.still, plan.reach, luck,
            breaths * width, own["found"] + turn * found, own["wcss"] + turn * wcss,
            own["bests"] + before * best, own["lowest"] + before * lowest,
            own["found"] + (1 - turn) * found, own["wcss"] + (1 - turn) * wcss,
            own["bests"] + after * best, own["lowest"] + after * lowest, shared=shared,
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
