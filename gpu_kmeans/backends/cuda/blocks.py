"""Passes over pictures by CUDA C++, with sums in the memory of blocks: see `sources/passes.cu`.

Sums of all blocks come together in memory that is kept for each stream, and that each launch leaves
cleared; what else a launch needs to know is told when the points are laid out.
"""

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor

from gpu_kmeans.backends import Accumulated, Problems
from gpu_kmeans.backends.cuda import steps
from gpu_kmeans.backends.cuda.devices import known_int32
from gpu_kmeans.backends.cuda.layout import Tiles
from gpu_kmeans.backends.cuda.looks import LOOK_EVERY, Look
from gpu_kmeans.backends.cuda.memory import ALIGNMENT, cleared
from gpu_kmeans.backends.cuda.passes import WIDEST
from gpu_kmeans.backends.cuda.program import available, program
from gpu_kmeans.backends.cuda.words import SUMMED_DIMENSIONS, row_bytes, tiles_of_block

THREADS = 512
STATUS, N_ITER, WCSS, LIMIT, HEAD = range(5)  # rows of a state, see the source


def serves(problems: Problems, most: int) -> bool:
    """Say whether these serve, with up to so many centroids to a problem. May wait, once."""
    tiles = cast("Tiles", problems.layout)
    if tiles.told is None or tiles.d not in SUMMED_DIMENSIONS or most > WIDEST:
        return False
    return available(problems.points.device) and tiles.is_light


def measure(
    problems: Problems,
    centroids: Tensor,
    offsets: tuple[int, ...],
    *,
    active: Sequence[int] | None = None,
    labels: bool = False,
    detail: bool = False,
) -> Accumulated:
    """Do as `gpu_kmeans.backends.Backend.assign_accumulate`, or `accumulate_each`: waits not."""
    device, d, rows, sets = centroids.device, centroids.shape[1], offsets[-1], len(offsets) - 1
    sizes = (rows * d, rows, *((rows * d, rows) if detail else ()), sets)
    is_whole = all(a < b for a, b in pairwise(problems.offsets))  # no blocks serve one of no points
    make = torch.empty if is_whole else torch.zeros
    found = make(sum(sizes), dtype=torch.float64, device=device)
    new, resting = torch.empty if active is None else torch.zeros, None
    own = new(len(problems.points) if labels else 0, dtype=torch.int32, device=device)
    if active is not None:
        resting = known_int32(tuple(int(b not in active) for b in range(sets)), device)
    _launch(
        problems, centroids.contiguous(), offsets, steps.NOTHING.value,
        detail=detail, resting=resting, labels=own if labels else None, found=found,
    )  # fmt: skip
    sums, masses, *details, wcss = found.split(sizes)
    squares, utilities = details or _nothing(d, device)
    return Accumulated(
        sums=sums.view(rows, d),
        masses=masses,
        wcss=wcss,
        labels=own,
        squares=squares.view(rows, d) if detail else squares,
        utilities=utilities,
    )


@functools.cache
def _nothing(d: int, device: torch.device) -> tuple[Tensor, Tensor]:
    none = torch.empty(0, d, dtype=torch.float64, device=device)
    return none, none[:, 0]


class Descent:
    """Lloyd's iteration of several problems; the host only launches.

    Args:
        problems: That are served.
        centroids: (rows, d) those of a problem from its offset on; written to.
        offsets: One more than there are problems.
        still: The relative fall of the WCSS at which a problem rests.
        depth: The most iterations, those done included.
        limits: The shift of each problem at which it rests.
        histories: The WCSS of the iterations that each has done.
        resting: Problems that rest from the start.
    """

    def __init__(
        self,
        problems: Problems,
        centroids: Tensor,
        offsets: tuple[int, ...],
        *,
        still: float,
        depth: int,
        limits: Sequence[float] = (),
        histories: Sequence[Sequence[float]] = (),
        resting: Sequence[int] = (),
    ) -> None:
        self.centroids, self._problems, self._offsets = centroids, problems, offsets
        self._still, self._depth, b = still, depth, len(offsets) - 1
        head = np.zeros((HEAD, b), np.int64)
        real = head.view(np.float64)
        head[STATUS, list(resting)] = steps.RESTS.value
        real[WCSS] = np.inf
        real[LIMIT] = limits or 0.0
        for i, done in enumerate(histories):
            head[N_ITER, i] = len(done)
            real[WCSS, i] = done[-1] if done else np.inf
        self._histories = histories
        self.state = torch.empty(HEAD + depth, b, dtype=torch.int64, device=centroids.device)
        self.state[:HEAD].copy_(torch.from_numpy(head), non_blocking=True)

    def launch(self, step: int, *, is_last: bool = False) -> None:
        """Launch an iteration of the problems that go on."""
        _launch(
            self._problems, self.centroids, self._offsets, step,
            state=self.state, depth=self._depth, still=self._still, is_last=is_last,
        )  # fmt: skip

    def settle(self, count: int) -> float:
        """Launch so many passes over the one problem, then wait for its WCSS."""
        for i in range(count):
            self.launch(steps.SETTLE.value, is_last=i == count - 1)
        return float(self.state[WCSS].view(torch.float64).cpu()[0])

    def descend(
        self, *, over_relaxed: bool, active: Sequence[int], on_iteration: Callable[[int], None]
    ) -> tuple[list[Tensor], list[list[float]], list[int], list[int]]:
        """Do as `AheadBackend.descend`: look at who rests, and wait once."""
        step = (steps.OVER_RELAXED if over_relaxed else steps.DESCEND).value
        first = last = min(len(self._histories[b]) for b in active)
        before: Look | None = None
        for i in range(first, self._depth):
            on_iteration(i)
            self.launch(step)
            last = i + 1
            if (last - first) % LOOK_EVERY == 0:
                if before is not None and before.shows_rest():
                    break
                before = Look(self.state[STATUS])
        done = max(map(len, self._histories)) + last - first  # by nobody more
        state = self.state[: HEAD + done].cpu().numpy()
        states, rows = state[STATUS].tolist(), state[HEAD:].view(np.float64)
        return (
            [self.centroids[a:b] for a, b in pairwise(self._offsets)],
            [
                [*own, *rows[len(own) : n, b].tolist()]
                for b, (own, n) in enumerate(zip(self._histories, state[N_ITER], strict=True))
            ],
            [b for b in active if states[b] == steps.RESTS.value],
            [b for b in active if states[b] == steps.LONELY.value],
        )


def _launch(
    problems: Problems,
    centroids: Tensor,
    offsets: tuple[int, ...],
    step: int,
    *,
    detail: bool = False,
    resting: Tensor | None = None,
    labels: Tensor | None = None,
    found: Tensor | None = None,
    state: Tensor | None = None,
    depth: int = 0,
    still: float = 0.0,
    is_last: bool = False,
) -> None:
    tiles, (rows, d), device = cast("Tiles", problems.layout), centroids.shape, centroids.device
    of, sets, each = tiles.memory, len(offsets) - 1, tiles_of_block(tiles.count)
    sizes = [b - a for a, b in pairwise(offsets)]
    # Tickets, then sums. Each launch leaves both as it finds them, all zeros.
    tickets = -(-sets * 4 // ALIGNMENT) * ALIGNMENT
    sums = cleared(tickets + rows * (2 * d + 3 if detail else d + 2) * 8, device)
    program("passes", device).launch(
        f"pass_{d}{'_detail' if detail else ''}", tiles.blocks * (sets // tiles.problems), THREADS,
        of["points"], of["masses"], tiles.size, of["boxes"], tiles.count, tiles.told,
        tiles.problems, tiles.blocks, each, known_int32(offsets, device), sets, centroids,
        sums.data_ptr() + tickets, sums, resting, labels, found, state, depth, float(still), step,
        int(is_last), shared=max(sizes) * row_bytes(d, detail=detail),
    )  # fmt: skip
