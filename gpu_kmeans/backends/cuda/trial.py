"""Whether the kernels run on a device: tried once, before anything depends on them."""

import subprocess

import torch
import triton
from triton.errors import TritonError

from gpu_kmeans.backends.cuda.backend import CudaBackend
from gpu_kmeans.backends.reference import ReferenceBackend

# What compiling and launching raises: Triton itself, the C compiler it calls, the driver.
FAILURES = (TritonError, RuntimeError, OSError, subprocess.SubprocessError)


def why_not(device: torch.device) -> str | None:
    """Say what keeps the kernels from running on a device; None where they gave a right answer.

    Never raises.
    """
    is_interpreted = bool(triton.knobs.runtime.interpret)
    if device.type != "cuda" and not (device.type == "cpu" and is_interpreted):
        return "it takes tensors on CUDA"
    try:
        return None if _is_right(device) else "its answer to a trial is wrong"
    except torch.OutOfMemoryError:
        return None  # that says nothing about the kernels; who asks for more memory will hear it
    except FAILURES as error:
        first = str(error).strip().split("\n")[0]
        return f"{type(error).__name__}: {first}"


def _is_right(device: torch.device) -> bool:
    """Compare small passes with the reference's: of a picture, and one that is Triton's."""
    points = torch.tensor([[0.0, 8.0, 16.0], [2040.0, 0.0, 8.0], [8.0, 8.0, 8.0]], device=device)
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, device=device)
    return all(
        _agree(points[:, :d].contiguous(), weights, is_integral=is_integral)
        for d, is_integral in ((3, True), (2, False))
    )


def _agree(points: torch.Tensor, weights: torch.Tensor, *, is_integral: bool) -> bool:
    ours, theirs = (
        on.assign_accumulate(
            on.pack([points], [weights], is_integral=is_integral), points[:2], (0, 2), labels=True
        )
        for on in (CudaBackend(), ReferenceBackend())
    )
    return torch.equal(ours.sums, theirs.sums) and torch.equal(ours.labels, theirs.labels)
