"""Points of more than four dimensions on the CPU: the reference, its passes over points compiled.

There is nothing to prune there (a box of neighbours rules hardly anything out), but PyTorch takes a
call for each dimension, which is many times the work itself.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gpu_kmeans.backends import Accumulated, Problems, row_kernels
from gpu_kmeans.backends.reference import ReferenceBackend, chunks_of
from gpu_kmeans.backends.threads import parallel

__all__ = ["RowBackend", "compare"]

CHUNK_VALUES = 1 << 20  # differences: some tenths of a millisecond


class RowBackend(ReferenceBackend):
    """The reference's answers, to the bit."""

    def __init__(self) -> None:
        super().__init__(compare)

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
        """Find the nearest centroids on several threads, then add up in order on one."""
        points, weights = _rows(problems.points), problems.weights.numpy()
        (n, d), total = points.shape, len(centroids)
        sums, squares = np.zeros((total, d + 3)), np.zeros((total, d) if detail else (0, d))
        wcss = np.zeros(len(problems.spans))
        all_labels, costs = np.zeros(n, np.int32), np.empty((n, 2))
        for b in range(len(problems.spans)) if active is None else active:
            mine = slice(k_offsets[b], k_offsets[b + 1])
            columns = _columns(centroids[mine])
            for rows in chunks_of(problems.spans[b], columns.shape[1]):
                own = (points[rows], columns, all_labels[rows], costs[rows])
                _share(row_kernels.find_nearest, own)
                table = np.zeros((columns.shape[1], d + 3))
                squared = np.zeros((columns.shape[1], d) if detail else (0, d))
                row_kernels.add_rows(
                    points[rows], weights[rows], all_labels[rows], costs[rows], table, squared
                )
                sums[mine] += table
                if detail:
                    squares[mine] += squared
                wcss[b] += float(torch.from_numpy(table[:, d + 1].copy()).sum())
        result = torch.from_numpy(sums)
        return Accumulated(
            sums=result[:, :d],
            masses=result[:, d],
            wcss=torch.from_numpy(wcss),
            labels=torch.from_numpy(all_labels if labels else all_labels[:0]),
            squares=torch.from_numpy(squares),
            utilities=result[:, d + 2] if detail else result[:0, 0],
        )


def compare(points: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"]) -> Float[Tensor, "n k"]:
    """Do as `gpu_kmeans.backends.reference.sq_distances`, to the same bits. Never raises.

    Example:
        >>> compare(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
        tensor([[25.]])
    """
    rows, columns = _rows(points), _columns(centroids)
    pairs = np.empty((len(rows), columns.shape[1]), rows.dtype)
    _share(row_kernels.compare_rows, (rows, columns, pairs))
    return torch.from_numpy(pairs)


def _rows(points: Tensor) -> np.ndarray:
    return np.ascontiguousarray(points.numpy())


def _columns(centroids: Tensor) -> np.ndarray:
    return np.ascontiguousarray(centroids.numpy().T)


def _share(kernel: Callable[..., None], arguments: tuple[np.ndarray, ...]) -> None:
    """Run a kernel on all points, (points, columns, ...), in pieces that threads share."""
    points, columns = arguments[:2]
    step = max(1, CHUNK_VALUES // columns.size)
    firsts = range(0, len(points), step)
    parallel(lambda first: kernel(*arguments, first, min(len(points), first + step)), firsts)
