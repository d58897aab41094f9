"""Colour spaces, and the integer grid on which pictures are clustered.

A colour feature is a whole number from 0 to 2040, eight steps to each of 255 levels. On that grid
every squared distance is a whole number of at most 2040^2 x 4 = 16,646,400 < 2^24, exact in float32
whatever the order of operations, so labels, ties and sums are the same on every device.

Alpha: RGBA is clustered in four premultiplied dimensions, the fourth being alpha itself; in Oklab
with half the steps, since there colours are nearer to one another than in the cubes of light and of
levels, whose white lies the root of three from black.

References:
    IEC 61966-2-1:1999 (the sRGB transfer function).
    Ottosson, "A perceptual color space for image processing", 2020,
        https://bottosson.github.io/posts/oklab/ (the matrices below).
"""

import functools
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gpu_kmeans.errors import OptionError

__all__ = ["GRID", "SPACES", "check_space", "features_to_srgb", "srgb8_to_features"]

SPACES = ("rgb", "linear", "oklab")
STEPS = 8  # grid steps to a level: rounding centroids to them moves a converged WCSS by < 0.1 %
GRID = 255 * STEPS

_SRGB_TOE, _LINEAR_TOE = 0.04045, 0.0031308  # below, the transfer function is a line
# Linear sRGB -> cone responses, and their cube roots -> Oklab (Ottosson 2020).
_RGB_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_LMS_TO_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
_ALPHA_STEPS = {"rgb": STEPS, "linear": STEPS, "oklab": STEPS // 2}  # to a level of alpha
_AT_ONCE = 1 << 14  # colours to a piece of work on the CPU: 0.15 ms
_OFFSETS = {"oklab": (0.0, 0.5 * GRID, 0.5 * GRID)}  # a and b lie in about [-0.32, 0.28] for sRGB


def check_space(space: str) -> None:
    """Refuse a colour space that is not one of `SPACES`.

    Raises:
        OptionError: It is not.

    Example:
        >>> check_space("oklab")
    """
    if str(space) not in SPACES:  # an array answers "in" with an array
        raise OptionError("space", space, f"one of {', '.join(SPACES)}")


def srgb8_to_features(colors: UInt8[Tensor, "n c"], space: str) -> Float[Tensor, "n c"]:
    """Place 8-bit colours on the grid of a space.

    Domain: sRGB, 0..255, D65; with alpha, straight (not premultiplied).
    Range: whole numbers, 0..2040, float32.

    Args:
        colors: With 3 channels, or 4 where the last is alpha.
        space: One of `SPACES`.

    Returns:
        Features; with alpha the first three are premultiplied towards the space's black.

    Raises:
        OptionError: There is no such space.

    Example:
        >>> srgb8_to_features(torch.tensor([[255, 0, 1]], dtype=torch.uint8), "rgb")
        tensor([[2040.,    0.,    8.]])
    """
    check_space(space)
    if space == "rgb" and colors.shape[1] == 3:  # noqa: PLR2004 - no need to leave float32
        if colors.device.type == "cpu":  # numpy: torch's team of threads looks out for more work
            steps = np.float32(STEPS)
            return torch.from_numpy(np.multiply(colors.numpy(), steps, dtype=np.float32))
        return colors.to(torch.float32) * STEPS
    if colors.device.type == "cpu":
        return _compiled_features(colors, space)
    return _defined_features(colors, space)


def _defined_features(colors: Tensor, space: str) -> Tensor:
    """Say what features are, on any device; `_compiled_features` is the same on the CPU, faster."""
    features, offset = _opaque_features(colors[:, :3], space)
    if colors.shape[1] == 3:  # noqa: PLR2004
        return features.to(torch.float32)
    alpha = colors[:, 3:].to(torch.float64)
    premultiplied = ((features - offset) * alpha / 255).add(0.5).floor() + offset
    return torch.cat([premultiplied, alpha * _ALPHA_STEPS[space]], dim=1).to(torch.float32)


def _compiled_features(colors: Tensor, space: str) -> Tensor:
    from gpu_kmeans.backends import color_kernels
    from gpu_kmeans.backends.threads import parallel

    features = torch.empty(colors.shape, dtype=torch.float32)
    arrays, tables = (colors.contiguous().numpy(), features.numpy()), _compiled_tables(space)
    chunks = [(a, min(a + _AT_ONCE, len(colors))) for a in range(0, len(colors), _AT_ONCE)]
    place = color_kernels.place_in_oklab if space == "oklab" else color_kernels.place_levels
    parallel(lambda rows: place(arrays[0], *tables, rows, arrays[1]), chunks)
    return features


@functools.cache
def _compiled_tables(space: str) -> tuple[np.ndarray | float, ...]:
    """Return what the kernels of a space take between the colours and the rows."""
    device = torch.device("cpu")
    fading = _offset(space, device).numpy(), float(_ALPHA_STEPS[space])
    if space != "oklab":
        levels = torch.arange(256, dtype=torch.uint8)[:, None]
        return np.ascontiguousarray(_opaque_features(levels, space)[0][:, 0]), *fading
    to_oklab = np.array(_LMS_TO_OKLAB) * GRID
    return _srgb8_to_linear_table(device).numpy(), np.array(_RGB_TO_LMS), to_oklab, *fading


def features_to_srgb(features: Float[Tensor, "k c"], space: str) -> Float[Tensor, "k c"]:
    """Bring points of the grid back to sRGB, unrounded.

    Domain: 0..2040, any real numbers between.
    Range: sRGB, 0..255, float64; with alpha, straight.

    Args:
        features: As from `srgb8_to_features`, means of them included.
        space: The space they are in.

    Returns:
        Colours, clipped to the sRGB gamut.

    Raises:
        OptionError: There is no such space.

    Example:
        >>> features_to_srgb(torch.tensor([[2040.0, 0.0, 4.0]]), "rgb")
        tensor([[255.0000,   0.0000,   0.5000]], dtype=torch.float64)
    """
    check_space(space)
    values = features.to(torch.float64)
    if features.shape[1] == 3:  # noqa: PLR2004
        return _opaque_srgb(values, space)
    offset = _offset(space, values.device)
    alpha = values[:, 3:] / _ALPHA_STEPS[space]
    straight = (values[:, :3] - offset) * (255 / alpha.clamp(min=1e-9)) + offset
    return torch.cat([_opaque_srgb(straight, space) * (alpha > 0), alpha.clamp(0, 255)], dim=1)


def _opaque_features(colors: Tensor, space: str) -> tuple[Tensor, Tensor]:
    """Return grid values of opaque colours (float64) and the space's black."""
    offset = _offset(space, colors.device)
    if space == "rgb":
        return colors.to(torch.float64) * STEPS, offset
    linear = _srgb8_to_linear_table(colors.device)[colors.long()]
    values = linear if space == "linear" else linear_to_oklab(linear)
    return (values * GRID + offset).add(0.5).floor(), offset


def _opaque_srgb(features: Tensor, space: str) -> Tensor:
    if space == "rgb":
        return (features / STEPS).clamp(0, 255)
    values = (features - _offset(space, features.device)) / GRID
    return linear_to_srgb(values if space == "linear" else oklab_to_linear(values)) * 255


def _offset(space: str, device: torch.device) -> Tensor:
    return _constant(_OFFSETS.get(space, (0.0, 0.0, 0.0)), torch.float64, device)


def srgb_to_linear(srgb: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    """Undo the sRGB transfer function.

    Domain: sRGB, [0, 1], D65. Range: linear light, [0, 1]. Never raises.

    Example:
        >>> srgb_to_linear(torch.tensor([[0.0, 0.5, 1.0]]))
        tensor([[0.0000, 0.2140, 1.0000]])
    """
    power: Tensor = ((srgb + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= _SRGB_TOE, srgb / 12.92, power)


def linear_to_srgb(linear: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Apply the sRGB transfer function, clipping to the gamut first.

    Domain: linear light, any. Range: sRGB, [0, 1], D65. Never raises.

    Example:
        >>> linear_to_srgb(torch.tensor([[0.0, 0.2140, 2.0]]))
        tensor([[0.0000, 0.5000, 1.0000]])
    """
    clipped = linear.clamp(0, 1)
    power = 1.055 * clipped.clamp(min=_LINEAR_TOE) ** (1 / 2.4) - 0.055
    return torch.where(clipped <= _LINEAR_TOE, clipped * 12.92, power)


def linear_to_oklab(linear: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Convert linear sRGB to Oklab.

    Domain: linear light, [0, 1], D65. Range: L in [0, 1]; a, b in about [-0.4, 0.4]. Never raises.

    Example:
        >>> linear_to_oklab(torch.ones(1, 3, dtype=torch.float64))[0, 0].item()
        1.000
    """
    cones = linear @ _constant(_RGB_TO_LMS, linear.dtype, linear.device).T
    return cones.clamp(min=0) ** (1 / 3) @ _constant(_LMS_TO_OKLAB, linear.dtype, linear.device).T


def oklab_to_linear(oklab: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Convert Oklab to linear sRGB, which may lie outside [0, 1].

    Domain: L in [0, 1]; a, b in about [-0.4, 0.4]. Range: linear light, D65. Never raises.

    Example:
        >>> oklab_to_linear(torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)).round(decimals=3)
        tensor([[1.0000, 1.0000, 1.0000]], dtype=torch.float64)
    """
    cones: Tensor = (oklab @ _inverse(_LMS_TO_OKLAB, oklab.dtype, oklab.device).T) ** 3
    linear: Tensor = cones @ _inverse(_RGB_TO_LMS, oklab.dtype, oklab.device).T
    return linear


@functools.cache
def _constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return _stays(torch.tensor(values, dtype=dtype, device=device))


@functools.cache
def _inverse(rows: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return _stays(torch.linalg.inv(_constant(rows, dtype, device)))


@functools.cache
def _srgb8_to_linear_table(device: torch.device) -> Tensor:
    levels = torch.arange(256, dtype=torch.float64) / 255  # on the CPU: the same bits everywhere
    return _stays(srgb_to_linear(levels.reshape(-1, 1))[:, 0].to(device))


def _stays(table: Tensor) -> Tensor:
    """Wait until a table is there, where it is kept for threads on other streams too."""
    if table.device.type == "cuda":
        torch.cuda.current_stream(table.device).synchronize()
    return table
