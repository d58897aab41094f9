"""The contract of `gpu_kmeans.backends.Backend` on CUDA.

| loop | is |
| --- | --- |
| colours of a picture | one launch a pass, exact sums (`walks`, `sources/passes.cu`) |
| seeding and searching | one launch for all seeds, one a breath (`searching`) |
| counting, merging and laying out colours | a few launches for all pictures |
| dithering | `dithering`, `sources/dithering.cu` |
| other points | Triton: labels, then sums of fixed chunks in their order (`passes.add_up`) |
| all of these where CUDA C++ does not compile | Triton (`passes`, `seeds`, `colors`) and PyTorch |

Launches are asynchronous: nothing here waits for the device, but where the size of an answer
depends on it (how many colours there are, how many seeds). Without a GPU, for tests, the same code
takes tensors on the CPU: Triton interprets its kernels, a C++ compiler makes functions of the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import cast

import torch
import triton
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from gpu_kmeans.backends import (
    BLUR,
    DIFFUSION_ROWS,
    SHARE_BITS,
    Accumulated,
    Problems,
    SearchPlan,
    fixed_point,
)
from gpu_kmeans.backends.cuda import colors as pixel_kernels
from gpu_kmeans.backends.cuda import dithering, passes, searching, seeds
from gpu_kmeans.backends.cuda.histograms import count_opaque
from gpu_kmeans.backends.cuda.layout import (
    BOXED_DIMENSIONS,
    Tiles,
    as_int32,
    in_rows,
    on,
    rows_of,
    to_device,
)
from gpu_kmeans.backends.cuda.merging import merge
from gpu_kmeans.backends.cuda.passes import TILE, WIDEST
from gpu_kmeans.backends.cuda.program import available
from gpu_kmeans.backends.cuda.steps import LONELY, RESTS
from gpu_kmeans.backends.cuda.tiling import lay_out
from gpu_kmeans.backends.cuda.walks import EXACT, TileWalk, warps_for, width_for
from gpu_kmeans.backends.reference import ReferenceBackend

SORTED_PIXELS = 1 << 18  # up to so many, sorting codes beats clearing a table of 2^24 counts
MORTON_CODES = 1 << 24
PIXEL_BLOCK = 1024
SEED_BLOCK = 1024  # tiles whose sums are added at once
CENTROID_BLOCK = 32
MOST_CHUNKS, SLAB_NUMBERS = 256, 1 << 25  # of the sums of other points: chunks, and float64 in all


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
        return [found.get(i) or self._count(of_one) for i, of_one in enumerate(pixels)]

    def _count(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Count colours in a table of all Morton codes, or by sorting."""
        n, c = pixels.shape
        if c != 3 or n <= SORTED_PIXELS:  # noqa: PLR2004
            return self._reference.histogram(pixels)
        pixels = pixels.contiguous()
        counts = torch.zeros(MORTON_CODES, dtype=torch.int32, device=pixels.device)
        inverse = torch.empty(n, dtype=torch.int32, device=pixels.device)
        grid = (triton.cdiv(n, PIXEL_BLOCK),)
        with on(pixels.device):
            pixel_kernels.count_colors[grid](pixels, n, counts, inverse, BLOCK=PIXEL_BLOCK)
        occurs = counts.nonzero()[:, 0]
        ranks = (counts > 0).cumsum(0, dtype=torch.int32)
        colors = torch.empty(len(occurs), 3, dtype=torch.uint8, device=pixels.device)
        with on(pixels.device):
            pixel_kernels.rank_pixels[grid](pixels, n, inverse, ranks, colors, BLOCK=PIXEL_BLOCK)
        return colors, counts[occurs].long(), inverse

    def pack(
        self,
        points: Sequence[Float[Tensor, "_n d"]],
        weights: Sequence[Float[Tensor, " _n"]],
        *,
        is_integral: bool,
    ) -> Problems:
        """Concatenate, and lay the problems out in tiles."""
        packed = self._reference.pack(points, weights, is_integral=is_integral)
        return Problems(
            points=packed.points,
            weights=packed.weights,
            offsets=packed.offsets,
            is_integral=is_integral,
            layout=lay_out(packed),
        )

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
        if self.can_walk(problems, most):
            walk = TileWalk(problems, centroids.contiguous(), k_offsets, detail=detail)
            own = walk.measure(active=active, labels=labels, detail=detail)
            table, costs = walk.table.double(), walk.costs()
        else:
            table, own = self._add_in_order(problems, centroids, k_offsets, active, detail=detail)
            costs = torch.stack([table[a:b, d + 1].sum() for a, b in pairwise(k_offsets)])
        found = _accumulated(table, costs, d, detail=detail)
        return replace(found, labels=in_rows(problems, own)) if labels else found

    def accumulate_each(
        self, problem: Problems, centroids: Float[Tensor, "K d"], k_offsets: tuple[int, ...]
    ) -> Accumulated:
        """Pass with all sets in one launch, where sums are exact."""
        sets, d = list(pairwise(k_offsets)), centroids.shape[1]
        if self.can_walk(problem, max(b - a for a, b in sets)):
            walk = TileWalk(problem, centroids.contiguous(), k_offsets)
            if walk.sums_in_blocks:
                walk.measure(active=None, labels=False, detail=False)
                return _accumulated(walk.table.double(), walk.costs(), d)
        found = [self.assign_accumulate(problem, centroids[a:b], (0, b - a)) for a, b in sets]
        return replace(
            found[0],
            sums=torch.cat([of.sums for of in found]),
            masses=torch.cat([of.masses for of in found]),
            wcss=torch.cat([of.wcss for of in found]),
        )

    def settle(
        self, problem: Problems, centroids: Float[Tensor, "k d"], *, steps: int, still: float
    ) -> tuple[Float[Tensor, "k d"], float]:
        """Run Lloyd iterations; on pictures all are launched, then waited for."""
        k = len(centroids)
        if not self.can_walk(problem, k):
            itself = cast("ReferenceBackend", self)
            return ReferenceBackend.settle(itself, problem, centroids, steps=steps, still=still)
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
        tiles, k = _tiles(problems), draws.shape[1]
        room = k + max(plan.extra, default=0)
        starts, counts = searching.seed(tiles, to_device(draws, problems.points.device), room)
        search = searching.Search(tiles, starts, plan, len(plan.extra) + 1)
        for breath, extra in enumerate(plan.extra):
            on_breath(breath / len(plan.extra))
            search.advance(k, extra)
        search.advance(k)
        return search.bests[-1, :, :k], search.lowest[-1], counts

    def grow(
        self, problem: Problems, start: Float[Tensor, "1 d"], last: int, plan: SearchPlan
    ) -> Iterator[Float[Tensor, "_k d"]]:
        """Launch one k after the other."""
        room = last + max(plan.extra)
        starts = torch.nn.functional.pad(start, (0, 0, 0, room - 1))[None].contiguous()
        search = searching.Search(_tiles(problem), starts, plan, last - 1)
        for k, extra in zip(range(2, last + 1), plan.extra, strict=True):
            search.advance(k - 1, extra, grows=True)
            yield search.bests[k - 1, 0, :k]

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
        (h, w), (k, d), device = inverse.shape, palette.shape, colors.device
        if dithering.serves(colors):
            return dithering.dither(
                colors, inverse, palette, strength=strength, own=own, sweeps=sweeps
            )
        errors = torch.empty(h, w, d, dtype=torch.int32, device=device)
        indices = torch.empty(h, w, dtype=torch.uint8, device=device)
        low, high = (bound.to(torch.int32) for bound in (colors.amin(dim=0), colors.amax(dim=0)))
        picture = (
            colors.contiguous(), inverse.to(torch.int32).contiguous(), palette.contiguous(),
            own.to(torch.int32),
        )  # fmt: skip
        rows = min(h, DIFFUSION_ROWS)
        block = triton.next_power_of_2(max(32, min(rows, (w + 1) // 2)))
        with on(device):
            pixel_kernels.diffuse[(triton.cdiv(h, DIFFUSION_ROWS),)](
                *picture, low, high, fixed_point(strength), errors, indices, h, w, k, D=d,
                BITS=SHARE_BITS, ROWS=DIFFUSION_ROWS, BLOCK=block, num_warps=max(1, block // 64),
                **EXACT,
            )  # fmt: skip
        reach = len(BLUR) // 2
        share, blur = fixed_point(strength / BLUR[reach] ** 2), as_int32(BLUR, device)
        for turn in range(9 * sweeps):
            row, column = turn // 3 % 3, turn % 3
            count = len(range(row, h, 3)) * len(range(column, w, 3))
            if not count:
                continue
            with on(device):
                pixel_kernels.reconsider[(triton.cdiv(count, PIXEL_BLOCK // 4),)](
                    *picture, blur, low, high, share, indices, row, column, h, w, k, D=d,
                    BITS=SHARE_BITS, REACH=reach, BLOCK=PIXEL_BLOCK // 4, **EXACT,
                )  # fmt: skip
        return indices

    def blurred_moments(
        self,
        colors: Float[Tensor, "_n d"],
        inverse: Int[Tensor, "h w"],
        indices: UInt8[Tensor, "h w"],
        k: int,
    ) -> tuple[Int[Tensor, "k k"], Int[Tensor, "k d"]]:
        """Visit each pixel and its neighbours once."""
        (h, w), d, device = inverse.shape, colors.shape[1], colors.device
        if dithering.counts(colors, k):
            return dithering.blurred_moments(colors, inverse, indices, k)
        meetings = torch.zeros(k, k, dtype=torch.int64, device=device)
        sums = torch.zeros(k, d, dtype=torch.int64, device=device)
        with on(device):
            pixel_kernels.blurred_moments[(triton.cdiv(h * w, PIXEL_BLOCK),)](
                colors.contiguous(), inverse.to(torch.int32).contiguous(), indices.contiguous(),
                as_int32(BLUR, device), meetings, sums, h, w, k,
                D=d, REACH=len(BLUR) // 2, BLOCK=PIXEL_BLOCK,
            )  # fmt: skip
        return meetings, sums

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

    def _add_in_order(
        self,
        problems: Problems,
        centroids: Tensor,
        k_offsets: tuple[int, ...],
        active: Sequence[int] | None,
        *,
        detail: bool,
    ) -> tuple[Tensor, Tensor]:
        """Label the points, then add them up in chunks that depend on their own problem alone."""
        tiles, d, device = _tiles(problems), centroids.shape[1], centroids.device
        counts = [b - a for a, b in pairwise(k_offsets)]
        served = range(len(counts)) if active is None else active
        columns = 2 * d + 3 if detail else d + 2
        labels = torch.zeros(tiles.size, dtype=torch.int32, device=device)
        smallest, second = torch.empty(2, tiles.size, dtype=problems.points.dtype, device=device)
        status = as_int32([int(b not in set(served)) for b in range(len(counts))], device)
        count_of, first_of = as_int32(counts, device), as_int32(k_offsets[:-1], device)
        which = (tiles.problem_of, status, first_of, count_of, centroids.contiguous())
        found = (labels, smallest, second)
        grid = (tiles.count,)
        with on(device):
            if d <= BOXED_DIMENSIONS and max(counts) <= WIDEST:
                wide = width_for(max(counts))
                passes.nearest_in_boxes[grid](
                    tiles.points, tiles.size, tiles.boxes, tiles.count, *which, *found,
                    D=d, K=wide, SECOND=detail, TILE=TILE, num_warps=warps_for(wide), **EXACT,
                )  # fmt: skip
            else:
                passes.nearest_of_all[grid](
                    tiles.points, tiles.size, d, *which, *found,
                    SECOND=detail, TILE=TILE, BLOCK=CENTROID_BLOCK, num_warps=4, **EXACT,
                )  # fmt: skip
        table = torch.zeros(len(centroids), columns, dtype=torch.float64, device=device)
        chunks, slab_of, spans = _chunks(tiles, counts, columns, served)
        if not spans:
            return table, labels
        slabs = torch.empty(spans[-1][2], dtype=torch.float64, device=device)
        blocks = triton.cdiv(max(counts), CENTROID_BLOCK)
        with on(device):
            passes.add_up[len(slab_of), columns, blocks](
                tiles.points, tiles.weights, tiles.size, d, *found, as_int32(chunks, device),
                len(slab_of), count_of, to_device(torch.tensor(slab_of), device), slabs,
                DETAIL=detail, TILE=TILE, BLOCK=CENTROID_BLOCK, num_warps=4, **EXACT,
            )  # fmt: skip
        for b, begin, end in spans:
            mine = slabs[begin:end].reshape(-1, columns, counts[b])
            table[k_offsets[b] : k_offsets[b + 1]] = mine.sum(dim=0).T
        return table, labels


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


def _chunks(
    tiles: Tiles, counts: Sequence[int], columns: int, served: Sequence[int]
) -> tuple[Tensor, list[int], list[tuple[int, int, int]]]:
    """Cut problems into chunks of tiles: problem, from, to; the slab of each, and by problem."""
    chunks: list[tuple[int, int, int]] = []
    slab_of: list[int] = []
    spans: list[tuple[int, int, int]] = []
    end = 0
    for b in sorted(served):
        first, last = tiles.first_tiles[b], tiles.first_tiles[b + 1]
        size = counts[b] * columns
        most = max(8, min(MOST_CHUNKS, SLAB_NUMBERS // size))
        step = max(8, -(-(last - first) // most))
        begin = end
        for t in range(first, last, step):
            chunks.append((b, t, min(t + step, last)))
            slab_of.append(end)
            end += size
        spans.append((b, begin, end))
    return torch.tensor(chunks, dtype=torch.int32).reshape(-1, 3).T.contiguous(), slab_of, spans
