"""How close a picture looks to its original, by measures that see different things."""

from dataclasses import dataclass

import flip_evaluator
import numpy as np
from scipy.interpolate import PchipInterpolator
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.measure import label

from app.encoders import encode
from benchmarks.ssimulacra import Scorer

EFFORT = 2  # for all: palette order and filter chosen, docs/decisions/0009-encoders.md
SMALLEST_AREA = 0.001  # of the picture: what is smaller is no area that means something
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
    scorer: Scorer
    areas: np.ndarray  # (h, w) number of each pixel's connected area of one colour

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Original":
        r, g, b = np.moveaxis(pixels.astype(np.int32), -1, 0)
        areas = label((r << 16 | g << 8 | b) + 1, connectivity=1, background=0)
        return cls(pixels=pixels, lab=rgb2lab(pixels), scorer=Scorer(pixels), areas=areas)

    def measure(self, after: np.ndarray) -> dict[str, float | None]:
        """Return the bytes after the optimizer, and all measures."""
        pair = [pixels.astype(np.float32) / 255 for pixels in (self.pixels, after)]
        off = deltaE_ciede2000(self.lab, rgb2lab(after))
        return {
            "bytes": size_of(after),
            "ssimulacra2": self.scorer.score(after),
            "flip": float(flip_evaluator.evaluate(*pair, "LDR", applyMagma=False)[1]),
            "ciede_mean": float(off.mean()),
            "ciede_p95": float(np.percentile(off, 95)),
            "ciede_area": self.worst_area(off),
        }

    def worst_area(self, off: np.ndarray) -> float | None:
        """Return the largest mean CIEDE2000 over one area; None where no area is large enough.

        An area: pixels of just one colour, each beside or below another, more than 0.1 % of all.
        """
        sizes = np.bincount(self.areas.ravel())
        sums = np.bincount(self.areas.ravel(), off.ravel())
        large = sizes > SMALLEST_AREA * off.size
        return float((sums[large] / sizes[large]).max()) if large.any() else None


def size_of(pixels: np.ndarray) -> int:
    """Return the bytes of a palette PNG through the optimizer, its entries by luma."""
    r, g, b = np.moveaxis(pixels.astype(np.int32), -1, 0)
    luma = 299 * r + 587 * g + 114 * b
    codes, inverse = np.unique(
        luma.astype(np.int64) << 24 | r << 16 | g << 8 | b, return_inverse=True
    )
    palette = np.stack([codes >> 16 & 255, codes >> 8 & 255, codes & 255], axis=1)
    indices = inverse.reshape(pixels.shape[:2]).astype(np.uint8)
    return len(encode(indices, palette.astype(np.uint8), effort=EFFORT))


Curve = list[dict[str, float | None]]  # one measurement for each k


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
