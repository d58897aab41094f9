"""How much a picture in few colours looks like its original: a score from 0 to 100.

Structural similarity in Oklab, in windows of 8 x 8 pixels every four, of the picture and of its
half. Three kinds of loss are seen in each window: structure of lightness, structure of colour, and
a shift of the mean colour. The fourth power weighs the worst windows most, as an eye does. The
weights are fitted (non-negative least squares) to SSIMULACRA2, whose scale this is: 90 and more
cannot be told from the original at arm's length, 70 is high quality, 50 medium, 30 low.
docs/compression.md says how well it agrees.

Window sums are of whole numbers, the powers are rounded to a fixed step before they are added, and
everything between is a single IEEE operation, so the score is the same on every device.

References:
    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
        similarity", IEEE Trans. Image Process. 13(4), 2004. Differs: no luminance term, as
        windows far from black are not to forgive more.
    Sneyers, SSIMULACRA 2 (the scale, and the norm of the fourth power).
"""

import math
import operator

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from gpu_kmeans.backends import Backend, backend_for
from gpu_kmeans.color import GRID, srgb8_to_features
from gpu_kmeans.metrics import check_pair

__all__ = ["picture_quality", "score"]

BLOCK = 4  # pixels; a window is two by two of these, so windows overlap by half
SMALL = 400.0  # variance, in squared steps of the grid, below which structure counts less and less
HALF = 4  # pixels that one of the half picture is the sum of
WEIGHTS = (0, 40, 350, 140, 0, 900)  # of structure, colour, shift; then of the half picture
_ROWS = 64  # compared at once
STEP = 2.0**-36  # to which powers are rounded: the sum over 2^22 of the worst fits into 63 bits


def picture_quality(
    before: UInt8[Tensor, "_h _w _c"] | UInt8[np.ndarray, "_h _w _c"],
    after: UInt8[Tensor, "_h _w _c"] | UInt8[np.ndarray, "_h _w _c"],
) -> float:
    """Score how much a picture looks like another.

    Args:
        before: 8-bit sRGB, with 3 channels, or 4 where the last is straight alpha.
        after: Likewise, of the same shape.

    Returns:
        100 for the same picture, and for no other; 0 for one past recognition. With alpha, the
        lower of the scores on black and on white.

    Raises:
        ShapeError: They are no such pictures, or their shapes differ.

    Example:
        >>> picture_quality(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8))
        100.0
    """
    (features, inverse), (entries, indices) = map(_counted, check_pair(before, after))
    return score(backend_for(features.device), features, inverse, entries, indices)


def score(
    engine: Backend,
    features: Float[Tensor, "n c"],
    inverse: Int[Tensor, "h w"],
    entries: Float[Tensor, "m c"],
    indices: Integer[Tensor, "h w"],
) -> float:
    """Score a mapped picture; see `picture_quality`.

    Args:
        engine: Who computes.
        features: Its colours before, on the grid of Oklab; with alpha, premultiplied.
        inverse: Each pixel's row of them.
        entries: Colours after, likewise.
        indices: Each pixel's row of those.

    Returns:
        The score. Never raises.
    """
    sides = [(features, entries)]
    if features.shape[1] == 4:  # noqa: PLR2004
        sides = [(features[:, :3], entries[:, :3]), (_on_white(features), _on_white(entries))]
    lost = 0.0
    for before, after in sides:
        whole, half = engine.block_moments(before, inverse, after, indices, BLOCK)
        differences = [*_differences(whole, 1), *_differences(half, HALF)]
        lost = max(lost, math.fsum(map(operator.mul, WEIGHTS, differences)))
    if not lost and not _is_same(features, inverse, entries, indices):
        return math.nextafter(100.0, 0.0)  # less is lost than powers are rounded to
    return max(0.0, 100.0 - lost)


def _is_same(features: Tensor, inverse: Tensor, entries: Tensor, indices: Tensor) -> bool:
    """Compare every pixel, some rows at a time, so that little memory is taken."""
    rows = zip(inverse.split(_ROWS), indices.split(_ROWS), strict=True)
    return all(bool((features[a.long()] == entries[b.long()]).all()) for a, b in rows)


def _counted(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct colours of a picture, on the grid, and each pixel's place among them."""
    channels = range(pixels.shape[2])
    levels = pixels.long()
    codes = torch.stack([levels[..., j] << 8 * j for j in channels]).sum(0)
    distinct, places = torch.unique(codes, return_inverse=True)
    colors = torch.stack([distinct >> 8 * j & 255 for j in channels], dim=1)
    return srgb8_to_features(colors.to(torch.uint8), "oklab"), places


def _on_white(features: Tensor) -> Tensor:
    white = features[:, :3].clone()
    white[:, 0] += GRID - features[:, 3]
    return white


def _differences(moments: Tensor, pixels: int) -> tuple[float, float, float]:
    """Say how much windows differ in structure of lightness, of colour, and in mean colour."""
    pairs = moments[:, :-1] + moments[:, 1:]
    sums = (pairs[..., :-1] + pairs[..., 1:]).double() / (pixels * (2 * BLOCK) ** 2)
    x, y, light, color = sums.split(3)
    light, color = light / pixels, color / pixels
    shift = (x - y) / GRID
    return (
        _norm(_structure_lost(light, x[:1], y[:1])),
        _norm(_structure_lost(color, x[1:], y[1:])),
        _norm((shift[0] * shift[0] + shift[1] * shift[1] + shift[2] * shift[2]).sqrt()),
    )


def _structure_lost(products: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return 1 - SSIM's structure term of each window, from 0 to 2."""
    spread = products[0] - (x * x).sum(0) + products[1] - (y * y).sum(0)
    shared = products[2] - (x * y).sum(0)
    return (1 - (2 * shared + SMALL) / (spread + SMALL)).clamp(min=0)


def _norm(values: Tensor) -> float:
    """Return the fourth root of the mean fourth power."""
    squares = values * values
    powers = (squares * squares / STEP).round().long()
    mean = int(powers.sum()) * STEP / powers.numel()
    return math.sqrt(math.sqrt(mean))
