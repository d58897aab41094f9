"""What some backends can do beside the contract: whole loops of the search, in a way of their own.

Each ability has a definition made of what every backend can do, to whose bits it keeps. Which one a
backend has is asked of a name: to ask for a whole protocol takes as long as a pass over few points.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gpu_kmeans.backends import Accumulated, Backend, Problems, SearchPlan

__all__ = [
    "AheadBackend",
    "BreathingBackend",
    "CellBackend",
    "DescendingBackend",
    "Walk",
    "breathes",
    "descends",
    "merges_cells",
    "runs_ahead",
]


@runtime_checkable
class CellBackend(Backend, Protocol):
    """A backend that adds up and merges the cells of colours in a way of its own."""

    def sum_cells(
        self,
        colors: UInt8[Tensor, "_n c"],
        features: Float[Tensor, "_n c"],
        weights: Float[Tensor, " _n"],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Do as `gpu_kmeans.histogram.sum_cells`, to the same bits."""
        ...

    def merge_cells(
        self, codes: np.ndarray, sums: np.ndarray, masses: np.ndarray, target: int
    ) -> tuple[Float[Tensor, "_p _c"], Float[Tensor, " _p"]]:
        """Do as `gpu_kmeans.histogram.merge_cells`, to the same bits."""
        ...


@runtime_checkable
class BreathingBackend(Backend, Protocol):
    """A backend that does whole breaths of the search in one call."""

    def can_breathe(self, problem: Problems) -> bool:
        """Say whether it can for this problem."""
        ...

    def breathe(
        self, problem: Problems, centroids: Float[Tensor, "k d"], wcss: float, plan: SearchPlan
    ) -> tuple[Float[Tensor, "k d"], float]:
        """Do as `gpu_kmeans.refinement.breathe_by_steps`, to the same bits."""
        ...

    def grow(
        self, problem: Problems, centroids: Float[Tensor, "k d"], plan: SearchPlan
    ) -> Float[Tensor, "m d"]:
        """Do as `gpu_kmeans.refinement.grow_by_steps`, to the same bits."""
        ...


@runtime_checkable
class DescendingBackend(Backend, Protocol):
    """A backend that does many iterations in one call."""

    def can_walk(self, problems: Problems, k: int) -> bool:
        """Say whether problems with up to k centroids each can be walked over."""
        ...

    def descend(
        self,
        problems: Problems,
        centroids: Sequence[Float[Tensor, "_k d"]],
        *,
        active: Sequence[int],
        histories: Sequence[Sequence[float]],
        max_iter: int,
        limits: Sequence[float],
        still: float,
        on_iteration: Callable[[int], None],
        over_relaxed: bool,
    ) -> tuple[list[Tensor], list[list[float]], list[int], list[int]]:
        """Iterate by the rules of `gpu_kmeans.descent.descend`, as long as no cluster is empty.

        Returns centroids, WCSS of the iterations done, who of the active rests, and who of them has
        an empty cluster: that problem's next iteration is for the host.
        """
        ...


@runtime_checkable
class Walk(Protocol):
    """Centroids of several integral problems on their way, on a device that is not waited for.

    `gpu_kmeans.refinement` says what splitting and dropping are; `breath` says which row of the
    plan the walk was given holds how many, and what luck.
    """

    best: Tensor
    """(rows, d) float32, as many rows to each problem: the best centroids kept."""
    lowest: Tensor
    """(problems,) float64, their WCSS."""

    def settle(self, steps: int) -> None:
        """Do as `Backend.settle`, each problem resting by itself."""
        ...

    def split(self, breath: int) -> None:
        """Split the clusters that gain most."""
        ...

    def drop(self, breath: int) -> None:
        """Remove the centroids missed least."""
        ...

    def keep(self, lanes: int = 1) -> None:
        """Keep what has settled where it is better than the best, and go on from the best.

        So many problems in a row are one, searched in several ways: all go on from its best.
        """
        ...

    def grow(self) -> None:
        """Let one more centroid be kept, whatever its WCSS."""
        ...


@runtime_checkable
class AheadBackend(DescendingBackend, Protocol):
    """A backend whose host runs ahead: whole loops are launched and not looked into."""

    def accumulate_each(
        self, problem: Problems, centroids: Float[Tensor, "K d"], k_offsets: tuple[int, ...]
    ) -> Accumulated:
        """Do as `assign_accumulate` with each of several sets of centroids of one problem."""
        ...

    def moments(
        self, problems: Problems
    ) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, "b d"], Float[np.ndarray, " b"]]:
        """Return weight, sums, and squares about zero of integral problems, float64."""
        ...

    def histograms(
        self, pixels: Sequence[UInt8[Tensor, "_n _c"]]
    ) -> list[tuple[UInt8[Tensor, "_m _c"], Int[Tensor, " _m"], Int[Tensor, " _n"]]]:
        """Do as `histogram` for each picture."""
        ...

    def merge(
        self,
        colors: Sequence[UInt8[Tensor, "_n c"]],
        features: Sequence[Float[Tensor, "_n c"]],
        weights: Sequence[Float[Tensor, " _n"]],
        target: int,
    ) -> list[tuple[Tensor, Tensor]]:
        """Do as `gpu_kmeans.histogram.coarsen` for each picture."""
        ...

    def can_search(self, problems: Problems, room: int) -> bool:
        """Say whether `search` and `grow` take these problems, with up to so many centroids."""
        ...

    def search(
        self,
        problems: Problems,
        draws: Float[Tensor, "searches k trials"],
        plan: SearchPlan,
        on_breath: Callable[[float], None],
    ) -> tuple[Float[Tensor, "b k d"], Float[Tensor, " b"], Int[Tensor, " b"]]:
        """Seed and refine, so many searches of each problem.

        `draws` decide the seeds, as in `seed`; `on_breath` hears the share done. Returns centroids,
        their WCSS, and how many seeds each had, the latter two on the CPU: where seeds are fewer
        than k, the rest means nothing. So it is where a problem turns out to weigh too much.
        """
        ...

    def grow(
        self, problem: Problems, start: Float[Tensor, "1 d"], last: int, plan: SearchPlan
    ) -> Iterator[Float[Tensor, "_k d"]]:
        """Yield centroids for 2, 3, ... `last` clusters, by `refinement.grow` from one another."""
        ...

    def walk(
        self,
        problems: Problems,
        centroids: Sequence[Float[Tensor, "_k d"]],
        *,
        room: int,
        still: float,
        extra: Sequence[int],
        luck: Float[Tensor, "b breaths k"] | None,
    ) -> Walk:
        """Set out from these centroids, each problem with room for so many."""
        ...


def merges_cells(engine: Backend) -> TypeGuard[CellBackend]:
    """Say whether an engine is a `CellBackend`. Never raises."""
    return hasattr(engine, "merge_cells")


def breathes(engine: Backend) -> TypeGuard[BreathingBackend]:
    """Say whether an engine is a `BreathingBackend`. Never raises."""
    return hasattr(engine, "breathe")


def descends(engine: Backend) -> TypeGuard[DescendingBackend]:
    """Say whether an engine is a `DescendingBackend`. Never raises."""
    return hasattr(engine, "descend")


def runs_ahead(engine: Backend) -> TypeGuard[AheadBackend]:
    """Say whether an engine is an `AheadBackend`. Never raises."""
    return hasattr(engine, "walk")
