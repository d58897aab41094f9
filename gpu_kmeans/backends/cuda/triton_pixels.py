"""Counting and dithering pixels by Triton, where CUDA C++ does not compile or has no room."""

import torch
import triton
from torch import Tensor

from gpu_kmeans.backends import BLUR, DIFFUSION_ROWS, SHARE_BITS, fixed_point
from gpu_kmeans.backends.cuda import colors as kernels
from gpu_kmeans.backends.cuda.devices import as_int32, on
from gpu_kmeans.backends.cuda.walks import EXACT
from gpu_kmeans.backends.reference import ReferenceBackend

SORTED_PIXELS = 1 << 18  # up to so many, sorting codes beats clearing a table of 2^24 counts
MORTON_CODES = 1 << 24
PIXEL_BLOCK = 1024


def count(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count colours in a table of all Morton codes, or by sorting. Waits. Never raises."""
    n, c = pixels.shape
    if c != 3 or n <= SORTED_PIXELS:  # noqa: PLR2004
        return ReferenceBackend().histogram(pixels)
    pixels = pixels.contiguous()
    counts = torch.zeros(MORTON_CODES, dtype=torch.int32, device=pixels.device)
    inverse = torch.empty(n, dtype=torch.int32, device=pixels.device)
    grid = (triton.cdiv(n, PIXEL_BLOCK),)
    with on(pixels.device):
        kernels.count_colors[grid](pixels, n, counts, inverse, BLOCK=PIXEL_BLOCK)
    occurs = counts.nonzero()[:, 0]
    ranks = (counts > 0).cumsum(0, dtype=torch.int32)
    colors = torch.empty(len(occurs), 3, dtype=torch.uint8, device=pixels.device)
    with on(pixels.device):
        kernels.rank_pixels[grid](pixels, n, inverse, ranks, colors, BLOCK=PIXEL_BLOCK)
    return colors, counts[occurs].long(), inverse


def dither(
    colors: Tensor,
    inverse: Tensor,
    palette: Tensor,
    *,
    strength: float,
    own: Tensor,
    sweeps: int,
) -> Tensor:
    """Do as `gpu_kmeans.backends.Backend.dither`. Never raises."""
    (h, w), (k, d), device = inverse.shape, palette.shape, colors.device
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
        kernels.diffuse[(triton.cdiv(h, DIFFUSION_ROWS),)](
            *picture, low, high, fixed_point(strength), errors, indices, h, w, k, D=d,
            BITS=SHARE_BITS, ROWS=DIFFUSION_ROWS, BLOCK=block, num_warps=max(1, block // 64),
            **EXACT,
        )  # fmt: skip
    reach = len(BLUR) // 2
    share, blur = fixed_point(strength / BLUR[reach] ** 2), as_int32(BLUR, device)
    for turn in range(9 * sweeps):
        row, column = turn // 3 % 3, turn % 3
        left = len(range(row, h, 3)) * len(range(column, w, 3))
        if not left:
            continue
        with on(device):
            kernels.reconsider[(triton.cdiv(left, PIXEL_BLOCK // 4),)](
                *picture, blur, low, high, share, indices, row, column, h, w, k, D=d,
                BITS=SHARE_BITS, REACH=reach, BLOCK=PIXEL_BLOCK // 4, **EXACT,
            )  # fmt: skip
    return indices


def blurred_moments(
    colors: Tensor, inverse: Tensor, indices: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Do as `gpu_kmeans.backends.Backend.blurred_moments`. Never raises."""
    (h, w), d, device = inverse.shape, colors.shape[1], colors.device
    meetings = torch.zeros(k, k, dtype=torch.int64, device=device)
    sums = torch.zeros(k, d, dtype=torch.int64, device=device)
    with on(device):
        kernels.blurred_moments[(triton.cdiv(h * w, PIXEL_BLOCK),)](
            colors.contiguous(), inverse.to(torch.int32).contiguous(), indices.contiguous(),
            as_int32(BLUR, device), meetings, sums, h, w, k,
            D=d, REACH=len(BLUR) // 2, BLOCK=PIXEL_BLOCK,
        )  # fmt: skip
    return meetings, sums
