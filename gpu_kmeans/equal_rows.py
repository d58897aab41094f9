"""Counting the equal rows of a table once, as the colours of a picture are counted.

The textbook hands the pixels of a photograph to k-means as rows: two million of them, but some
hundred thousand distinct ones. A row that occurs w times is a row of weight w, so the clusters are
the same and a fit costs what the distinct rows cost.

Worth its price where it is cheap to find out: up to four columns, each with values on one grid of
256 levels, in steps of 1 (pixels) or 1/255 (pixels scaled to 0..1).
"""

import torch
from jaxtyping import Float, Int, Num, UInt8
from torch import Tensor

from gpu_kmeans.backends import Backend

__all__ = ["count_rows"]

STEPS = (1, 255)  # levels in a unit
LEVELS = 256
COLUMNS = 4
EXACT = 2.0**53  # whole numbers up to here are exact in float64
HEAD = 1024  # as many rows tell most other tables


def count_rows(
    points: Num[Tensor, "n d"], weights: Float[Tensor, " n"] | None, backend: Backend
) -> tuple[Num[Tensor, "m d"], Num[Tensor, " m"] | None, Int[Tensor, " n"] | None]:
    """Count equal rows once, where the table is of few levels; leave any other as it is.

    Args:
        points: Any numbers, on the backend's device.
        weights: How much each row counts; None for 1.
        backend: Who counts.

    Returns:
        rows: The distinct rows, exactly as they came; of the type of the points, float64 for whole
            numbers.
        weights: How much each of them counts, None for 1.
        inverse: The distinct row of each row; None where the rows are the points.
        Never raises.

    Example:
        >>> from gpu_kmeans.backends import backend_for
        >>> points = torch.tensor([[7, 1], [0, 0], [7, 1]])
        >>> rows, weights, inverse = count_rows(points, None, backend_for(points.device))
        >>> rows.tolist(), weights.tolist(), inverse.tolist()
        ([[0.0, 0.0], [7.0, 1.0]], [1, 2], [1, 0, 1])
    """
    d = points.shape[1]
    for step in STEPS if points.is_floating_point() else STEPS[:1]:
        if _levels(points[:HEAD], step) is None:
            continue
        found = _levels(points, step)
        if found is None:
            continue
        levels, low = found
        # Three columns at least: backends count those of a picture fastest.
        padded = torch.nn.functional.pad(levels, (0, max(0, 3 - d)))
        colors, counts, inverse = backend.histogram(padded)
        rows = (colors[:, :d].to(low.dtype) + low) / step
        return rows, _added_up(weights, counts, inverse), inverse
    return points, weights, None


def _added_up(weights: Tensor | None, counts: Tensor, inverse: Tensor) -> Tensor:
    """Add up the weights of equal rows, on the CPU: CUDA adds in no fixed order."""
    if weights is None:
        return counts
    return torch.bincount(inverse.cpu(), weights.cpu(), minlength=len(counts)).to(weights.device)


def _levels(
    points: Num[Tensor, "n d"], step: int
) -> tuple[UInt8[Tensor, "n d"], Float[Tensor, " d"]] | None:
    """Return points x step - low as 8-bit levels, and low, where that is exact."""
    if not len(points) or points.shape[1] > COLUMNS:
        return None
    whole = points
    if points.is_floating_point():
        whole = (points * step).round()
        if not torch.equal(whole / step, points):
            return None
    low, high = whole.amin(dim=0), whole.amax(dim=0)
    floor, ceiling = low.double(), high.double()
    is_narrow = (ceiling - floor < LEVELS).all() & (
        floor.abs().maximum(ceiling.abs()) < EXACT
    ).all()
    if not bool(is_narrow):  # infinity minus infinity is NaN: not narrow either
        return None
    return (whole - low).to(torch.uint8), low if points.is_floating_point() else floor
