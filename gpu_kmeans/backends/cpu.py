"""The hot loops on the CPU, compiled by numba: the reference's answers, many times faster.

Five ideas carry it.

Exact tile pruning: points lie in Morton order, in tiles of `TILE` neighbours with a bounding box.
A centroid farther from all of the box than another from any of it cannot win in that tile, so on
photographs 2 of 64 centroids are left to compare. No state per point, from the first iteration on.

Tile sums: where one candidate is left, the whole tile is added up from sums made once.

Few bits: pictures' colours are whole numbers below 2^11, so sixteen of them go through one
instruction (`gpu_kmeans.backends.whole_kernels`), and every sum is exact.

Many dimensions: beyond four a box prunes nothing, and a score in float32 says who has to be looked
at (`gpu_kmeans.backends.wide_kernels`).

Threads without a threading layer: the kernels release the interpreter lock and a pool runs them
over fixed chunks, so calls from several threads and a later fork are safe, and the order of
addition does not depend on the number of threads.

Why rounding cannot make pruning drop a winner: a box bound is computed by the same operations in
the same order as a distance, on coordinate differences that are no larger (or no smaller); rounding
is monotonic, so the bound holds for the rounded values too. The sharper test of domination is not
monotonic and is used on integral problems only, where nothing is rounded.

References:
    Kanungo et al., "An efficient k-means clustering algorithm: analysis and implementation",
        IEEE Trans. PAMI 24(7), 2002 (the domination test; there on a kd-tree).
    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
"""

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from gpu_kmeans.backends import (
    BLUR,
    DIFFUSION_ROWS,
    Accumulated,
    Problems,
    SearchPlan,
    alpha_kernels,
    cell_kernels,
    diffusion_kernels,
    dither_kernels,
    fixed_point,
    kernels,
    moment_kernels,
    quality_kernels,
    search_kernels,
    thrift_kernels,
)
from gpu_kmeans.backends.descent_kernels import GOES_ON, LONELY, RESTS
from gpu_kmeans.backends.layouts import NARROW, Layout, four_rows
from gpu_kmeans.backends.pixel_work import PixelWork, four_columns
from gpu_kmeans.backends.reference import (
    ReferenceBackend,
    morton_codes,
    settle_by_steps,
    spread_levels,
)
from gpu_kmeans.backends.threads import parallel
from gpu_kmeans.backends.wide_points import WidePoints
from gpu_kmeans.histogram import FINEST_CELLS

CHUNK_PIXELS = 1 << 18
MEETING_PIXELS = 1 << 24  # whose meetings surely fit in 32 bits
ITERATIONS_AT_ONCE = 8  # of a descent, in one call: some ms of a photograph in one thread


class CpuBackend:
    """The contract of `gpu_kmeans.backends.Backend`."""

    name = "cpu"

    def __init__(self) -> None:
        """Keep the reference at hand for what is not many times faster here."""
        self._reference = ReferenceBackend()

    def histogram(
        self, pixels: UInt8[Tensor, "n c"]
    ) -> tuple[UInt8[Tensor, "m c"], Int[Tensor, " m"], Int[Tensor, " n"]]:
        """Count distinct colours: a bitmap of those that occur, its running count as their rank."""
        if pixels.shape[1] == 4:  # noqa: PLR2004
            return self._histogram_with_alpha(pixels)
        if pixels.shape[1] != 3:  # noqa: PLR2004
            return self._reference.histogram(pixels)
        array, tables = pixels.numpy(), _morton_tables()
        chunks = _pixel_chunks(len(array))
        bitmaps = parallel(
            lambda rows: kernels.mark_colors(array[rows[0] : rows[1]], tables), chunks
        )
        bitmap = functools.reduce(np.bitwise_or, bitmaps)
        ranked, total = kernels.rank_colors(bitmap)
        inverse = np.empty(len(array), np.int32)
        found = np.zeros((len(chunks), total), np.uint32)

        def count(i: int) -> None:
            rows = slice(*chunks[i])
            kernels.count_colors(array[rows], tables, ranked, inverse[rows], found[i])

        parallel(count, range(len(chunks)))
        colors, counts = np.empty((total, 3), np.uint8), np.empty(total, np.int64)
        parallel(
            lambda words: kernels.list_colors(ranked, words, found, colors, counts),
            _row_chunks(len(ranked), 1024, 1 << 14 if torch.get_num_threads() > 1 else None),
        )
        result = (colors, counts, inverse)
        return cast("tuple[Tensor, Tensor, Tensor]", tuple(map(torch.from_numpy, result)))

    @staticmethod
    def _histogram_with_alpha(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sort the pixels' Morton codes, each with its place: equal ones are a colour."""
        array, tables = pixels.numpy(), spread_levels(4).numpy()
        keys, chunks = np.empty(len(array), np.uint64), _pixel_chunks(len(array))
        parallel(lambda rows: alpha_kernels.make_keys(array, tables, rows, keys), chunks)
        keys.sort()
        total = alpha_kernels.count_runs(keys)
        colors, counts = np.empty((total, 4), np.uint8), np.empty(total, np.int64)
        inverse = np.empty(len(array), np.int32)
        alpha_kernels.list_runs(keys, array, colors, counts, inverse)
        return torch.from_numpy(colors), torch.from_numpy(counts), torch.from_numpy(inverse)

    def sum_cells(
        self,
        colors: UInt8[Tensor, "_n c"],
        features: Float[Tensor, "_n c"],
        weights: Float[Tensor, " _n"],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count the cells of each level in one pass, add them up in another, in threads."""
        rows, values, counts = colors.numpy(), features.numpy(), weights.numpy()
        chunks, changes = _row_chunks(len(rows), 1), np.empty(len(rows), np.uint8)
        begins = parallel(lambda chunk: cell_kernels.count_cells(rows, chunk, changes), chunks)
        cells = np.sum(begins, axis=0)
        shift = int((cells <= FINEST_CELLS).argmax()) if cells[-1] <= FINEST_CELLS else -1
        shift %= len(cells)
        total, c = int(cells[shift]), values.shape[1]
        firsts = list(accumulate((int(of_chunk[shift]) for of_chunk in begins), initial=0))
        corners, sums = np.empty((total, c), np.uint8), np.empty((c, total))
        masses = np.empty(total)

        def add(i: int) -> tuple[float, ...]:
            given, found = (rows, values, counts, chunks[i], changes), (corners, sums, masses)
            own = (firsts[i], firsts[i + 1])
            before: tuple[float, ...] = cell_kernels.sum_cells(*given, shift, own, *found)
            return before

        for first, before in zip(firsts, parallel(add, range(len(chunks))), strict=False):
            if first:  # a cell that began in a chunk before
                masses[first - 1] += before[0]
                sums[:, first - 1] += before[1 : c + 1]
        return morton_codes(torch.from_numpy(corners)).numpy(), sums, masses

    def merge_cells(
        self, codes: np.ndarray, sums: np.ndarray, masses: np.ndarray, target: int
    ) -> tuple[Float[Tensor, "p c"], Float[Tensor, " p"]]:
        """Rate all parents in one pass, merge in another; sort only those of several cells."""
        scatters, saved, leaves = cell_kernels.rate_parents(codes, sums, masses)
        surplus, limit = len(codes) - target, -math.inf
        if surplus > 0:
            order = scatters.argsort()
            limit = scatters[order[saved[order].cumsum().searchsorted(surplus)]]
        merged = cell_kernels.merge_cells(sums, masses, scatters, leaves, limit)
        points, weights = map(torch.from_numpy, merged)
        return points, weights

    def pack(
        self,
        points: Sequence[Float[Tensor, "_n d"]],
        weights: Sequence[Float[Tensor, " _n"]],
        *,
        is_integral: bool,
    ) -> Problems:
        """Concatenate, and lay each problem out in tiles."""
        packed = self._reference.pack(points, weights, is_integral=is_integral)
        lay_out = (
            WidePoints if _is_wide(packed.points) else partial(Layout, is_integral=is_integral)
        )
        layout = [
            lay_out(packed.points[rows].numpy(), packed.weights[rows].numpy())
            for rows in packed.spans
        ]
        return Problems(
            points=packed.points,
            weights=packed.weights,
            offsets=packed.offsets,
            is_integral=is_integral,
            layout=layout,
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
        """Give each point its nearest centroid and add it up there, in one pass."""
        total, d = centroids.shape
        width = max(d, NARROW)
        # Columns: sums, mass, wcss, and with detail squares, utility.
        table = np.zeros((total, 2 * width + 3 if detail else width + 2))
        all_labels = np.zeros(len(problems.points) if labels else 0, np.int32)
        for b in range(len(problems.spans)) if active is None else active:
            mine = slice(k_offsets[b], k_offsets[b + 1])
            own = all_labels[problems.spans[b]] if labels else all_labels
            layout = _layouts_of(problems)[b]
            table[mine] = layout.assign(centroids[mine].numpy(), own, detail=detail)
        result = torch.from_numpy(table)
        wcss = np.add.reduceat(table[:, width + 1], k_offsets[:-1])
        squares, last = slice(width + 2, width + 2 + d), 2 * width + 2
        return Accumulated(
            sums=result[:, :d],
            masses=result[:, width],
            wcss=torch.from_numpy(wcss),
            labels=torch.from_numpy(all_labels),
            squares=result[:, squares] if detail else result[:0, :d],
            utilities=result[:, last] if detail else result[:0, 0],
        )

    def settle(
        self, problem: Problems, centroids: Float[Tensor, "k d"], *, steps: int, still: float
    ) -> tuple[Float[Tensor, "k d"], float]:
        """Run Lloyd iterations in one compiled call, in one thread: it is for small problems."""
        if _is_wide(problem.points):
            return settle_by_steps(self, problem, centroids, steps=steps, still=still)
        start = _search_arguments(problem, centroids)
        moved, wcss = search_kernels.settle(*start, steps, still, True)  # noqa: FBT003
        return _as_points(moved, centroids), wcss

    def can_walk(self, problems: Problems, k: int) -> bool:  # noqa: ARG002 - any k
        """Say whether `descend` takes problems: whole numbers, or many dimensions."""
        return problems.is_integral or _is_wide(problems.points)

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
        """Take one problem after the other, some iterations to a call."""
        current, costs = list(centroids), [list(history) for history in histories]
        states = dict.fromkeys(active, GOES_ON)
        for b in active:
            layout, own, found = _layouts_of(problems)[b], costs[b], centroids[b].numpy()
            rules = (limits[b], still, over_relaxed)
            while states[b] == GOES_ON and len(own) < max_iter:
                on_iteration(len(own))
                most = min(ITERATIONS_AT_ONCE, max_iter - len(own))
                previous = own[-1] if own else math.inf
                found, more, states[b] = layout.descend(found, most, previous, rules)
                own += more
            current[b] = torch.from_numpy(found)
        resting = [b for b in active if states[b] == RESTS]
        return current, costs, resting, [b for b in active if states[b] == LONELY]

    def can_breathe(self, problem: Problems) -> bool:
        """Say whether `breathe` takes a problem: one of few dimensions."""
        return not _is_wide(problem.points)

    def breathe(
        self,
        problem: Problems,
        centroids: Float[Tensor, "k d"],
        wcss: float,
        plan: SearchPlan,
    ) -> tuple[Float[Tensor, "k d"], float]:
        """Do all breaths, lane after lane, in one compiled call, in one thread."""
        start = _search_arguments(problem, centroids)
        best, lowest = search_kernels.breathe(*start, wcss, *_plan_arguments(problem, plan))
        return _as_points(best, centroids), lowest

    def grow(
        self, problem: Problems, centroids: Float[Tensor, "k d"], plan: SearchPlan
    ) -> Float[Tensor, "m d"]:
        """Do it in one compiled call, in one thread."""
        start = _search_arguments(problem, centroids)
        grown = search_kernels.grow(*start, *_plan_arguments(problem, plan))
        return _as_points(grown, centroids)

    def seed(
        self, problems: Problems, ks: Sequence[int], uniforms: Sequence[Float[Tensor, "_k trials"]]
    ) -> list[Int[Tensor, " _m"]]:
        """Choose rows by greedy k-means++, one problem after the other."""
        each = zip(_layouts_of(problems), ks, uniforms, strict=True)
        return [torch.from_numpy(layout.seed(draws[:k].numpy())) for layout, k, draws in each]

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
        """Diffuse errors, the bands side by side; then take every third row at a time."""
        work, kept = PixelWork.of(colors, palette), own.numpy().astype(np.int16)
        (h, w), places = inverse.shape, inverse.to(torch.int32).contiguous().numpy()
        indices, planes = np.empty((h, w), np.uint8), work.new_planes(h if sweeps else 0, w)
        bands, thirds = _row_chunks(h, DIFFUSION_ROWS), _row_chunks(h, 1)
        lists = [work.new_lists() for _ in range(max(len(bands), len(thirds)))]
        given = (work.palette, work.limits, work.grid)

        def diffuse(i: int) -> None:
            of_band = (fixed_point(strength), bands[i], indices, planes, *lists[i])
            diffusion_kernels.diffuse(work.table, kept, places, *given, *of_band)

        def reconsider(phase: int, i: int) -> None:
            share = fixed_point(strength / BLUR[2] ** 2)
            dither_kernels.reconsider(*given, share, phase, thirds[i], w, planes, *lists[i])

        parallel(diffuse, range(len(bands)))
        for phase in (*range(3),) * sweeps:
            parallel(partial(reconsider, phase), range(len(thirds)))
        if sweeps:
            dither_kernels.interleave(planes[1], indices)
        return torch.from_numpy(indices)

    def blurred_moments(
        self,
        colors: Float[Tensor, "_n d"],
        inverse: Int[Tensor, "h w"],
        indices: UInt8[Tensor, "h w"],
        k: int,
    ) -> tuple[Int[Tensor, "k k"], Int[Tensor, "k d"]]:
        """Visit each pixel and half of its neighbours once."""
        table, places, entries = four_columns(colors), inverse.numpy(), indices.numpy()
        chunks = _row_chunks(len(entries), 1, max(1, MEETING_PIXELS // entries.shape[1]))

        def count(rows: tuple[int, int]) -> tuple[np.ndarray, ...]:
            sums = moment_kernels.sum_blurred(table, places, entries, k, colors.shape[1], rows)
            return (*moment_kernels.count_meetings(entries, k, rows), sums)

        parts = zip(*parallel(count, chunks), strict=True)
        meetings, counts, sums = (np.sum(part, axis=0) for part in parts)
        meetings = meetings + meetings.T + np.diag(BLUR[2] ** 2 * counts)
        return torch.from_numpy(meetings), torch.from_numpy(sums)

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
        """Price the pixels, then take every second one at a time, bands of rows side by side."""
        places, own = inverse.numpy(), labels.numpy().astype(np.int16)
        table, entries, near = four_columns(colors), four_columns(palette), own[places]
        (h, w), prices = places.shape, np.empty(places.shape, np.int64)
        chosen, chunks = np.pad(near, 1, constant_values=-1), _row_chunks(len(places), 1)
        changed = np.zeros((h + 2, w + 2), np.uint8)
        given = (table, places, entries, own, price)
        parallel(lambda rows: thrift_kernels.find_prices(*given, rows, prices), chunks)
        for turn in range(2 * sweeps):
            state = (table, places, entries, near, prices, turn, chosen, changed)
            parallel(partial(thrift_kernels.economize, *state), chunks)
        return torch.from_numpy(chosen[1:-1, 1:-1].astype(np.uint8))

    def squared_error(
        self,
        before: Int[Tensor, "n c"],
        inverse: Int[Tensor, "h w"],
        after: Int[Tensor, "m c"],
        indices: UInt8[Tensor, "h w"],
    ) -> int:
        """Look at each pixel once."""
        arrays = [tensor.contiguous().numpy() for tensor in (before, inverse, after, indices)]
        chunks = _row_chunks(len(indices), 1)
        return sum(parallel(lambda rows: quality_kernels.squared_error(*arrays, rows), chunks))

    def block_moments(
        self,
        before: Float[Tensor, "n 3"],
        inverse: Int[Tensor, "h w"],
        after: Float[Tensor, "m 3"],
        indices: Integer[Tensor, "h w"],
        block: int,
    ) -> tuple[Int[Tensor, "12 _h _w"], Int[Tensor, "12 _hh _hw"]]:
        """Look at each pixel once."""
        arrays = (tensor.contiguous().numpy() for tensor in (before, inverse, after, indices))
        whole, half = map(torch.from_numpy, quality_kernels.block_moments(*arrays, block))
        return whole, half


def _is_wide(points: Tensor) -> bool:
    return points.shape[1] > NARROW


def _layouts_of(problems: Problems) -> list[Layout | WidePoints]:
    return cast("list[Layout | WidePoints]", problems.layout)


def _search_arguments(problem: Problems, centroids: Tensor) -> tuple[object, ...]:
    """Return what the kernels of the search take first."""
    rows = four_rows(centroids.numpy())
    layout = cast("Layout", _layouts_of(problem)[0])
    return layout.search_layout(rows), problem.is_integral, rows


def _as_points(rows: np.ndarray, like: Tensor) -> Tensor:
    """Return centroids (4, k) as those they are like: (k, d)."""
    return torch.from_numpy(rows[: like.shape[1]].T.copy())


def _plan_arguments(problem: Problems, plan: SearchPlan) -> tuple[object, ...]:
    steps = (plan.steps_in, plan.steps_out, plan.still, plan.reach)
    luck = np.ascontiguousarray(plan.luck)
    return np.array(plan.extra), luck, problem.points.shape[1], *steps


@functools.cache
def _morton_tables() -> np.ndarray:
    return spread_levels(3).to(torch.int32).numpy()


def _pixel_chunks(n: int) -> list[tuple[int, int]]:
    """As many chunks as threads, since each costs a bitmap; the counts do not depend on them."""
    size = max(CHUNK_PIXELS, -(-n // torch.get_num_threads()))
    return [(a, min(a + size, n)) for a in range(0, n, size)]


def _row_chunks(h: int, step: int, most: int | None = None) -> list[tuple[int, int]]:
    """One chunk of rows for each thread, in steps of so many: the answer does not depend on it.

    More chunks where one may have only so many rows.
    """
    size = -(-h // (step * torch.get_num_threads())) * step
    size = size if most is None else min(size, most)
    return [(a, min(a + size, h)) for a in range(0, h, size)]
