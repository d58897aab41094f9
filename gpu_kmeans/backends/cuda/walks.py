"""Lloyd's iteration over pictures by Triton, without waiting for the device.

A walk is the state of several problems on their way, all of it on the device: centroids, sums, what
the last pass cost, who has come to rest. The host only launches; it looks at who rests a few
launches late, by a copy that runs beside them.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import triton
from torch import Tensor

from gpu_kmeans.backends import Problems
from gpu_kmeans.backends.cuda import passes, steps
from gpu_kmeans.backends.cuda.devices import (
    as_int32,
    known_float64,
    known_int32,
    known_int64,
    on,
    rows_of,
    to_device,
)
from gpu_kmeans.backends.cuda.layout import Tiles
from gpu_kmeans.backends.cuda.looks import LOOK_EVERY, Look
from gpu_kmeans.backends.cuda.passes import TILE
from gpu_kmeans.refinement import REACH

EXACT = {"enable_fp_fusion": False}  # rounding is part of the answer: no fused multiply-adds


class TileWalk:
    """The contract of `gpu_kmeans.backends.abilities.Walk`; every tensor is on the device.

    Args:
        problems: Integral ones, of up to four dimensions, laid out in tiles.
        centroids: (rows, d) float32, those of a problem from its offset on; written to.
        offsets: One more than there are problems.
        counts: How many of the rows between are centroids, if not all.
        detail: Whether there will be steps that need squares and utilities.
        still: The relative fall of the WCSS at which a problem rests.
        extra: How many clusters each breath splits and drops.
        luck: (problems, breaths, k) what splitting divides the gains by; None for ones.
        limits: The shift of each problem at which descending rests.
        history: (problems, iterations) float64, WCSS of the iterations done.
        done: How many those are.
        over_relaxed: Descend by steps beyond the means, see `gpu_kmeans.distances.place_beyond`.
    """

    def __init__(
        self,
        problems: Problems,
        centroids: Tensor,
        offsets: Sequence[int],
        *,
        counts: Sequence[int] | None = None,
        detail: bool = False,
        still: float = 0.0,
        extra: Sequence[int] = (0,),
        luck: Tensor | None = None,
        limits: Sequence[float] = (),
        history: Tensor | None = None,
        done: Sequence[int] = (),
        over_relaxed: bool = False,
    ) -> None:
        device, d = centroids.device, centroids.shape[1]
        sizes = [b - a for a, b in pairwise(offsets)]
        b = len(sizes)
        self.tiles = cast("Tiles", problems.layout)
        self.width = width_for(max(sizes))
        self.centroids = centroids
        columns = 2 * d + 3 if detail else d + 2
        self.table = torch.zeros(len(centroids), columns, dtype=torch.int64, device=device)
        self.offsets = tuple(offsets)
        self.first_of = known_int32(self.offsets[:-1], device)
        self.count_of = known_int32(tuple(sizes if counts is None else counts), device)
        self.kept_of = self.count_of
        if counts is not None:  # the walk will change them
            self.count_of, self.kept_of = self.count_of.clone(), self.count_of.clone()
        self.status, self.tickets, self.n_iter = rows_of(0, 3, b, torch.int32, device)
        if done:
            self.n_iter = as_int32(done, device)
        self.wcss, self.lowest = rows_of(torch.inf, 2, b, torch.float64, device)
        self.step = steps.OVER_RELAXED if over_relaxed else steps.DESCEND
        self.limits = known_float64(tuple(limits) or (0.0,) * b, device)
        self.still = known_float64((still,), device)
        self.history = self.wcss[:, None] if history is None else to_device(history, device)
        self.extra_of = known_int32(tuple(extra), device)
        self.luck = self.wcss
        if counts is not None:
            table = torch.ones(b, len(extra), self.width, dtype=torch.float64)
            if luck is not None:
                table[:, :, : luck.shape[2]] = luck
            self.luck = to_device(table, device)
        self.best = centroids.clone() if detail else centroids

    def settle(self, steps_: int) -> None:
        """Launch so many passes, each problem resting by itself."""
        for i in range(steps_):
            self._launch(steps.SETTLE.value, is_last=i == steps_ - 1)

    def split(self, breath: int) -> None:
        """Launch a pass that splits."""
        self._launch(steps.SPLIT.value, detail=True, breath=breath)

    def drop(self, breath: int) -> None:
        """Launch a pass that drops."""
        self._launch(steps.DROP.value, detail=True, breath=breath)

    def keep(self, lanes: int = 1) -> None:
        """Keep the better, in one launch."""
        with on(self.status.device):
            steps.keep_better[(len(self.status) // lanes,)](
                self.first_of, self.count_of, self.kept_of, self.centroids, self.wcss, self.status,
                self.best, self.lowest, LANES=lanes, D=self.centroids.shape[1], K=self.width,
            )  # fmt: skip

    def grow(self) -> None:
        """Let one more centroid be kept, whatever its WCSS."""
        self.kept_of += 1
        self.lowest.fill_(torch.inf)

    def descend(self, begun: int, on_iteration: Callable[[int], None]) -> None:
        """Launch iterations until every problem rests, is lonely, or has done them all."""
        before: Look | None = None
        for i in range(begun, self.history.shape[1]):
            on_iteration(i)
            self._launch(self.step.value)
            if (i + 1 - begun) % LOOK_EVERY == 0:
                if before is not None and before.shows_rest():
                    return
                before = Look(self.status)

    def measure(self, *, active: Sequence[int] | None, labels: bool, detail: bool) -> Tensor:
        """Add the active problems up in the table; return labels as the tiles have them."""
        device = self.table.device
        own = torch.zeros(self.tiles.size if labels else 0, dtype=torch.int32, device=device)
        if active is not None:
            self.rest([b not in active for b in range(len(self.status))])
        self._launch(steps.NOTHING.value, detail=detail, labels=own if labels else None)
        return own

    def costs(self) -> Tensor:
        """Add up what the centroids of each problem cost: (problems,) float64."""
        column = len(self.tiles.points) + 1
        running = torch.nn.functional.pad(self.table[:, column].cumsum(0), (1, 0))
        return running[known_int64(self.offsets, running.device)].diff().double()

    def rest(self, resting: Sequence[bool]) -> None:
        """Let these problems rest from the start."""
        states = [steps.RESTS.value if rests else steps.GOES_ON.value for rests in resting]
        self.status.copy_(as_int32(states, self.status.device))

    def _launch(
        self,
        step: int,
        *,
        detail: bool = False,
        labels: Tensor | None = None,
        breath: int = 0,
        is_last: bool = False,
    ) -> None:
        """Pass over all points of the problems that go on, and let the last program step."""
        tiles, is_split = self.tiles, step == steps.SPLIT.value
        with on(self.status.device):
            passes.color_pass[(tiles.count,)](
                tiles.points, tiles.masses, tiles.size, tiles.boxes, tiles.count, tiles.problem_of,
                tiles.tiles_of, self.first_of, self.count_of, self.centroids, self.table,
                self.tickets if labels is None else labels, self.tickets, self.status, self.wcss,
                self.n_iter, self.history, self.limits, self.still, self.extra_of, self.luck,
                breath, int(is_last), len(self.extra_of) if is_split else self.history.shape[1],
                D=len(tiles.points), K=self.width, COLUMNS=self.table.shape[1], DETAIL=detail,
                LABELS=labels is not None, STEP=step, REACH=REACH, TILE=TILE,
                num_warps=warps_for(self.width), **(EXACT if is_split else {}),
            )  # fmt: skip


def width_for(most: int) -> int:
    """Return the width of a walk with at most so many centroids to a problem. Never raises."""
    return max(32, int(triton.next_power_of_2(most)))


def warps_for(width: int) -> int:
    """Return how many warps own a tile: so many that centroids' bounds stay in registers."""
    return max(1, min(4, width // 128))
