"""Merging the colours of many pictures at once by PyTorch alone, where CUDA C++ does not compile.

The same octree, the same numbers to the bit: whole numbers are added by integer atomics, the only
sums that are not whole in the order in which numpy's `add.reduceat` takes them. All levels are kept
leaf by leaf, so that no size depends on what is on the device: it is waited for twice, for how many
cells there are at each level, and how many points come out.
"""

import torch
from torch import Tensor

from gpu_kmeans.backends.cuda.devices import to_device
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.histogram import FINEST_CELLS

LEVELS = 8  # bits of a channel
UNROLLED = 8  # numpy adds so many numbers side by side


def merge_large(
    target: int, colors: list[Tensor], features: list[Tensor], weights: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Merge each picture's colours, of which there are more than `target`; see `merging.merge`."""
    device, channels, b = colors[0].device, colors[0].shape[1], len(colors)
    sizes = torch.tensor([len(of_one) for of_one in colors])
    picture = to_device(torch.arange(b).repeat_interleave(sizes), device)
    rows = torch.cat(colors)
    is_first = _differs(picture)
    packed = torch.zeros_like(picture)
    for column in rows.T:
        packed = packed << 8 | column
    changed = torch.nn.functional.pad(packed[1:] ^ packed[:-1], (1, 0))
    masks = [sum((0xFF >> s << s) << 8 * j for j in range(channels)) for s in range(LEVELS)]
    begins = torch.stack([((changed & mask) != 0) | is_first for mask in masks])
    cells = torch.zeros(LEVELS, b, dtype=torch.int64, device=device)
    cells.index_add_(1, picture, begins.long())
    counts = cells.T.tolist()
    shifts = [next((s for s in range(LEVELS) if of[s] <= FINEST_CELLS), 7) for of in counts]
    leaves = [of[shift] for of, shift in zip(counts, shifts, strict=True)]
    shift = to_device(torch.tensor(shifts), device)
    begin = begins.gather(0, shift[picture][None])[0]
    leaf, total = begin.cumsum(0) - 1, sum(leaves)
    starts = torch.full((total,), len(rows), device=device).scatter_reduce_(
        0, leaf, torch.arange(len(rows), device=device), "amin"
    )
    whole = torch.cat(weights).long()
    masses = _added(whole, leaf, total)
    sums = _added(torch.cat(features).long() * whole[:, None], leaf, total)
    owner = picture[starts]
    codes = morton_codes((rows[starts].long() >> shift[owner][:, None]).to(torch.uint8))
    surplus = to_device(torch.tensor(leaves) - target, device)
    point = (~_covered(codes, owner, sums, masses, surplus)).cumsum(0) - 1
    last = to_device(torch.tensor(leaves).cumsum(0) - 1, device)
    ends = (point[last] + 1).tolist()
    mass = _added(masses, point, ends[-1]).double()
    means = _added(sums, point, ends[-1]).double() / mass[:, None]
    points = (means + 0.5).floor().to(features[0].dtype)
    spans = [slice(a, z) for a, z in zip([0, *ends], ends, strict=False)]
    return [(points[span], mass[span]) for span in spans]


def _covered(codes: Tensor, owner: Tensor, sums: Tensor, masses: Tensor, surplus: Tensor) -> Tensor:
    """Say which leaves are merged into one before them; see `histogram._merge_cells`."""
    total, channels = sums.shape
    square = _scalar_product(sums) / masses.double()
    node = torch.arange(total, device=codes.device)
    levels = []
    for _ in range(LEVELS):
        codes = codes >> channels
        flag = _differs(codes) | _differs(owner)
        parent = flag.cumsum(0) - 1
        counts = _added(torch.ones_like(parent), parent, total)
        # Of each parent: its first child among the nodes below, and how many it has.
        first = torch.full((total,), total, device=codes.device)
        first.scatter_reduce_(0, parent, node, "amin")
        final = torch.full((total,), -1, device=codes.device)
        final.scatter_reduce_(0, parent, node, "amax")
        children = (final - first + 1).clamp(min=0)
        square = _added_like_numpy(square, first, children, 1 << channels)
        mass, vector = _added(masses, parent, total), _added(sums, parent, total)
        scatter = square - _scalar_product(vector) / mass.double()
        scatter = torch.where(counts == 1, 0.0, scatter)
        scatter = torch.where(counts == 0, torch.inf, scatter)  # there are not so many parents
        belongs = torch.zeros_like(owner).scatter_(0, parent, owner)
        levels.append((flag, parent, scatter, (children - 1).clamp(min=0), belongs))
        node = parent
    scatters, saved, owners = (torch.cat([level[i] for level in levels]) for i in (2, 3, 4))
    order = scatters.argsort(stable=True)
    order = order[owners[order].argsort(stable=True)]
    running = saved[order].cumsum(0)
    whose = owners[order]
    before = torch.full_like(surplus, torch.iinfo(torch.int64).max)
    before.scatter_reduce_(0, whose, running - saved[order], "amin")
    enough = (running - before[whose] >= surplus[whose]) & (surplus > 0)[whose]
    limit = torch.full(surplus.shape, torch.inf, dtype=torch.float64, device=codes.device)
    limit.scatter_reduce_(0, whose, torch.where(enough, scatters[order], torch.inf), "amin")
    limit = torch.where(surplus > 0, limit, -torch.inf)
    covered = torch.zeros_like(owner, dtype=torch.bool)
    for flag, parent, scatter, _, _ in levels:
        covered |= (scatter[parent] <= limit[owner]) & ~flag
    return covered


def _differs(values: Tensor) -> Tensor:
    """Say where a value is not that before it; the first never is."""
    return torch.nn.functional.pad(values[1:] != values[:-1], (1, 0), value=True)


def _added(values: Tensor, where: Tensor, size: int) -> Tensor:
    """Add whole numbers up: exact, in whatever order."""
    total = torch.zeros(size, *values.shape[1:], dtype=torch.int64, device=values.device)
    total.index_add_(0, where, values)
    return total


def _scalar_product(vectors: Tensor) -> Tensor:
    """Return the sum of squares as numpy adds rows up: one after the other."""
    squares: Tensor = vectors.double() ** 2
    total, *rest = squares.unbind(dim=1)
    for column in rest:
        total = total + column
    return total


def _added_like_numpy(values: Tensor, first: Tensor, count: Tensor, most: int) -> Tensor:
    """Add up to `most` numbers each from `first` on, in the order of numpy's `add.reduceat`.

    The first, and to it the sum of the others: one after the other up to seven, from eight on
    eight side by side.
    """

    def at(i: int) -> Tensor:
        there = values[(first + i).clamp(max=len(values) - 1)]
        return torch.where(count > i, there, 0.0)

    rest = at(1)
    for i in range(2, min(most, UNROLLED)):
        rest = rest + at(i)
    if most > UNROLLED:
        r = [at(i) for i in range(1, UNROLLED + 1)]
        many = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]))
        for i in range(UNROLLED + 1, most):
            many = many + at(i)
        rest = torch.where(count > UNROLLED, many, rest)
    return at(0) + rest
