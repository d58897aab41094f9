"""The pictures measured on: those that come with scikit-learn and scikit-image, or any folder."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

HEADLINE = (1200, 1600)  # height and width that china.jpg is enlarged to
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SHIPPED = {  # package -> the photographs inside it
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "skimage": ("data/coffee.png", "data/astronaut.png", "data/chelsea.png", "data/rocket.jpg"),
}


def read(path: Path) -> np.ndarray:
    """Decode a picture, without its alpha, to uint8 (h, w, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def shipped() -> dict[str, Path]:
    """Return the photographs inside installed packages, by name."""
    found = {}
    for package, names in SHIPPED.items():
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            paths = [Path(spec.origin).parent / name for name in names]
            found |= {path.stem: path for path in paths if path.exists()}
    return found


def in_folder(folder: Path) -> dict[str, Path]:
    """Return every picture below a folder, by name without suffix; of equals, the first path."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    first = {path.stem: path for path in reversed(paths)}
    return dict(sorted(first.items()))


def china(height: int, width: int) -> np.ndarray:
    """Return scikit-learn's china.jpg at another size, resampled by Lanczos."""
    with Image.open(shipped()["china"]) as image:
        rgb = image.convert("RGB")
        return np.asarray(rgb.resize((width, height), Image.Resampling.LANCZOS))


def synthetic(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a picture with the smooth shades, edges and noise of a photograph, from numpy alone.

    Noise at every scale with amplitude as 1 / frequency, like photographs have, three layers of
    which take the place of one another; on two megapixels, about 300 thousand distinct colours.
    """
    rng = np.random.default_rng(seed)
    shape = (height, width)
    scenes = [np.stack([_cloud(rng, shape) for _ in range(3)], axis=-1) for _ in range(3)]
    lightness = [_cloud(rng, shape)[..., None] for _ in range(3)]
    masks = [_cloud(rng, shape)[..., None] for _ in range(2)]
    tints = rng.uniform(60, 200, (3, 3))
    layers = [
        tint + 45 * light + 6 * scene
        for tint, light, scene in zip(tints, lightness, scenes, strict=True)
    ]
    picture = np.where(masks[0] > 0.3, layers[0], np.where(masks[1] > 0, layers[1], layers[2]))
    return np.clip(picture + rng.normal(0, 1, (*shape, 1)), 0, 255).astype(np.uint8)


def _cloud(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return noise of mean 0 and deviation 1, its amplitude falling as 1 / frequency^1.5."""
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / frequency**1.5
    values = np.fft.irfft2(spectrum, shape)
    return values / max(values.std(), np.finfo(float).tiny)
