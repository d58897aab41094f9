"""How a picture in k colours looks, and how many bytes it takes: ours beside others'.

Every method gives a palette picture, all go through the same optimizer (our effort 2), and four
measures say how close it looks to the original (benchmarks/looks.py). A method's curve is quality
against bytes over k. BD-rate is how many per cent more bytes (less than 0: fewer) it takes than
pngquant's better mode for the same quality, on average over what both reach, from k = 8 on.

Rivals: pngquant at its slowest speed, dithered and not; Pillow with its own k-means until nothing
changes, dithered (from maximum coverage) and not (from median cut); k-means as the textbook has it
(ours: RGB, every pixel its nearest entry).

A fifth measure says whether a meaningful colour is lost in what was drawn, not photographed: the
largest mean CIEDE2000 over one connected area of just one colour, above 0.1 % of the picture.

    python -m benchmarks.bench_looks [--images FOLDER] [--ks 16,64,256] [--quick] [--kept FOLDER]

What was measured is kept in a folder, where one is named, and taken from there while neither the
picture, the method nor our sources change: so a long run may be made in parts.
"""

import argparse
import hashlib
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

import gpu_kmeans
from app import encoders
from app.options import CompressOptions
from app.preferences import preferred
from benchmarks import looks_tables, machine, pictures, report
from benchmarks.looks import Curve, Original
from gpu_kmeans import quantize

KS = (4, 8, 16, 32, 64, 128, 256)
QUICK_KS = (16, 64)
DEBIANS = Path("/usr/bin/pngquant")
PACKAGED = Path(sys.executable).with_name("pngquant")  # of the package pngquant-cli
Method = Callable[[np.ndarray, int], np.ndarray]


def ours(**options: object) -> Method:
    return lambda pixels, k: quantize(pixels, k, **options).to_pixels()


def preferring(prefer: str) -> Method:
    return ours(**preferred(CompressOptions(prefer=prefer)))


@cache
def program() -> tuple[Path, str]:
    """Return pngquant, Debian's where it is installed, and its version."""
    path = DEBIANS if DEBIANS.exists() else PACKAGED
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 - a rival's program
    return path, said.stdout.split()[0]


def pngquant(*flags: str) -> Method:
    def run(pixels: np.ndarray, k: int) -> np.ndarray:
        command = [program()[0], "--speed", "1", *flags, str(max(2, k)), "-"]
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG", compress_level=1)
        done = subprocess.run(command, input=png.getvalue(), capture_output=True, check=True)  # noqa: S603 - a rival's program
        with Image.open(io.BytesIO(done.stdout)) as image:
            return np.asarray(image.convert("RGB"))

    return run


def pillow(pixels: np.ndarray, k: int, *, dithered: bool) -> np.ndarray:
    """Quantize by Pillow, refined by its own k-means until no pixel changes (kmeans=1: below 1).

    Each mode by the quantizer that scored best in it on coffee and kodim03, k = 16 and 64.
    """
    image = Image.fromarray(pixels)
    best = Image.Quantize.MAXCOVERAGE if dithered else Image.Quantize.MEDIANCUT
    drawn = image.quantize(k, method=best, kmeans=1)
    if dithered:
        drawn = image.quantize(k, palette=drawn, dither=Image.Dither.FLOYDSTEINBERG)
    return np.asarray(drawn.convert("RGB"))


OURS = {"looks", "bytes", "textbook"}
METHODS: dict[str, tuple[str, Method]] = {  # what --methods calls each -> its label, itself
    "looks": ("ours, prefer=looks", preferring("looks")),
    "bytes": ("ours, prefer=bytes", preferring("bytes")),
    "pngquant": (looks_tables.RIVALS[0], pngquant()),
    "pngquant-plain": (looks_tables.RIVALS[1], pngquant("--nofs")),
    "pillow": ("Pillow, dithered", partial(pillow, dithered=True)),
    "pillow-plain": ("Pillow, plain", partial(pillow, dithered=False)),
    "textbook": ("textbook k-means", ours()),
}


def main() -> None:
    given = arguments()
    ks = tuple(map(int, given.ks.split(","))) if given.ks else QUICK_KS if given.quick else KS
    paths = pictures.in_folder(given.images) if given.images else pictures.shipped()
    if given.only:
        paths = {name: paths[name] for name in given.only.split(",")}
    names = given.methods.split(",") if given.methods else list(METHODS)
    packages = ["pyoxipng", "ssimulacra2", "flip-evaluator", "pillow"]
    facts = machine.describe(packages) | {"pngquant": program()[1], "command": command(given)}
    said = report.Report("Looks against bytes", facts)
    curves = {}
    for i, (name, path) in enumerate(paths.items(), start=1):
        pixels = cropped(pictures.read(path), given.crop)
        curves[name] = {METHODS[m][0]: curve(pixels, m, ks, given.kept) for m in names}
        print(f"{i} of {len(paths)}: {name}", file=sys.stderr, flush=True)
    for title, text in looks_tables.sections(curves, ks):
        said.say(f"\n## {title}\n\n{text}")
    said.data |= {"ks": ks, "curves": curves}
    path = said.write(given.out, given.name)
    looks_tables.draw(curves, path.with_suffix(".svg"))


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder instead of the packaged pictures")
    parser.add_argument("--only", help="names of pictures, separated by commas")
    parser.add_argument("--ks", help="numbers of colours, separated by commas")
    parser.add_argument("--methods", help=f"some of {','.join(METHODS)}")
    parser.add_argument("--kept", type=Path, help="folder of what was measured before")
    parser.add_argument("--crop", type=int, help="side of a square in the middle, if not all")
    parser.add_argument("--name", default="looks", help="of the results")
    return parser.parse_args()


def command(given: argparse.Namespace) -> str:
    """Return the command that measures the same again: without where files are kept."""
    words = ["python", "-m", "benchmarks.bench_looks"]
    for name in ("images", "only", "ks", "methods", "crop"):
        if getattr(given, name) is not None:
            words += [f"--{name}", str(getattr(given, name))]
    return shlex.join([*words, "--quick"] if given.quick else words)


def cropped(pixels: np.ndarray, side: int | None) -> np.ndarray:
    """Cut a square out of the middle, or less where the picture ends."""
    if side is None:
        return pixels
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def curve(pixels: np.ndarray, method: str, ks: tuple[int, ...], kept: Path | None) -> Curve:
    """Measure one method on one picture, or take what was measured."""
    original: Original | None = None
    points = []
    for k in ks:
        name = hashlib.sha256(f"{method} {k} {_version(method)} {_source()}".encode())
        name.update(pixels.tobytes() + str(pixels.shape).encode())
        path = kept / f"{name.hexdigest()}.json" if kept else None
        if path and path.exists():
            points.append(json.loads(path.read_text()))
            continue
        original = original or Original.of(pixels)
        points.append(original.measure(METHODS[method][1](pixels, k)))
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(points[-1]))
    return points


def _version(method: str) -> str:
    """Say what a method's answers depend on beside the picture and k."""
    if method in OURS:
        folder = Path(gpu_kmeans.__file__).parent
        sources = b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))
        options = str([preferred(CompressOptions(prefer=prefer)) for prefer in ("looks", "bytes")])
        return hashlib.sha256(sources + options.encode()).hexdigest()
    return program()[1] if method.startswith("pngquant") else machine.version("pillow")


@cache
def _source() -> str:
    """Name this version of the measures, bytes among them."""
    ours, app = Path(__file__).parent, Path(encoders.__file__).parent
    paths = [ours / "looks.py", ours / "ssimulacra.py"]
    writers = ("encoders.py", "png.py", "palette_png.py", "palette_order.py", "shrink_png.py")
    return str([path.read_text() for path in (*paths, *(app / name for name in writers))])


if __name__ == "__main__":
    main()
