"""A picture in few colours: what `gpu_kmeans.quantization` answers."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gpu_kmeans.checks import as_tensor, like
from gpu_kmeans.elbow import ElbowCurve
from gpu_kmeans.palette import sort_key

__all__ = ["QuantizedImage", "in_kind_of", "in_order"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizedImage:
    """A picture in few colours; arrays are of the kind, and on the device, of the input.

    Attributes:
        indices: (h, w) uint8, each pixel's palette entry.
        palette: (m, 3) uint8 sRGB; (m, 4) with straight alpha where the input has 4 channels.
        counts: (m,) int64, pixels of each entry; they add up to h x w.
        centroids: (m, 3) or (m, 4) float64, what each entry was rounded from, sRGB 0..255.
        wcss: Of this picture against the input, in RGB units: squared levels, summed over the
            channels (with alpha, the four premultiplied ones) and the pixels.
        psnr_db: The same as a peak signal-to-noise ratio; None where wcss is 0.
        quality: How much it looks like the input, from 0 to 100, see `gpu_kmeans.quality`; None
            where min_quality was not asked.
        k_reason: Why there are so many entries: "asked", "elbow", "min_psnr", "min_quality",
            "distinct colors".
        unique_colors: Distinct colours of the input.
        curve: The elbow curve, where it was asked for, and of k="elbow".
        n_iter: Lloyd iterations over all distinct colours.
        converged: They stopped by themselves.
        seed: As given.
        backend: Who computed.
        device: Where.
        warnings: What the caller might not expect, in words.
    """

    indices: Tensor | np.ndarray
    palette: Tensor | np.ndarray
    counts: Tensor | np.ndarray
    centroids: Tensor | np.ndarray
    wcss: float
    psnr_db: float | None
    quality: float | None = None
    k_reason: str
    unique_colors: int
    curve: ElbowCurve | None
    n_iter: int
    converged: bool
    seed: int
    backend: str
    device: str
    warnings: tuple[str, ...]

    @property
    def k(self) -> int:
        """Number of palette entries."""
        return len(self.palette)

    def to_pixels(self) -> Tensor | np.ndarray:
        """Return the picture, uint8 (h, w, 3) or (h, w, 4)."""
        if isinstance(self.indices, Tensor):
            return self.palette[self.indices.long()]
        return self.palette[self.indices]


def in_order(image: QuantizedImage, order: str) -> QuantizedImage:
    """Renumber the palette; of equals in popularity the darker comes first.

    Args:
        image: A picture.
        order: One of `gpu_kmeans.palette.ORDERS`.

    Returns:
        The same picture. Never raises.
    """
    if order == "given":
        return image
    palette, counts, indices = (
        as_tensor("picture", array) for array in (image.palette, image.counts, image.indices)
    )
    places = sort_key(palette).argsort(stable=True)
    if order == "popularity":
        places = places[counts[places].argsort(descending=True, stable=True)]
    return replace(
        image,
        indices=places.argsort().to(torch.uint8)[indices.long()],
        palette=palette[places],
        counts=counts[places],
        centroids=as_tensor("centroids", image.centroids)[places],
    )


def in_kind_of(original: object, image: QuantizedImage) -> QuantizedImage:
    """Give the arrays of a picture the kind, and the device, of what came in. Never raises."""
    return replace(
        image,
        indices=like(image.indices, original),
        palette=like(image.palette, original),
        counts=like(image.counts, original),
        centroids=like(image.centroids, original),
    )
