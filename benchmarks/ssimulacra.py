"""SSIMULACRA2, compiled: the values of the package `ssimulacra2` to eight digits, but sooner.

What depends on the original alone is computed once for all the pictures that are compared with it.
Constants, weights and how the parts become one score are the package's (BSD 3-Clause, Pacidus).
"""

from typing import no_type_check

import numpy as np
from numba import njit
from ssimulacra2 import ssimulacra2 as package

SCALES, SMALLEST = package.kNumScales, 8
REACH = 5
GAUSSIAN = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / 1.5) ** 2)
GAUSSIAN /= GAUSSIAN.sum()
LINEAR = package.srgb_to_linear(np.arange(256.0))
MATRIX = np.array(package.kOpsinAbsorbanceMatrix).reshape(3, 3)
BIAS = package.kB0


class Scorer:
    """Scores pictures against one original."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._scales = []
        linear = LINEAR[pixels]
        while len(self._scales) < SCALES and min(linear.shape[:2]) >= SMALLEST:
            planes = _xyb(linear, MATRIX, BIAS)
            means = [_blur(plane, GAUSSIAN) for plane in planes]
            squares = [_blur(plane * plane, GAUSSIAN) for plane in planes]
            self._scales.append((planes, means, squares))
            linear = package.downsample(linear, 2, 2)

    def score(self, pixels: np.ndarray) -> float:
        """Return 100 for the same picture, 90 for one that is not told apart, less for others."""
        linear, parts = LINEAR[pixels], package.Msssim()
        for planes, means, squares in self._scales:
            ours, scale = _xyb(linear, MATRIX, BIAS), package.MsssimScale()
            for c in range(3):
                found = _compare(planes[c], ours[c], means[c], squares[c], GAUSSIAN)
                scale.avg_ssim[2 * c : 2 * c + 2] = found[:2]
                scale.avg_edgediff[4 * c : 4 * c + 4] = found[2:]
            parts.scales.append(scale)
            linear = package.downsample(linear, 2, 2)
        return float(parts.score())


@njit(cache=True, nogil=True)
@no_type_check
def _xyb(linear, matrix, bias):
    """Return the planes X, Y and B - Y, made positive, (3, w, h): transposed as the package has."""
    h, w, _ = linear.shape
    planes, cones, root = np.empty((3, w, h)), np.empty(3), np.cbrt(bias)
    for y in range(h):
        for x in range(w):
            for j in range(3):
                mixed = bias
                for c in range(3):
                    mixed += matrix[j, c] * linear[y, x, c]
                cones[j] = np.cbrt(max(0.0, mixed)) - root
            lightness = 0.5 * (cones[0] + cones[1])
            planes[0, x, y] = 0.5 * (cones[0] - cones[1]) * 14 + 0.42
            planes[1, x, y] = lightness + 0.01
            planes[2, x, y] = cones[2] - lightness + 0.55
    return planes


@njit(cache=True, nogil=True, fastmath=True)
@no_type_check
def _blur(plane, weights):
    """Blur; beyond the first and last row there is nothing, beyond the columns what is mirrored."""
    h, w = plane.shape
    down, across, row = np.zeros((h, w)), np.zeros((h, w)), np.empty(w + 10)
    for y in range(h):
        for j in range(max(-5, -y), min(6, h - y)):
            for x in range(w):
                down[y, x] += weights[j + 5] * plane[y + j, x]
    for y in range(h):
        row[5 : w + 5] = down[y]
        for i in range(5):
            row[4 - i], row[w + 5 + i] = down[y, min(i, w - 1)], down[y, max(0, w - 1 - i)]
        for j in range(11):
            for x in range(w):
                across[y, x] += weights[j] * row[x + j]
    return across


@njit(cache=True, nogil=True, fastmath=True)
@no_type_check
def _compare(before, after, means, squares, weights):
    """Return means and fourth norms of structure lost, of edges made up and of edges lost."""
    h, w = before.shape
    ours, own, both = (
        _blur(after, weights),
        _blur(after * after, weights),
        _blur(before * after, weights),
    )
    sums = np.zeros(6)
    for y in range(h):
        for x in range(w):
            m1, m2 = means[y, x], ours[y, x]
            spread = (squares[y, x] - m1 * m1) + (own[y, x] - m2 * m2) + 0.0009
            alike = 2 * (both[y, x] - m1 * m2) + 0.0009
            lost = max(0.0, 1 - (1 - (m1 - m2) ** 2) * alike / spread)
            sums[0] += lost
            sums[1] += lost**4
            edge = (1 + abs(after[y, x] - m2)) / (1 + abs(before[y, x] - m1)) - 1
            sums[2 if edge > 0 else 4] += abs(edge)
            sums[3 if edge > 0 else 5] += edge**4
    sums /= h * w
    for i in (1, 3, 5):
        sums[i] = sums[i] ** 0.25
    return sums
