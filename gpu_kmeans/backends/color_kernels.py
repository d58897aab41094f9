"""Colours placed on the grid of a space on the CPU, compiled by numba: as `gpu_kmeans.color` says.

In float64, in loops that become vectors, so cube roots come from a guess by the bits of a number
and steps without a division. The last bits may differ from other libraries'; on the grid nothing
does: no 8-bit colour comes closer than 6 x 10^-9 steps to where it would be rounded the other way.
"""

from typing import no_type_check

import numpy as np
from numba import njit

_AT_ONCE = 512  # colours between two loops: in the first cache
_GUESS = np.int64(0x553EF0FF289DD796)  # less a third of a number's bits: those of its x^(-1/3)
_TINY = 1e-30  # for black, whose cube root is nothing on the grid


@njit(nogil=True, cache=True)
@no_type_check
def place_levels(colors, levels, offset, alpha_steps, rows, features):
    """Write the features of the colours rows[0]..rows[1], each channel by its level (256,)."""
    c = colors.shape[1]
    for i in range(rows[0], rows[1]):
        for j in range(3):
            features[i, j] = levels[np.uint64(colors[i, j])]
    if c > 3:  # noqa: PLR2004
        _fade(colors, offset, alpha_steps, rows[0], rows[1], features)


@njit(nogil=True, cache=True)
@no_type_check
def place_in_oklab(colors, linear, to_cones, to_oklab, offset, alpha_steps, rows, features):
    """Write the features of the colours rows[0]..rows[1].

    linear (256,) has each level's light; to_cones and to_oklab (3, 3), the latter in grid steps.
    """
    light, roots = np.empty((3, _AT_ONCE)), np.empty((3, _AT_ONCE))
    for first in range(rows[0], rows[1], _AT_ONCE):
        n = min(_AT_ONCE, rows[1] - first)
        for i in range(n):
            for j in range(3):
                light[j, i] = linear[np.uint64(colors[first + i, j])]
        for j in range(3):
            _find_roots(light, to_cones[j], n, roots[j])
        for j in range(3):
            a, b, c = to_oklab[j, 0], to_oklab[j, 1], to_oklab[j, 2]
            half = offset[j] + 0.5
            for i in range(n):
                value = a * roots[0, i] + b * roots[1, i] + c * roots[2, i]
                light[j, i] = np.floor(value + half)
        for i in range(n):
            features[first + i, 0] = light[0, i]
            features[first + i, 1] = light[1, i]
            features[first + i, 2] = light[2, i]
        if colors.shape[1] > 3:  # noqa: PLR2004
            _fade(colors, offset, alpha_steps, first, first + n, features)


@njit(nogil=True, cache=True)
@no_type_check
def _find_roots(light, weights, n, roots):
    """Write the cube roots of a weighed sum of three rows."""
    bits, a, b, c = roots.view(np.int64), weights[0], weights[1], weights[2]
    cones = np.empty(_AT_ONCE)
    for i in range(n):
        cones[i] = max(a * light[0, i] + b * light[1, i] + c * light[2, i], _TINY)
    upper = cones.view(np.int64)
    for i in range(n):
        # A third, rounded: the upper word times 2^32 / 3.
        third = ((upper[i] >> 32) & 0x7FFFFFFF) * np.int64(0x55555556)
        bits[i] = _GUESS - third
    for i in range(n):
        x, y = cones[i], roots[i]
        for _ in range(2):  # off by z, by about z^4 / 7 after a step: 0.1, 10^-5, 10^-21
            z = 1.0 - x * (y * y * y)
            y += y * z * (1 / 3 + z * (2 / 9 + z * (14 / 81)))
        roots[i] = x * (y * y)


@njit(nogil=True, cache=True)
@no_type_check
def _fade(colors, offset, alpha_steps, first, last, features):
    """Premultiply features towards the space's black, and write alpha."""
    for i in range(first, last):
        alpha = np.float64(colors[i, 3])
        for j in range(3):
            value = (np.float64(features[i, j]) - offset[j]) * alpha / 255
            features[i, j] = np.floor(value + 0.5) + offset[j]
        features[i, 3] = alpha * alpha_steps
