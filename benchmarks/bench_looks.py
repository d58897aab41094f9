"""How a picture in k colours looks, and how many bytes it takes: ours beside others'.

Every method gives a palette picture, all go through the same optimizer (oxipng level 2), and four
measures say how close it looks to the original (benchmarks/looks.py). A method's curve is quality
against bytes over k. BD-rate is how many per cent more bytes (less than 0: fewer) it takes than
pngquant's better mode for the same quality, on average over what both reach.

    python -m benchmarks.bench_looks [--images FOLDER] [--ks 16,64,256] [--quick]
"""

import argparse
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.cluster import KMeans

from app.options import CompressOptions
from app.preferences import preferred
from benchmarks import machine, pictures, report
from benchmarks.looks import MEASURES, Curve, Original, bd_rate
from benchmarks.report import figure, table
from gpu_kmeans import quantize

KS = (4, 8, 16, 32, 64, 128, 256)
QUICK_KS = (16, 64)
RIVALS = ("pngquant, dithered", "pngquant, plain")
DEBIANS = Path("/usr/bin/pngquant")
PACKAGED = Path(sys.executable).with_name("pngquant")  # of the package pngquant-cli
Method = Callable[[np.ndarray, Path, int], np.ndarray]
Curves = dict[str, dict[str, Curve]]  # of each picture, of each method


def ours(**options: object) -> Method:
    return lambda pixels, _path, k: quantize(pixels, k, **options).to_pixels()


def preferring(prefer: str) -> Method:
    return ours(**preferred(CompressOptions(prefer=prefer)))


def program() -> tuple[Path, str]:
    """Return pngquant, Debian's where it is installed, and its version."""
    path = DEBIANS if DEBIANS.exists() else PACKAGED
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 - a rival's program
    return path, said.stdout.split()[0]


def pngquant(*flags: str) -> Method:
    def run(_pixels: np.ndarray, path: Path, k: int) -> np.ndarray:
        command = [program()[0], "--speed", "1", *flags, str(max(2, k)), "-"]
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
    "ours, prefer=looks": preferring("looks"),
    "ours, prefer=bytes": preferring("bytes"),
    "ours, exact": ours(),
    "pngquant, dithered": pngquant(),
    "pngquant, plain": pngquant("--nofs"),
    "Pillow, dithered": pillow,
    "textbook k-means": textbook,
}


def main() -> None:
    given = arguments()
    ks = tuple(map(int, given.ks.split(","))) if given.ks else QUICK_KS if given.quick else KS
    paths = pictures.in_folder(given.images) if given.images else pictures.shipped()
    if given.only:
        paths = {name: paths[name] for name in given.only.split(",")}
    methods = {name: METHODS[name] for name in METHODS if not given.quick or "k-means" not in name}
    names = ["pyoxipng", "ssimulacra2", "flip-evaluator", "pillow", "scikit-learn"]
    facts = machine.describe(names) | {"pngquant": program()[1]}
    said = report.Report("Looks against bytes", facts)
    curves: Curves = {}
    for i, (name, path) in enumerate(paths.items(), start=1):
        pixels = pictures.read(path)
        original = Original.of(pixels)
        curves[name] = {
            label: [original.measure(method(pixels, path, k)) for k in ks]
            for label, method in methods.items()
        }
        print(f"{i} of {len(paths)}: {name}", file=sys.stderr, flush=True)
    head = ["", *(f"k = {k}" for k in ks)]
    said.say(f"Means over {len(paths)} pictures: {', '.join(paths)}.")
    for measure in ("bytes", *MEASURES):
        meaning = MEASURES[measure][0] if measure in MEASURES else "Bytes, in kB"
        said.say(f"\n## {meaning}\n\n{table(head, means(curves, measure))}")
    if len(ks) > 1:
        said.say(f"\n## Bytes at equal quality, per cent\n\n{rates_table(curves, list(methods))}")
    said.data |= {"ks": ks, "curves": curves}
    path = said.write(given.out, "looks")
    draw(curves, path.with_suffix(".svg"))


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder instead of the packaged pictures")
    parser.add_argument("--only", help="names of pictures, separated by commas")
    parser.add_argument("--ks", help="numbers of colours, separated by commas")
    return parser.parse_args()


def means(curves: Curves, measure: str) -> list[list[str]]:
    labels = next(iter(curves.values()))
    rows = []
    for label in labels:
        values = [[point[measure] for point in by[label]] for by in curves.values()]
        scale = 1000 if measure == "bytes" else 1
        rows.append([label, *(figure(value / scale) for value in np.mean(values, axis=0))])
    return rows


def rates_table(curves: Curves, labels: list[str]) -> str:
    """Compare each method with the better of pngquant's two modes, picture by picture."""
    by_picture = [rates(by_method, labels, "ssimulacra2") for by_method in curves.values()]
    rows = [[name, *map(figure, found)] for name, found in zip(curves, by_picture, strict=True)]
    for measure in MEASURES:
        every = [rates(by_method, labels, measure) for by_method in curves.values()]
        rows.append(
            [
                f"mean by {measure}",
                *(figure(mean_of(column)) for column in zip(*every, strict=True)),
            ]
        )
    fewer = [
        np.mean([value is not None and value < 0 for value in column])
        for column in zip(*by_picture, strict=True)
    ]
    rows.append(["share with fewer", *(f"{share:.0%}" for share in fewer)])
    return table(["", *labels], rows)


def rates(by_method: dict[str, Curve], labels: list[str], measure: str) -> list[float | None]:
    modes = [by_method[rival] for rival in RIVALS]
    first = bd_rate(*modes, measure)
    better = modes[0] if first is not None and first < 0 else modes[1]
    return [bd_rate(by_method[label], better, measure) for label in labels]


def mean_of(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def draw(curves: Curves, path: Path) -> None:
    """Draw the mean of each measure against the mean of the bytes, in proportion to the largest."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure_, axes = plt.subplots(1, len(MEASURES), figsize=(5 * len(MEASURES), 4.5))
    labels = next(iter(curves.values()))
    for axis, (measure, (meaning, _)) in zip(axes, MEASURES.items(), strict=True):
        for label in labels:
            points = [by[label] for by in curves.values()]
            sizes = np.mean(
                [[point["bytes"] / 1000 for point in curve] for curve in points], axis=0
            )
            scores = np.mean([[point[measure] for point in curve] for curve in points], axis=0)
            axis.plot(sizes, scores, "o-" if label.startswith("ours") else "x--", label=label)
        axis.set(title=meaning, xlabel="kB, mean over the pictures")
    axes[0].legend(fontsize=7)
    figure_.tight_layout()
    figure_.savefig(path)
    plt.close(figure_)


if __name__ == "__main__":
    main()
