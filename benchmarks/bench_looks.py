"""How a picture in k colours looks, and how many bytes it takes: ours beside others'.

Every method gives a palette picture, all go through the same optimizer (oxipng level 2), and
SSIMULACRA2 says how close it looks to the original (100: the same; 70: good; 50: fair). A method's
curve is score against bytes over k. BD-rate is how many per cent more bytes (less than 0: fewer) it
takes than pngquant's better mode for the same score, on average over the scores both reach.

    python -m benchmarks.bench_looks [--images FOLDER] [--ks 16,64,256] [--quick]
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.interpolate import PchipInterpolator
from sklearn.cluster import KMeans
from ssimulacra2 import compute_ssimulacra2

from app.encoders import encode
from benchmarks import machine, pictures, report
from benchmarks.report import figure, table
from gpu_kmeans import quantize

KS = (4, 8, 16, 32, 64, 128, 256)
QUICK_KS = (16, 64)
EFFORT = 2  # oxipng level 2, for all
RIVALS = ("pngquant, dithered", "pngquant, plain")
Method = Callable[[np.ndarray, Path, int], np.ndarray]


def ours(space: str, dither: float) -> Method:
    return lambda pixels, _path, k: quantize(pixels, k, space=space, dither=dither).to_pixels()


def pngquant(*flags: str) -> Method:
    def run(_pixels: np.ndarray, path: Path, k: int) -> np.ndarray:
        program = Path(sys.executable).with_name("pngquant")  # of the package pngquant-cli
        command = [program, "--speed", "1", *flags, str(max(2, k)), "-"]
        with Image.open(path) as image:
            png = io.BytesIO()
            image.convert("RGB").save(png, "PNG", compress_level=1)
        done = subprocess.run(command, input=png.getvalue(), capture_output=True, check=True)  # noqa: S603 - a rival's program
        with Image.open(io.BytesIO(done.stdout)) as image:
            return np.asarray(image.convert("RGB"))

    return run


def pillow(pixels: np.ndarray, _path: Path, k: int) -> np.ndarray:
    image = Image.fromarray(pixels)
    palette = image.quantize(k)
    return np.asarray(image.quantize(k, palette=palette).convert("RGB"))


def textbook(pixels: np.ndarray, _path: Path, k: int) -> np.ndarray:
    colors, inverse, counts = np.unique(
        pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    fit = KMeans(k, n_init=1, max_iter=20, random_state=0)
    labels = fit.fit_predict(colors.astype(float), sample_weight=counts)
    palette = fit.cluster_centers_.round().astype(np.uint8)
    return palette[labels[inverse.ravel()]].reshape(pixels.shape)


METHODS: dict[str, Method] = {
    "ours, rgb, plain": ours("rgb", 0),
    "ours, oklab, plain": ours("oklab", 0),
    "ours, oklab, dither 0.5": ours("oklab", 0.5),
    "ours, oklab, dither 0.75": ours("oklab", 0.75),
    "pngquant, dithered": pngquant(),
    "pngquant, plain": pngquant("--nofs"),
    "Pillow, dithered": pillow,
    "textbook k-means": textbook,
}


def measure(before: np.ndarray, after: np.ndarray) -> tuple[int, float]:
    """Return the bytes after the optimizer, and SSIMULACRA2."""
    palette, inverse = np.unique(after.reshape(-1, 3), axis=0, return_inverse=True)
    indices = inverse.reshape(after.shape[:2]).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("before.png", "after.png")]
        for path, pixels in zip(paths, (before, after), strict=True):
            Image.fromarray(pixels).save(path, compress_level=1)
        score = float(compute_ssimulacra2(*map(str, paths)))
    return len(encode(indices, palette, effort=EFFORT)), score


def bd_rate(curve: list[tuple[int, float]], rival: list[tuple[int, float]]) -> float | None:
    """Return the mean difference in bytes at equal score, in per cent; None without overlap."""
    fits, reach = [], []
    for points in (curve, rival):
        rising: list[tuple[float, float]] = []
        for size, score in sorted(points):
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


def draw(curves: dict[str, dict[str, list[tuple[int, float]]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure_, axes = plt.subplots(rows, columns, figsize=(6 * columns, 4.5 * rows), squeeze=False)
    for axis, (name, by_method) in zip(axes.flat, curves.items(), strict=False):
        for label, points in by_method.items():
            sizes, scores = zip(*points, strict=True)
            is_ours = label.startswith("ours")
            axis.plot(np.array(sizes) / 1000, scores, "o-" if is_ours else "x--", label=label)
        axis.set(title=name, xlabel="kB", ylabel="SSIMULACRA2")
    axes.flat[0].legend(fontsize=7)
    figure_.tight_layout()
    figure_.savefig(path)
    plt.close(figure_)


def main() -> None:
    parser = report.parser(__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder instead of the packaged pictures")
    parser.add_argument("--only", help="names of pictures, separated by commas")
    parser.add_argument("--ks", help="numbers of colours, separated by commas")
    given = parser.parse_args()
    ks = QUICK_KS if given.quick else KS
    ks = tuple(map(int, given.ks.split(","))) if given.ks else ks
    paths = pictures.in_folder(given.images) if given.images else pictures.shipped()
    if given.only:
        paths = {name: paths[name] for name in given.only.split(",")}
    said = report.Report(
        "Looks against bytes",
        machine.describe(["pyoxipng", "pngquant-cli", "ssimulacra2", "pillow", "scikit-learn"]),
    )
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, path in paths.items():
        pixels = pictures.read(path)
        curves[name] = {}
        for label, method in METHODS.items():
            curves[name][label] = [measure(pixels, method(pixels, path, k)) for k in ks]
        rows = [
            [label, *(f"{size / 1000:.1f} kB {score:.1f}" for size, score in points)]
            for label, points in curves[name].items()
        ]
        said.say(f"\n## {name}\n\n{table(['', *(f'k = {k}' for k in ks)], rows)}")
    said.say(f"\n## Mean score\n\n{table(['', *(f'k = {k}' for k in ks)], mean_scores(curves))}")
    said.say(f"\n## BD-rate, per cent of bytes\n\n{table(['', *METHODS], rates(curves))}")
    said.data |= {"ks": ks, "curves": curves}
    path = said.write(given.out, "looks")
    draw(curves, path.with_suffix(".svg"))


def mean_scores(curves: dict[str, dict[str, list[tuple[int, float]]]]) -> list[list[str]]:
    scores = {
        label: np.mean([[score for _, score in by[label]] for by in curves.values()], axis=0)
        for label in METHODS
    }
    return [[label, *(f"{score:.1f}" for score in row)] for label, row in scores.items()]


def rates(curves: dict[str, dict[str, list[tuple[int, float]]]]) -> list[list[str]]:
    """Compare each method with the better of pngquant's two modes, picture by picture."""
    rows = []
    for name, by_method in curves.items():
        modes = [by_method[rival] for rival in RIVALS]
        first = bd_rate(modes[0], modes[1])
        better = modes[0] if first is not None and first < 0 else modes[1]
        rows.append([name, *(figure(bd_rate(by_method[label], better)) for label in METHODS)])
    return rows


if __name__ == "__main__":
    main()
