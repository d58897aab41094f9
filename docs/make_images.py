"""Make every picture of the documents: python docs/make_images.py.

before-after.png: china.jpg of scikit-learn, and the same in 16 colours above its palette, in which
each colour is as wide as its share of the picture.

cube.png and steps.png: what `gpu-kmeans plot` draws.

The others are named after the examples that write them; call_api.png and elbow.png come from a
service that is started for them, and has loaded what it needs: the curve shows how long fits take.
"""

import contextlib
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from gpu_kmeans import QuantizedImage, quantize

EXAMPLES = Path(__file__).parents[1] / "examples"
COMMAND = Path(sys.executable).with_name("gpu-kmeans")
MOST_COLORS = 256  # drawings have fewer, and photographs of examples are to be small
WIDEST = 1000  # pixels
IMAGES = Path(__file__).parent / "images"
K = 16
GAP = 12  # pixels between the two pictures, and above the palette
STRIP = 40  # height of the palette


def before_after(photo: np.ndarray, picture: QuantizedImage) -> np.ndarray:
    """Set the two side by side, (h, w, 3) each, over the palette of the second."""
    h, w, _ = photo.shape
    canvas = np.full((h + GAP + STRIP, 2 * w + GAP, 3), 255, np.uint8)
    canvas[:h, :w] = photo
    canvas[:h, w + GAP :] = picture.to_pixels()
    canvas[h + GAP :, w + GAP :] = palette_strip(picture, w)
    return canvas


def palette_strip(picture: QuantizedImage, width: int) -> np.ndarray:
    """Draw the palette, (1, width, 3), light colours last, each as wide as its share."""
    order = np.argsort(picture.palette @ [0.299, 0.587, 0.114])
    edges = np.cumsum(picture.counts[order]) / picture.counts.sum()
    return picture.palette[order][np.searchsorted(edges, (np.arange(width) + 0.5) / width)][None]


def draw_plots(folder: Path) -> None:
    """Draw a photograph's colours, and Lloyd's steps on three blobs, by the command."""
    Image.fromarray(load_sample_image("flower.jpg")).save(folder / "flower.png")
    rng = np.random.default_rng(4)
    points = np.array([[0, 0], [5, 1], [2, 5]])[np.arange(300) % 3] + rng.normal(size=(300, 2))
    np.savetxt(folder / "points.csv", points, delimiter=",", header="x,y", comments="")
    for arguments in (
        "plot cube flower.png -o cube.png -k 12",
        "plot steps points.csv -o steps.png -k 3 --seed 5",
    ):
        subprocess.run([COMMAND, *arguments.split()], cwd=folder, check=True, capture_output=True)  # noqa: S603


def run_examples() -> None:
    """Run every example in the working directory, and draw a photograph's curve."""
    with served() as url:
        flower = Path("flower.png")
        accept = {"Accept": "image/png"}
        curve = httpx.post(f"{url}/elbow?k_max=16", content=flower.read_bytes(), headers=accept)
        Path("elbow.png").write_bytes(curve.raise_for_status().content)
        flower.unlink()
        for path in sorted(EXAMPLES.glob("*.py")):
            sys.argv = [str(path), *([url] if path.stem == "call_api" else [])]
            runpy.run_path(str(path), run_name="__main__")


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Start a service on any free port; its first lines on standard error say which."""
    arguments = [COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        said = iter(process.stderr.readline, "") if process.stderr else iter(())
        url = next(m[0] for line in said if (m := re.search(r"http://127\.0\.0\.1:\d+", line)))
        while httpx.get(f"{url}/readyz").is_error:
            time.sleep(0.5)
        yield url
        process.terminate()


def keep_small(source: Path) -> None:
    """Save a picture among the others, in a palette of our own and no wider than a page."""
    with Image.open(source) as image:
        picture = image.convert("RGB")
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)))
    fit = quantize(np.asarray(picture), k=MOST_COLORS)
    indexed = Image.fromarray(fit.indices)
    indexed.putpalette(fit.palette.tobytes())
    indexed.save(IMAGES / source.name, optimize=True)


def main() -> None:
    """Write every picture."""
    photo = load_sample_image("china.jpg")
    picture = quantize(photo, k=K)
    path = IMAGES / "before-after.png"
    Image.fromarray(before_after(photo, picture)).save(path, optimize=True)
    print(
        f"{path.name}: {picture.unique_colors} colours, then {picture.k}, {picture.psnr_db:.1f} dB"
    )
    with TemporaryDirectory() as name, contextlib.chdir(name):
        draw_plots(Path(name))
        run_examples()
        for drawn in sorted(Path(name).glob("*.png")):
            keep_small(drawn)


if __name__ == "__main__":
    main()
