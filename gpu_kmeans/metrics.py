"""How far a picture is from another, in the units that the colour quantization literature uses."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from gpu_kmeans.checks import check_pixels
from gpu_kmeans.errors import ShapeError

__all__ = ["check_pair", "picture_wcss", "psnr_db"]

_CHUNK_ROWS = 1 << 20  # pixels at once: 16 bytes each on the way
_COLORS = 3  # channels without alpha


def picture_wcss(
    before: UInt8[Tensor, "h w c"] | UInt8[np.ndarray, "h w c"],
    after: UInt8[Tensor, "h w c"] | UInt8[np.ndarray, "h w c"],
) -> float:
    """Add up the squared differences of two pictures over channels and pixels.

    Args:
        before: 8-bit sRGB, with 3 channels, or 4 where the last is straight alpha.
        after: Likewise, of the same shape.

    Returns:
        The sum, in squared levels of 0..255; with alpha, over the four premultiplied channels.

    Raises:
        ShapeError: They are no such pictures, or their shapes differ.

    Example:
        >>> picture_wcss(np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 2, np.uint8))
        12.0
    """
    one, two = (pixels.reshape(-1, pixels.shape[2]) for pixels in check_pair(before, after))
    chunks = zip(one.split(_CHUNK_ROWS), two.split(_CHUNK_ROWS), strict=True)
    total = sum(int(((premultiplied(a) - premultiplied(b)) ** 2).sum()) for a, b in chunks)
    return in_levels(total, one.shape[1])


def check_pair(before: object, after: object) -> tuple[Tensor, Tensor]:
    """Take two pictures of one shape as tensors.

    Raises:
        ShapeError: They are no pictures, see `gpu_kmeans.checks.check_pixels`, or differ in shape.

    Example:
        >>> dot = np.zeros((1, 1, 3), np.uint8)
        >>> [pixels.shape for pixels in check_pair(dot, dot)]
        [torch.Size([1, 1, 3]), torch.Size([1, 1, 3])]
    """
    one, two = check_pixels(before), check_pixels(after)
    if one.shape != two.shape:
        got = f"{tuple(one.shape)} and {tuple(two.shape)}"
        raise ShapeError(f"pictures of one shape are wanted, got {got}")
    return one, two


def in_levels(total: int, channels: int) -> float:
    """Give a sum of squared differences of `premultiplied` colours in squared levels of 0..255.

    Args:
        total: The sum.
        channels: 3, or 4 with alpha, whose colours are 255 times as large.

    Example:
        >>> in_levels(65025, 4)
        1.0
    """
    return total / (255**2 if channels > _COLORS else 1)


def premultiplied(colors: UInt8[Tensor, "n c"]) -> Tensor:
    """Return whole numbers (n, c): the levels, or with alpha, level x alpha and 255 x alpha.

    Never raises.

    Example:
        >>> premultiplied(torch.tensor([[1, 2, 3, 255]], dtype=torch.uint8))
        tensor([[  255,   510,   765, 65025]])
    """
    if colors.shape[1] == _COLORS:
        return colors.to(torch.int32)
    values = colors.long()
    return torch.cat([values[:, :3], torch.full_like(values[:, 3:], 255)], dim=1) * values[:, 3:]


def psnr_db(wcss: float, shape: Sequence[int]) -> float | None:
    """Express a WCSS as a peak signal-to-noise ratio.

    Args:
        wcss: As from `picture_wcss`.
        shape: Of the picture, (h, w, channels).

    Returns:
        10 log10(channels x 255^2 x pixels / WCSS), in dB; None where the WCSS is 0.

    Never raises.

    Example:
        >>> psnr_db(3.0 * 255**2, (1, 1, 3))
        0.0
    """
    if wcss <= 0:
        return None
    return 10 * math.log10(math.prod(shape) * 255**2 / wcss)
