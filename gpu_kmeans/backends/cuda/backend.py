"""The contract of `gpu_kmeans.backends.Backend` on CUDA.

| loop | is |
| --- | --- |
| colours of a picture | one launch a pass, exact sums (`blocks`, `sources/passes.cu`) |
| seeding and searching | one launch for all seeds, one a breath (`searching`) |
| counting, merging and laying out colours | a few launches for all pictures |
| dithering | `dithering`, `sources/dithering.cu` |
| other points | Triton: labels, then sums of fixed chunks in their order (`ordered_sums`) |
| all of these where CUDA C++ does not compile | Triton (`walks`, `triton_pixels`) and PyTorch |

Launches are asynchronous: nothing here waits for the device, but where the size of an answer
depends on it (how many colours there are, how many seeds). Without a GPU, for tests, the same code
takes tensors on the CPU: Triton interprets its kernels, a C++ compiler makes functions of the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from gpu_kmeans.backends import Accumulated, Problems, SearchPlan
from gpu_kmeans.backends.cuda import (
    blocks,
    dithering,
    layout,
    ordered_sums,
    searching,
    seeds,
    tiling,
    triton_pixels,
)
from gpu_kmeans.backends.cuda.devices import as_int32, on, rows_of, to_device
from gpu_kmeans.backends.cuda.histograms import count_opaque
from gpu_kmeans.backends.cuda.layout import BOXED_DIMENSIONS, Tiles, in_rows
from gpu_kmeans.backends.cuda.merging import merge
from gpu_kmeans.backends.cuda.passes import TILE, WIDEST
from gpu_kmeans.backends.cuda.program import available
from gpu_kmeans.backends.cuda.steps import LONELY, RESTS
from gpu_kmeans.backends.cuda.walks import EXACT, TileWalk
from gpu_kmeans.backends.reference import ReferenceBackend

SEED_BLOCK = 1024  # tiles whose sums are added at once


class CudaBackend:
    """The contract of `gpu_kmeans.backends.Backend` for tensors on CUDA."""

    name = "cuda"

    def __init__(self) -> None:
        """Keep the reference at hand for what is no hot loop."""
        self._reference = ReferenceBackend()

    def histogram(
        self, pixels: UInt8[Tensor, "n c"]
    ) -> tuple[UInt8[Tensor, "m c"], Int[Tensor, " m"], Int[Tensor, " n"]]:
        """Count distinct colours."""
        return self.histograms([pixels])[0]

    def histograms(
        self, pixels: Sequence[UInt8[Tensor, "_n _c"]]
    ) -> list[tuple[UInt8[Tensor, "_m _c"], Int[Tensor, " _m"], Int[Tensor, " _n"]]]:
        """Count the colours of all opaque pictures, and wait once for how many there are."""
        device = pixels[0].device
        opaque = [i for i, of_one in enumerate(pixels) if of_one.shape[1] == 3]  # noqa: PLR2004
        found = dict[int, tuple[Tensor, Tensor, Tensor]]()
        if opaque and available(device):
            counted = count_opaque([pixels[i] for i in opaque])
            found = dict(zip(opaque, counted, strict=True))
        return [found.get(i) or triton_pixels.count(of_one) for i, of_one in enumerate(pixels)]

    def pack(
        self,
        points: Sequence[Float[Tensor, "_n d"]],
        weights: Sequence[Float[Tensor, " _n"]],
        *,
        is_integral: bool,
    ) -> Problems:
        """Concatenate, and lay the problems out in tiles."""
        packed = tiling.pack(points, weights, is_integral=is_integral)
        if packed is not None:
            return packed
        packed = self._reference.pack(points, weights, is_integral=is_integral)
        return replace(packed, layout=layout.lay_out(packed))

    def assign_accumulate(
        self,
        problems: Problems,
        centroids: Float[Tensor, "K d"],
        k_offsets: tuple[int, ...],
        *,
        active: Sequence[int] | None = None,
        labels: bool = False,
        detail: bool = False,
    ) -> Accumulated:
        """Give each point its nearest centroid and add it up there."""
        most, d = max(b - a for a, b in pairwise(k_offsets)), centroids.shape[1]
        if problems.is_integral and blocks.serves(problems, most):
            return blocks.measure(
                problems, centroids, k_offsets, active=active, labels=labels, detail=detail
            )
        if self.can_walk(problems, most):
            walk = TileWalk(problems, centroids.contiguous(), k_offsets, detail=detail)
            own = walk.measure(active=active, labels=labels, detail=detail)
            table, costs = walk.table.double(), walk.costs()
        else:
            table, own = ordered_sums.add_up(problems, centroids, k_offsets, active, detail=detail)
            costs = torch.stack([table[a:b, d + 1].sum() for a, b in pairwise(k_offsets)])
        found = _accumulated(table, costs, d, detail=detail)
        return replace(found, labels=in_rows(problems, own)) if labels else found

    def accumulate_each(
        self, problem: Problems, centroids: Float[Tensor, "K d"], k_offsets: tuple[int, ...]
    ) -> Accumulated:
        """Pass with all sets in one launch, where sums are exact."""
        sets = list(pairwise(k_offsets))
        if problem.is_integral and blocks.serves(problem, max(b - a for a, b in sets)):
            return blocks.measure(problem, centroids, k_offsets)
        found = [self.assign_accumulate(problem, centroids[a:b], (0, b - a)) for a, b in sets]
        return replace(
            found[0],
            sums=torch.cat([of.sums for of in found]),
            masses=torch.cat([of.masses for of in found]),
            wcss=torch.cat([of.wcss for of in found]),
        )

    def moments(self, problems: Problems) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Wait for what was added up when the points were laid out, or pass over them."""
        tiles = _tiles(problems)
        if tiles.told is not None and tiles.is_light:
            found = tiles.moments().astype(np.float64)
            return found[:, 0], found[:, 2:], found[:, 1]
        zeros = problems.points.new_zeros(tiles.problems, tiles.d)
        each = tuple(range(tiles.problems + 1))
        about_zero = self.assign_accumulate(problems, zeros, each, detail=True)
        parts = (about_zero.masses, about_zero.sums, about_zero.wcss)
        return tuple(part.cpu().numpy() for part in parts)  # type: ignore[return-value]

    def settle(
        self, problem: Problems, centroids: Float[Tensor, "k d"], *, steps: int, still: float
    ) -> tuple[Float[Tensor, "k d"], float]:
        """Run Lloyd iterations; on pictures all are launched, then waited for."""
        k = len(centroids)
        if not self.can_walk(problem, k):
            itself = cast("ReferenceBackend", self)
            return ReferenceBackend.settle(itself, problem, centroids, steps=steps, still=still)
        if blocks.serves(problem, k):
            run = blocks.Descent(problem, centroids.clone(), (0, k), still=still, depth=0)
            return run.centroids, run.settle(steps)
        walk = TileWalk(problem, centroids.clone(), (0, k), still=still)
        walk.settle(steps)
        return walk.centroids, float(walk.wcss[0])

    def seed(
        self, problems: Problems, ks: Sequence[int], uniforms: Sequence[Float[Tensor, "_k trials"]]
    ) -> list[Int[Tensor, " _m"]]:
        """Choose rows by greedy k-means++, for all problems at once."""
        tiles, device = _tiles(problems), problems.points.device
        b, most, draws = len(ks), max(ks), uniforms[0].shape[1]
        table = torch.zeros(b, most, draws, dtype=torch.float64)
        for i, (k, own) in enumerate(zip(ks, uniforms, strict=True)):
            table[i, :k] = own[:k]
        d = problems.points.shape[1]
        rows = torch.zeros(b, most, dtype=torch.int32, device=device)
        counts, tickets = rows_of(0, 2, b, torch.int32, device)
        wanted, drawn = as_int32(ks, device), to_device(table, device)
        trials = torch.zeros(b, draws, dtype=torch.int32, device=device)
        nearest = torch.empty(tiles.size, dtype=problems.points.dtype, device=device)
        potentials = torch.empty(tiles.count, dtype=torch.float64, device=device)
        left = torch.empty(draws, tiles.count, dtype=torch.float64, device=device)
        points = (tiles.points, tiles.weights, tiles.size, d)
        where = (tiles.first_tile_of, tiles.tiles_of, tiles.problem_of, nearest)
        how = {"D": d if d <= BOXED_DIMENSIONS else 0, "TILE": TILE, "BLOCK": SEED_BLOCK, **EXACT}
        grid = (tiles.count,)
        with on(device):
            for step in range(most):
                seeds.relax[grid](
                    *points, *where, potentials, tickets, rows, counts, wanted, drawn, trials, step,
                    draws, most, **how,
                )  # fmt: skip
                if step:
                    seeds.evaluate[grid](
                        *points, *where, left, tickets, rows, counts, wanted, trials, step, draws,
                        most, tiles.count, **how,
                    )  # fmt: skip
        first_rows = to_device(torch.tensor(problems.offsets[:-1]), device)
        found = tiles.rows[rows.long()] - first_rows[:, None]
        return [chosen[:count] for chosen, count in zip(found, counts.tolist(), strict=True)]

    def merge(
        self,
        colors: Sequence[UInt8[Tensor, "_n c"]],
        features: Sequence[Float[Tensor, "_n c"]],
        weights: Sequence[Float[Tensor, " _n"]],
        target: int,
    ) -> list[tuple[Tensor, Tensor]]:
        """Merge the colours of all pictures at once, where they are."""
        return merge(colors, features, weights, target)

    def can_search(self, problems: Problems, room: int) -> bool:
        """Say whether CUDA C++ runs here, and a block can hold it all."""
        has_sums = problems.is_integral and available(problems.points.device)
        return has_sums and searching.can_search(_tiles(problems), room)

    def search(
        self,
        problems: Problems,
        draws: Float[Tensor, "searches k trials"],
        plan: SearchPlan,
        on_breath: Callable[[float], None],
    ) -> tuple[Float[Tensor, "b k d"], Float[Tensor, " b"], Int[Tensor, " b"]]:
        """Seed in one launch, and launch a breath of all searches at a time."""
        return searching.search(_tiles(problems), draws, plan, on_breath)

    def grow(
        self, problem: Problems, start: Float[Tensor, "1 d"], last: int, plan: SearchPlan
    ) -> Iterator[Float[Tensor, "_k d"]]:
        """Launch one k after the other."""
        return searching.grow(_tiles(problem), start, last, plan)

    def can_walk(self, problems: Problems, k: int) -> bool:
        """Say whether sums are exact and bounds fit into registers."""
        d = problems.points.shape[1]
        return problems.is_integral and d <= BOXED_DIMENSIONS and k <= WIDEST

    def walk(
        self,
        problems: Problems,
        centroids: Sequence[Float[Tensor, "_k d"]],
        *,
        room: int,
        still: float,
        extra: Sequence[int],
        luck: Float[Tensor, "b breaths k"] | None,
    ) -> TileWalk:
        """Set out from these centroids, each problem with room for so many."""
        padded = [
            torch.nn.functional.pad(start, (0, 0, 0, room - len(start))) for start in centroids
        ]
        return TileWalk(
            problems,
            torch.cat(padded),
            range(0, room * len(padded) + 1, room),
            counts=[len(start) for start in centroids],
            detail=True,
            still=still,
            extra=extra,
            luck=luck,
        )

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
        """Launch an iteration at a time; look at who rests a few launches late."""
        offsets = tuple(accumulate((len(start) for start in centroids), initial=0))
        if blocks.serves(problems, max(map(len, centroids))):
            run = blocks.Descent(
                problems,
                torch.cat(list(centroids)),
                offsets,
                still=still,
                depth=max_iter,
                limits=limits,
                histories=histories,
                resting=[b for b in range(len(histories)) if b not in active],
            )
            return run.descend(over_relaxed=over_relaxed, active=active, on_iteration=on_iteration)
        history = torch.zeros(len(histories), max_iter, dtype=torch.float64)
        for b, values in enumerate(histories):
            history[b, : len(values)] = torch.tensor(values, dtype=torch.float64)
        counts = [len(values) for values in histories]
        walk = TileWalk(
            problems,
            torch.cat(list(centroids)),
            offsets,
            still=still,
            limits=limits,
            history=history,
            done=counts,
            over_relaxed=over_relaxed,
        )
        walk.rest([b not in active for b in range(len(counts))])
        walk.descend(min(counts[b] for b in active), on_iteration)
        n_iter, states = torch.stack([walk.n_iter, walk.status]).tolist()
        rows = walk.history.tolist()
        return (
            [walk.centroids[a:b] for a, b in pairwise(offsets)],
            [row[:n] for row, n in zip(rows, n_iter, strict=True)],
            [b for b in active if states[b] == RESTS.value],
            [b for b in active if states[b] == LONELY.value],
        )

    def dither(
        self,
        colors: Float[Tensor, "_n d"],
        inverse: Int[Tensor, "h w"],
        palette: Float[Tensor, "k d"],
        *,
        strength: float,
        own: Int[Tensor, " _n"],
        sweeps: int,
    ) -> UInt8[Tensor, "h w"]:
        """Diffuse a band at a time, then let pixels choose again: see `dithering`; or Triton."""
        dither = dithering.dither if dithering.serves(colors) else triton_pixels.dither
        return dither(colors, inverse, palette, strength=strength, own=own, sweeps=sweeps)

    def blurred_moments(
        self,
        colors: Float[Tensor, "_n d"],
        inverse: Int[Tensor, "h w"],
        indices: UInt8[Tensor, "h w"],
        k: int,
    ) -> tuple[Int[Tensor, "k k"], Int[Tensor, "k d"]]:
        """Visit each pixel and its neighbours once."""
        if dithering.counts(colors, k):
            return dithering.blurred_moments(colors, inverse, indices, k)
        return triton_pixels.blurred_moments(colors, inverse, indices, k)

    def economize(
        self,
        colors: Float[Tensor, "_n d"],
        inverse: Int[Tensor, "h w"],
        palette: Float[Tensor, "k d"],
        labels: Int[Tensor, " _n"],
        *,
        price: float,
        sweeps: int,
    ) -> UInt8[Tensor, "h w"]:
        """Leave whole pictures at a time to PyTorch: once for a fit, they are no hot loop."""
        return self._reference.economize(
            colors, inverse, palette, labels, price=price, sweeps=sweeps
        )

    def squared_error(
        self,
        before: Int[Tensor, "n c"],
        inverse: Int[Tensor, "h w"],
        after: Int[Tensor, "m c"],
        indices: UInt8[Tensor, "h w"],
    ) -> int:
        """Leave that to PyTorch, likewise."""
        return self._reference.squared_error(before, inverse, after, indices)

    def block_moments(
        self,
        before: Float[Tensor, "n 3"],
        inverse: Int[Tensor, "h w"],
        after: Float[Tensor, "m 3"],
        indices: Integer[Tensor, "h w"],
        block: int,
    ) -> tuple[Int[Tensor, "12 _h _w"], Int[Tensor, "12 _hh _hw"]]:
        """Leave sums of whole numbers to PyTorch: once for a fit, they are no hot loop."""
        return self._reference.block_moments(before, inverse, after, indices, block)


def _tiles(problems: Problems) -> Tiles:
    return cast("Tiles", problems.layout)


def _accumulated(table: Tensor, costs: Tensor, d: int, *, detail: bool = False) -> Accumulated:
    """Take the columns of a table apart; labels are none."""
    none = table[:0]
    return Accumulated(
        sums=table[:, :d].contiguous(),
        masses=table[:, d].contiguous(),
        wcss=costs,
        labels=none[:, 0].to(torch.int32),
        squares=table[:, d + 2 : 2 * d + 2].contiguous() if detail else none[:, :d],
        utilities=table[:, 2 * d + 2].contiguous() if detail else none[:, 0],
    )
