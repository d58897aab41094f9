"""Make the pictures of the documents: python docs/make_images.py.

before-after.png: china.jpg of scikit-learn, and the same in 16 colours above its palette, in which
each colour is as wide as its share of the picture.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from gpu_kmeans import QuantizedImage, quantize

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


def main() -> None:
    """Write every picture."""
    photo = load_sample_image("china.jpg")
    picture = quantize(photo, k=K)
    path = IMAGES / "before-after.png"
    Image.fromarray(before_after(photo, picture)).save(path, optimize=True)
    print(
        f"{path.name}: {picture.unique_colors} colours, then {picture.k}, {picture.psnr_db:.1f} dB"
    )


if __name__ == "__main__":
    main()
