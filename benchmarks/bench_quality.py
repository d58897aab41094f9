"""How well `quality` stands for SSIMULACRA2 on pictures in k colours, and what it costs.

Rank correlation (Spearman) and mean absolute difference over pictures, k, spaces and dithering; of
PSNR too. Pictures that SSIMULACRA2 gives 10 or less, where its scale ends, are left out.

    python -m benchmarks.bench_quality [--images FOLDER] [--quick]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import spearmanr
from ssimulacra2 import compute_ssimulacra2

from benchmarks import pictures
from gpu_kmeans import quantize
from gpu_kmeans.quality import picture_quality

KS = (8, 20, 64, 200)
WAYS = (("rgb", 0.0), ("oklab", 0.0), ("oklab", 0.75))
CUT = (384, 512)
LOWEST = 10.0


def ssimulacra2(before: np.ndarray, after: np.ndarray) -> float:
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("before.png", "after.png")]
        for path, pixels in zip(paths, (before, after), strict=True):
            Image.fromarray(pixels).save(path, compress_level=1)
        return float(compute_ssimulacra2(*paths))


def middle(pixels: np.ndarray) -> np.ndarray:
    y, x = (max(0, (side - most) // 2) for side, most in zip(pixels.shape, CUT, strict=False))
    return np.ascontiguousarray(pixels[y : y + CUT[0], x : x + CUT[1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder; else what is installed")
    parser.add_argument("--quick", action="store_true", help="two k")
    given = parser.parse_args()
    paths = pictures.in_folder(given.images) if given.images else pictures.shipped()
    rows, seconds = [], 0.0
    for path in paths.values():
        pixels = middle(pictures.read(path))
        for k in KS[1:3] if given.quick else KS:
            for space, dither in WAYS:
                image = quantize(pixels, k, space=space, dither=dither)
                after = image.to_pixels()
                started_at = time.perf_counter()
                ours = picture_quality(pixels, after)
                seconds += time.perf_counter() - started_at
                rows.append((ssimulacra2(pixels, after), ours, image.psnr_db or 100.0))
    theirs, ours, psnr = (np.array(column) for column in zip(*rows, strict=True))
    kept = theirs > LOWEST
    print(f"{len(rows)} pictures, {kept.sum()} above {LOWEST:g}")
    print(f"rank correlation: quality {spearmanr(theirs[kept], ours[kept])[0]:.4f},", end=" ")
    print(f"PSNR {spearmanr(theirs[kept], psnr[kept])[0]:.4f}")
    print(f"mean absolute difference {np.abs(theirs - ours)[kept].mean():.2f}")
    print(f"{1e3 * seconds / len(rows):.1f} ms each, colours counted anew")


if __name__ == "__main__":
    main()
