"""What the engine computes for a plot: Lloyd's steps, and where many starts end.

On the CPU whatever the device: a plot has few points. What draws needs half a second of imports and
is not needed here before a job runs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from app.errors import BadParameter
from app.jobs import OnProgress
from app.options import StepsOptions, TrapOptions

if TYPE_CHECKING:
    from app.plots.starts import Starts
    from app.plots.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsJob:
    """Points in the plane, whose way to their clusters is wanted.

    Attributes:
        points: (n, 2) numbers.
        weights: How much each counts; None where all count the same.
        options: What is asked.
        on_progress: Told the share of the work done, from the engine's thread.
    """

    points: Float[np.ndarray, "n d"]
    weights: Float[np.ndarray, " n"] | None
    options: StepsOptions
    on_progress: OnProgress | None = None

    def run(self, _device: torch.device, _backend: str) -> "list[Step]":
        """Walk from random ones of the points until nothing moves."""
        from app.plots.steps import check_plane, take_steps

        check_plane(self.points)
        return take_steps(
            self.points,
            self._first(),
            weights=self.weights,
            metric=self.options.metric,
            p=self.options.p,
            on_progress=self.on_progress,
        )

    def _first(self) -> np.ndarray:
        """Choose k distinct points that count for something."""
        weights = np.ones(len(self.points)) if self.weights is None else self.weights
        counting = np.flatnonzero(weights)
        rows = counting[np.sort(np.unique(self.points[counting], axis=0, return_index=True)[1])]
        k = self.options.k
        if k > len(rows):
            raise BadParameter.of("k", k, f"1 to the number of distinct points, {len(rows)}")
        rng = np.random.default_rng(self.options.seed)
        return np.asarray(self.points[rng.choice(rows, k, replace=False)])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapJob:
    """Points to fit from many starts.

    Attributes:
        points: (n, d) numbers.
        weights: How much each counts; None where all count the same.
        options: What is asked.
        on_progress: Told the share of the work done, from the engine's thread.
    """

    points: Float[np.ndarray, "n d"]
    weights: Float[np.ndarray, " n"] | None
    options: TrapOptions
    on_progress: OnProgress | None = None

    def run(self, _device: torch.device, _backend: str) -> "Starts":
        """Fit from as many starts of either kind as are asked for."""
        from app.plots.starts import try_starts

        return try_starts(
            self.points,
            self.options.k,
            starts=self.options.starts,
            weights=self.weights,
            on_progress=self.on_progress,
        )
