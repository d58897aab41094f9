"""How close a picture looks to its original, by four measures that see different things."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import flip_evaluator
import numpy as np
from PIL import Image
from scipy.interpolate import PchipInterpolator
from skimage.color import deltaE_ciede2000, rgb2lab
from ssimulacra2 import compute_ssimulacra2

from app.encoders import encode

EFFORT = 2  # oxipng level 2, for all
MEASURES = {  # name -> what it says, and whether more is better
    "ssimulacra2": ("SSIMULACRA2, 100 for the same, 70 good, 50 fair", True),
    "flip": ("FLIP, mean, at 67 pixels a degree, 0 for the same", False),
    "ciede_mean": ("CIEDE2000, mean over the pixels", False),
    "ciede_p95": ("CIEDE2000, 95th percentile", False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A picture and what comparing with it takes again and again."""

    pixels: np.ndarray
    lab: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Original":
        return cls(pixels=pixels, lab=rgb2lab(pixels))

    def measure(self, after: np.ndarray) -> dict[str, float]:
        """Return the bytes after the optimizer, and all measures."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in ("before.png", "after.png")]
            for path, pixels in zip(paths, (self.pixels, after), strict=True):
                Image.fromarray(pixels).save(path, compress_level=1)
            score = float(compute_ssimulacra2(*map(str, paths)))
        pair = [pixels.astype(np.float32) / 255 for pixels in (self.pixels, after)]
        off = deltaE_ciede2000(self.lab, rgb2lab(after))
        return {
            "bytes": size_of(after),
            "ssimulacra2": score,
            "flip": float(flip_evaluator.evaluate(*pair, "LDR", applyMagma=False)[1]),
            "ciede_mean": float(off.mean()),
            "ciede_p95": float(np.percentile(off, 95)),
        }


def size_of(pixels: np.ndarray) -> int:
    """Return the bytes of a palette PNG, its entries in the order that compresses best."""
    palette, inverse = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    return len(encode(inverse.reshape(pixels.shape[:2]).astype(np.uint8), palette, effort=EFFORT))


Curve = list[dict[str, float]]  # one measurement for each k


def bd_rate(curve: Curve, rival: Curve, measure: str = "ssimulacra2") -> float | None:
    """Return the mean difference in bytes at equal quality, in per cent; None without overlap."""
    sign = 1 if MEASURES[measure][1] else -1
    fits, reach = [], []
    for points in (curve, rival):
        rising: list[tuple[float, float]] = []
        for size, score in sorted((point["bytes"], sign * point[measure]) for point in points):
            if not rising or score > rising[-1][0] + 1e-6:
                rising.append((score, np.log(size)))
        if len(rising) < 2:
            return None
        scores, sizes = zip(*rising, strict=True)
        fits.append(PchipInterpolator(scores, sizes))
        reach.append((scores[0], scores[-1]))
    low, high = max(r[0] for r in reach), min(r[1] for r in reach)
    if high <= low:
        return None
    grid = np.linspace(low, high, 200)
    return float(100 * (np.exp((fits[0](grid) - fits[1](grid)).mean()) - 1))
