"""Lloyd's iteration over pictures without waiting for the device.

A `Walk` is the state of several problems on their way, all of it on the device: centroids, sums,
what the last pass cost, who has come to rest. The host only launches; it looks at who rests a few
launches late, by a copy that runs beside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
import triton
from torch import Tensor

from gpu_kmeans.backends import Problems
from gpu_kmeans.backends.cuda import passes, steps
from gpu_kmeans.backends.cuda.layout import Tiles, as_int32, to_device
from gpu_kmeans.backends.cuda.passes import TILE

REACH = 0.8  # standard deviations between a mean and either half: see `gpu_kmeans.refinement`
LOOK_EVERY = 4  # launches between two looks at who rests
EXACT = {"enable_fp_fusion": False}  # rounding is part of the answer: no fused multiply-adds


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Centroids of several problems on their way; every tensor is on the device.

    Attributes:
        tiles: The points.
        centroids: (rows, d) float32, written by every step.
        table: (rows, d + 2 or 2 d + 3) int64, sums; zeros between the steps.
        first_of: (problems,) int32, the first row of each problem.
        count_of: (problems,) int32, how many centroids it has now.
        status: (problems,) int32, see `steps`.
        wcss: (problems,) float64, of the last pass.
        tickets: (problems,) int32, zeros between the passes.
        n_iter: (problems,) int32.
        history: (problems, iterations) float64.
        limits: (problems,) float64, the shift at which descending rests.
        still: (1,) float64.
        extra_of: (breaths,) int32, how many clusters to split and drop.
        luck: (problems, breaths, width) float64.
        width: A power of two, at least every count there will be.
    """

    tiles: Tiles
    centroids: Tensor
    table: Tensor
    first_of: Tensor
    count_of: Tensor
    status: Tensor
    wcss: Tensor
    tickets: Tensor
    n_iter: Tensor
    history: Tensor
    limits: Tensor
    still: Tensor
    extra_of: Tensor
    luck: Tensor
    width: int

    @classmethod
    def of(  # noqa: D417 - as `gpu_kmeans.lloyd.descend` has them
        cls,
        problems: Problems,
        centroids: Tensor,
        offsets: Sequence[int],
        *,
        counts: Sequence[int] | None = None,
        detail: bool = False,
        still: float = 0.0,
        limits: Sequence[float] = (),
        iterations: int = 1,
        extra: Sequence[int] = (0,),
        luck: Tensor | None = None,
    ) -> "Walk":
        """Set out from centroids (rows, d), which are written to.

        Args:
            problems: Integral ones, of up to four dimensions.
            centroids: Those of a problem begin at its offset.
            offsets: One more than problems.
            counts: How many of the rows between are centroids, if not all.
            detail: Whether there will be steps that need it.
        """
        device, d = centroids.device, centroids.shape[1]
        sizes = [b - a for a, b in pairwise(offsets)]
        b = len(sizes)
        whole = torch.zeros(3, b, dtype=torch.int32, device=device)
        zeros = torch.zeros(b, iterations + 2, dtype=torch.float64, device=device)
        columns = 2 * d + 3 if detail else d + 2
        return cls(
            tiles=cast("Tiles", problems.layout),
            centroids=centroids,
            table=torch.zeros(len(centroids), columns, dtype=torch.int64, device=device),
            first_of=as_int32(offsets[:-1], device),
            count_of=as_int32(sizes if counts is None else counts, device),
            status=whole[0],
            wcss=zeros[:, 0] + torch.inf,
            tickets=whole[1],
            n_iter=whole[2],
            history=zeros[:, 2:].contiguous(),
            limits=to_device(torch.tensor(limits or [0.0] * b, dtype=torch.float64), device),
            still=zeros[:1, 1] + still,
            extra_of=as_int32(extra, device),
            luck=zeros if luck is None else to_device(luck, device),
            width=width_for(max(sizes)),
        )

    def launch(
        self,
        step: int,
        *,
        detail: bool = False,
        labels: Tensor | None = None,
        breath: int = 0,
        is_last: bool = False,
    ) -> None:
        """Pass over all points of the problems that go on, and let the last program step."""
        tiles, columns = self.tiles, self.table.shape[1]
        is_split = step == steps.SPLIT.value
        passes.color_pass[(tiles.count,)](
            tiles.points, tiles.masses, tiles.size, tiles.boxes, tiles.count, tiles.problem_of,
            tiles.tiles_of, self.first_of, self.count_of, self.centroids, self.table,
            self.tickets if labels is None else labels, self.tickets, self.status, self.wcss,
            self.n_iter, self.history, self.limits, self.still, self.extra_of, self.luck, breath,
            int(is_last), len(self.extra_of) if is_split else self.history.shape[1],
            D=len(tiles.points), K=self.width, COLUMNS=columns, DETAIL=detail,
            LABELS=labels is not None, STEP=step, REACH=REACH, TILE=TILE,
            num_warps=warps_for(self.width), **(EXACT if is_split else {}),
        )  # fmt: skip


def width_for(most: int) -> int:
    """Return the width of a walk with at most so many centroids to a problem. Never raises."""
    return max(32, int(triton.next_power_of_2(most)))


def warps_for(width: int) -> int:
    """Return how many warps own a tile: so many that centroids' bounds stay in registers."""
    return max(1, min(4, width // 128))


def measure(walk: Walk, *, active: Sequence[int] | None, labels: bool, detail: bool) -> Tensor:
    """Add the active problems up in the walk's table; return labels as the tiles have them."""
    own = torch.zeros(walk.tiles.size if labels else 0, dtype=torch.int32, device=walk.table.device)
    if active is not None:
        idle = [int(b not in active) for b in range(len(walk.status))]
        walk.status.copy_(as_int32(idle, walk.table.device))
    walk.launch(steps.NOTHING.value, detail=detail, labels=own if labels else None)
    return own


def settle(walk: Walk, count: int) -> None:
    """Launch so many passes of `Backend.settle`, each problem resting as it says."""
    for i in range(count):
        walk.launch(steps.SETTLE.value, is_last=i == count - 1)


def descend(walk: Walk, on_iteration: Callable[[int], None], begun: int = 0) -> None:
    """Launch iterations until every problem rests, is lonely, or has done them all."""
    before: _Look | None = None
    for i in range(begun, walk.history.shape[1]):
        on_iteration(i)
        walk.launch(steps.DESCEND.value)
        if (i + 1) % LOOK_EVERY == 0:
            if before is not None and before.shows_rest():
                return
            before = _Look(walk.status)


class _Look:
    """The states of a moment, on their way to the host while the device goes on."""

    def __init__(self, status: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if status.device.type != "cuda":
            self._seen = status.clone()
            return
        self._seen = torch.empty(status.shape, dtype=status.dtype, pin_memory=True)
        self._seen.copy_(status, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def shows_rest(self) -> bool:
        """Wait for the copy, not for what was launched after it; say whether nobody goes on."""
        if self._event is not None:
            self._event.synchronize()
        return bool((self._seen != steps.GOES_ON.value).all())
