"""The definition of the hot loops, in plain PyTorch, on any device.

Slow and obvious: what the other backends are tested against. Nothing here holds an (n, k) matrix of
all points: they come in chunks of `CHUNK_PAIRS` point-centroid pairs.

Why the float arithmetic may be believed: on integral problems (see `gpu_kmeans.backends.Problems`)
every intermediate value is a whole number that its type holds exactly. Other points take direct
differences, added up dimension by dimension, never |x|^2 - 2xc + |c|^2, which cancels.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from gpu_kmeans.backends import (
    BLUR,
    DIFFUSION_ROWS,
    SHARE_BITS,
    Accumulated,
    Backend,
    Problems,
    fixed_point,
)
from gpu_kmeans.backends.thrift import economize
from gpu_kmeans.distances import place_beyond

PairDistances = Callable[[Tensor, Tensor], Tensor]
CHUNK_PAIRS = (
    1 << 21
)  # 8 MB of float32 distances: they stay in the cache between the passes over them
CHUNK_PIXELS = 1 << 18  # so that the arrays on the way stay in the cache
_BAND_BLOCKS = 8  # of the half picture, at once
# Floyd and Steinberg's weights, in sixteenths: right, below left, below, below right.
DIFFUSION = ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1))


class ReferenceBackend:
    """The contract of `gpu_kmeans.backends.Backend`, as plainly as it can be said.

    Args:
        pairs: What to compare centroids by: points and centroids to one number for each pair.
        power: What the objective adds up is that number to this power; see
            `gpu_kmeans.distances`, where other distances than the squared Euclidean come from.
    """

    name = "reference"

    def __init__(self, pairs: "PairDistances | None" = None, power: float = 1.0) -> None:
        self._pairs = pairs or sq_distances
        self._power = power

    def histogram(
        self, pixels: UInt8[Tensor, "n c"]
    ) -> tuple[UInt8[Tensor, "m c"], Int[Tensor, " m"], Int[Tensor, " n"]]:
        """Count the distinct colours by sorting their Morton codes."""
        codes = morton_codes(pixels)
        distinct, inverse, counts = torch.unique(codes, return_inverse=True, return_counts=True)
        colors = torch.empty(
            len(distinct), pixels.shape[1], dtype=torch.uint8, device=pixels.device
        )
        colors[inverse] = pixels
        return colors, counts, inverse.to(torch.int32)

    def pack(
        self,
        points: Sequence[Float[Tensor, "_n d"]],
        weights: Sequence[Float[Tensor, " _n"]],
        *,
        is_integral: bool,
    ) -> Problems:
        """Concatenate; there is nothing else to prepare."""
        sizes = torch.tensor([0, *(len(p) for p in points)]).cumsum(0)
        return Problems(
            points=points[0] if len(points) == 1 else torch.cat(list(points)),
            weights=(weights[0] if len(weights) == 1 else torch.cat(list(weights))).double(),
            offsets=tuple(sizes.tolist()),
            is_integral=is_integral,
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
        """Give each point its nearest centroid, chunk by chunk, and add it up there."""
        n, d, total = len(problems.points), centroids.shape[1], len(centroids)
        device = problems.points.device
        sums = torch.zeros(total, d, dtype=torch.float64, device=device)
        squares = torch.zeros_like(sums)
        masses, utilities = sums.new_zeros(total), sums.new_zeros(total)
        wcss = sums.new_zeros(len(problems.spans))
        all_labels = torch.zeros(n if labels else 0, dtype=torch.int32, device=device)
        for b in range(len(problems.spans)) if active is None else active:
            mine = slice(k_offsets[b], k_offsets[b + 1])
            for rows in _chunks(problems.spans[b], mine.stop - mine.start):
                points, weights = problems.points[rows], problems.weights[rows]
                pairs = self._pairs(points, centroids[mine])
                nearest = pairs.argmin(dim=1)  # the first of equals, by argmin's contract
                sq_distance = self._cost(pairs.gather(1, nearest[:, None])[:, 0])
                sums[mine] += _sums_by_label(points.double() * weights[:, None], nearest, mine)
                masses[mine] += _sums_by_label(weights[:, None], nearest, mine)[:, 0]
                costs = _sums_by_label((weights * sq_distance)[:, None], nearest, mine)
                wcss[b] += costs.sum()  # a sum over all points would be split among the threads
                if labels:
                    all_labels[rows] = nearest.to(torch.int32)
                if detail:
                    moved = self._cost(_second_smallest(pairs, nearest)) - sq_distance
                    utilities[mine] += _sums_by_label((weights * moved)[:, None], nearest, mine)[
                        :, 0
                    ]
                    squared = points.double() ** 2 * weights[:, None]
                    squares[mine] += _sums_by_label(squared, nearest, mine)
        return Accumulated(
            sums=sums,
            masses=masses,
            wcss=wcss,
            labels=all_labels,
            squares=squares if detail else squares[:0],
            utilities=utilities if detail else utilities[:0],
        )

    def settle(
        self, problem: Problems, centroids: Float[Tensor, "k d"], *, steps: int, still: float
    ) -> tuple[Float[Tensor, "k d"], float]:
        """Run Lloyd iterations, one pass over the points each."""
        return settle_by_steps(self, problem, centroids, steps=steps, still=still)

    def seed(
        self, problems: Problems, ks: Sequence[int], uniforms: Sequence[Float[Tensor, "_k trials"]]
    ) -> list[Int[Tensor, " _m"]]:
        """Choose rows by greedy k-means++, one problem after the other."""
        return [
            self._greedy_seeds(problems.points[rows], problems.weights[rows], k, draws)
            for rows, k, draws in zip(problems.spans, ks, uniforms, strict=True)
        ]

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
        """Diffuse errors band by band, then let the pixels choose again."""
        low, high = colors.long().amin(dim=0), colors.long().amax(dim=0)
        bands = [
            _diffuse_band(
                colors.long()[rows.long()], palette, strength, own.long()[rows.long()], (low, high)
            )
            for rows in inverse.split(DIFFUSION_ROWS)
        ]
        pixels, is_free = colors.long()[inverse.long()], own[inverse.long()] < 0
        chosen = torch.cat(bands).long()
        _reconsider(
            pixels, palette, chosen,
            strength=strength, is_free=is_free, bounds=(low, high), sweeps=sweeps,
        )  # fmt: skip
        return chosen.to(torch.uint8)

    def blurred_moments(
        self,
        colors: Float[Tensor, "_n d"],
        inverse: Int[Tensor, "h w"],
        indices: UInt8[Tensor, "h w"],
        k: int,
    ) -> tuple[Int[Tensor, "k k"], Int[Tensor, "k d"]]:
        """Shift the picture to each neighbour in turn and count what meets."""
        h, w = inverse.shape
        pixels, entries = colors.long()[inverse.long()], indices.long()
        meetings = torch.zeros(k * k, dtype=torch.int64, device=pixels.device)
        sums = torch.zeros(k, colors.shape[1], dtype=torch.int64, device=pixels.device)
        reach = len(BLUR) // 2
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                weight = BLUR[down + reach] * BLUR[right + reach]
                ours = entries[max(0, -down) : h - max(0, down), max(0, -right) : w - max(0, right)]
                about = (
                    slice(max(0, down), h - max(0, -down)),
                    slice(max(0, right), w - max(0, -right)),
                )
                pairs = ours * k + entries[about]
                meetings += weight * torch.bincount(pairs.reshape(-1), minlength=k * k)
                theirs = pixels[about].reshape(-1, colors.shape[1])
                sums.index_add_(0, ours.reshape(-1), weight * theirs)
        return meetings.reshape(k, k), sums

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
        """Take every second pixel at a time, as on a chessboard: they do not see one another."""
        return economize(colors, inverse, palette, labels, price=price, sweeps=sweeps)

    def squared_error(
        self,
        before: Int[Tensor, "n c"],
        inverse: Int[Tensor, "h w"],
        after: Int[Tensor, "m c"],
        indices: UInt8[Tensor, "h w"],
    ) -> int:
        """Look at a chunk of pixels at a time."""
        total = 0
        chunks = (places.reshape(-1).split(CHUNK_PIXELS) for places in (inverse, indices))
        for ours, theirs in zip(*chunks, strict=True):
            missed = before.long().index_select(0, ours) - after.long().index_select(
                0, theirs.long()
            )
            total += int((missed * missed).sum())
        return total

    def block_moments(
        self,
        before: Float[Tensor, "n 3"],
        inverse: Int[Tensor, "h w"],
        after: Float[Tensor, "m 3"],
        indices: Integer[Tensor, "h w"],
        block: int,
    ) -> tuple[Int[Tensor, "12 _h _w"], Int[Tensor, "12 _hh _hw"]]:
        """Lay the pictures out, a band of rows at a time, so that little memory is taken."""
        unit = 2 * block
        rows, columns = (
            torch.arange(max(2, -(-side // unit)) * unit, device=inverse.device).clamp(max=side - 1)
            for side in inverse.shape
        )
        whole, half = [], []
        for band in rows.split(unit * _BAND_BLOCKS):
            x = before.long().T[:, inverse[band][:, columns].long()]  # (3, rows, columns)
            y = after.long().T[:, indices[band][:, columns].long()]
            whole.append(_block_moments(x, y, block))
            half.append(_block_moments(_sum_blocks(x, 2), _sum_blocks(y, 2), block))
        return torch.cat(whole, dim=1), torch.cat(half, dim=1)

    def _cost(self, distances: Tensor) -> Tensor:
        """Return what pairs at these distances add to the objective for each unit of weight."""
        return distances.double() if self._power == 1 else distances.double() ** self._power

    def _greedy_seeds(self, points: Tensor, weights: Tensor, k: int, uniforms: Tensor) -> Tensor:
        """Greedy k-means++ (Arthur and Vassilvitskii 2007, section 7): the best of several draws.

        A draw u in [0, 1) takes the first row where the running sum of weight x cost exceeds
        u x the total.
        """
        first = _draw(weights, uniforms[0, :1])
        chosen = [first]
        nearest = self._pairs(points, points[first])[:, 0]
        for draws in uniforms[1:k]:
            potentials = weights * self._cost(nearest)
            if not potentials.sum() > 0:
                break
            trials = _draw(potentials, draws)
            candidates = torch.minimum(self._pairs(points, points[trials]), nearest[:, None])
            best = (self._cost(candidates) * weights[:, None]).sum(dim=0).argmin()
            chosen.append(trials[best][None])
            nearest = candidates[:, best]
        return torch.cat(chosen)


def settle_by_steps(
    engine: Backend,
    problem: Problems,
    centroids: Float[Tensor, "k d"],
    *,
    steps: int,
    still: float,
) -> tuple[Float[Tensor, "k d"], float]:
    """Define `Backend.settle`, from the passes that every backend has. Never raises."""
    previous = float("inf")
    for _ in range(steps):
        found = engine.assign_accumulate(problem, centroids, (0, len(centroids)))
        wcss = float(found.wcss[0])
        if previous - wcss <= still * wcss:
            return centroids, wcss
        previous, last = wcss, centroids
        centroids = place_beyond(problem, centroids, found)
    return last, previous


def _block_moments(x: Tensor, y: Tensor, block: int) -> Tensor:
    products = torch.stack([x * x, y * y, x * y])  # (3, channel, h, w)
    values = torch.cat([x, y, products[:, 0], products[:, 1] + products[:, 2]])
    return _sum_blocks(values, block)


def _sum_blocks(values: Tensor, block: int) -> Tensor:
    n, h, w = values.shape
    return values.reshape(n, h // block, block, w // block, block).sum(dim=(2, 4))


def _diffuse_band(
    pixels: Tensor, palette: Tensor, strength: float, own: Tensor, bounds: tuple[Tensor, Tensor]
) -> Tensor:
    """Diffuse errors along anti-diagonals, whose pixels do not depend on one another."""
    (h, w), entries = own.shape, palette.long()
    passed = torch.nn.functional.pad(torch.zeros_like(pixels), (0, 0, 1, 1, 0, 1))
    indices = torch.zeros(h, w, dtype=torch.uint8, device=pixels.device)
    for step in range(w + 2 * (h - 1)):
        first = max(0, (step - w + 2) // 2)
        y = torch.arange(first, min(h - 1, step // 2) + 1, device=pixels.device)
        x = step - 2 * y
        target = (pixels[y, x] + ((passed[y, x + 1] + 8) >> 4)).clamp(*bounds)
        entry = own[y, x]
        chosen = sq_distances(target.float(), palette).argmin(dim=1).where(entry < 0, entry)
        target = target.where(entry[:, None] < 0, entries[chosen])
        indices[y, x] = chosen.to(torch.uint8)
        error = _shares(target - entries[chosen], strength)  # whole numbers: no order matters
        for down, right, sixteenths in DIFFUSION:
            passed[y + down, x + 1 + right] += error * sixteenths
    return indices


def _reconsider(
    pixels: Tensor,
    palette: Tensor,
    chosen: Tensor,
    *,
    strength: float,
    is_free: Tensor,
    bounds: tuple[Tensor, Tensor],
    sweeps: int,
) -> None:
    """Let every third pixel of every third row choose at a time: they do not see one another."""
    (h, w), reach, entries = chosen.shape, len(BLUR) // 2, palette.long()
    misses = torch.nn.functional.pad(entries[chosen] - pixels, (0, 0, reach, reach, reach, reach))
    inner = misses[reach : reach + h, reach : reach + w]
    for turn in range(9 * sweeps):
        mine = (slice(turn // 3 % 3, None, 3), slice(turn % 3, None, 3))
        missed = torch.zeros_like(pixels[mine])
        for down, right in itertools.product(range(2 * reach + 1), repeat=2):
            if (down, right) != (reach, reach):
                about = misses[down : down + h, right : right + w][mine]
                missed += BLUR[down] * BLUR[right] * about
        target = (pixels[mine] - _shares(missed, strength / BLUR[reach] ** 2)).clamp(*bounds)
        nearest = sq_distances(target.float().reshape(-1, target.shape[2]), palette).argmin(dim=1)
        chosen[mine] = nearest.reshape(target.shape[:2]).where(is_free[mine], chosen[mine])
        inner[mine] = entries[chosen[mine]] - pixels[mine]


def _shares(values: Tensor, share: float) -> Tensor:
    """Multiply whole numbers and round, half up: shifts round down."""
    return (values * fixed_point(share) + (1 << SHARE_BITS - 1)) >> SHARE_BITS


def morton_codes(pixels: UInt8[Tensor, "n c"]) -> Int[Tensor, " n"]:
    """Interleave the bits of the channels: colours near in code are near in space.

    Args:
        pixels: With 1 to 4 channels.

    Returns:
        Codes below 2^(8 c), int64. Never raises.

    Example:
        >>> morton_codes(torch.tensor([[0, 0, 1], [1, 0, 0], [2, 0, 0]], dtype=torch.uint8))
        tensor([ 1,  4, 32])
    """
    c = pixels.shape[1]
    if pixels.device.type == "cpu":  # numpy, without torch's team of threads: see dithering.py
        columns, spread = pixels.numpy().T, spread_levels(c).numpy()
        whole = spread[0][columns[0]]
        for column, table in zip(columns[1:], spread[1:], strict=True):
            whole |= table[column]
        return torch.from_numpy(whole)
    tables = spread_levels(c).to(pixels.device)
    codes = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
    for j in range(c):
        codes |= tables[j][pixels[:, j].long()]
    return codes


@functools.cache
def spread_levels(c: int) -> Tensor:
    """Return (c, 256) int64: what each level of each channel adds to a code. Never raises."""
    levels = torch.arange(256)
    spread = torch.zeros_like(levels)
    for bit in range(8):
        spread |= ((levels >> bit) & 1) << (c * bit)
    return torch.stack([spread << (c - 1 - j) for j in range(c)])


def sq_distances(
    points: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"]
) -> Float[Tensor, "n k"]:
    """Return the squared Euclidean distances of every pair, by direct differences.

    The caller sees to it that n x k is small. Never raises.

    Example:
        >>> sq_distances(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
        tensor([[25.]])
    """
    total = points.new_zeros(len(points), len(centroids))
    for j in range(points.shape[1]):
        difference = points[:, j, None] - centroids[None, :, j]
        total += difference * difference
    return total


def _chunks(rows: slice, k: int) -> Iterator[slice]:
    size = max(1, CHUNK_PAIRS // k)
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))


def _sums_by_label(values: Tensor, labels: Tensor, mine: slice) -> Tensor:
    """Add up rows by label in a fixed order: float atomics would not be reproducible on CUDA."""
    k = mine.stop - mine.start
    if values.device.type == "cpu":
        columns = [torch.bincount(labels, weights=column, minlength=k) for column in values.T]
        return torch.stack(columns, dim=1)
    return torch.nn.functional.one_hot(labels, k).to(values.dtype).T @ values


def _second_smallest(pairs: Tensor, nearest: Tensor) -> Tensor:
    """Return each row's smallest value beside the nearest; the nearest itself if it is alone."""
    if pairs.shape[1] == 1:
        return pairs[:, 0]
    return pairs.scatter(1, nearest[:, None], torch.inf).amin(dim=1)


def _draw(masses: Tensor, uniforms: Tensor) -> Tensor:
    running = masses.cumsum(0)
    targets = uniforms.to(running) * running[-1]
    last = int(masses.nonzero()[-1])  # rounding may put u x total at the total itself
    return torch.searchsorted(running, targets, right=True).clamp(max=last)
