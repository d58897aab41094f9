"""One palette for many pictures: the k-means of the sum of their histograms.

It is the same way through as that of one picture, from the histogram on, so the palette of some
pictures is, to the last bit, that of one picture made of all their pixels.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8

from gpu_kmeans.backends import backend_for
from gpu_kmeans.checks import check_device
from gpu_kmeans.errors import InputError
from gpu_kmeans.metrics import psnr_db
from gpu_kmeans.palette import MAX_COLORS
from gpu_kmeans.progress import Progress, rising
from gpu_kmeans.quantization import quantize_histogram
from gpu_kmeans.quantize_options import QuantizeOptions, check_palette
from gpu_kmeans.tally import Tally
from gpu_kmeans.targets import Targets

__all__ = ["SharedPalette", "shared_palette"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedPalette:
    """The palette of many pictures.

    Attributes:
        palette: (m, 3) uint8 sRGB; (m, 4) with straight alpha where any pixel is not opaque.
        counts: (m,) pixels of each entry, over all pictures.
        centroids: (m, 3) or (m, 4), what each entry was rounded from, sRGB 0..255.
        wcss: Of the tally's colours in this palette, in RGB units; see `QuantizedImage`.
        wcss_bounds: The WCSS of the pictures themselves lies between these: each pixel has the
            entry of the colour it was merged into, or, in space "rgb", the nearest. Both are wcss
            where the tally is exact.
        psnr_db: wcss as a peak signal-to-noise ratio; None where it is 0.
        k_reason: See `QuantizedImage`.
        unique_colors: Colours of the tally, merged ones as one.
        n_iter: Lloyd iterations over all of them.
        converged: They stopped by themselves.
        seed: As given.
        backend: Who computed.
        device: Where.
        warnings: What the caller might not expect, in words.
    """

    palette: UInt8[np.ndarray, "m c"]
    counts: Int64[np.ndarray, " m"]
    centroids: Float64[np.ndarray, "m c"]
    wcss: float
    wcss_bounds: tuple[float, float]
    psnr_db: float | None
    k_reason: str
    unique_colors: int
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


def shared_palette(
    tally: Tally,
    k: int | str = MAX_COLORS,
    *,
    k_max: int = 20,
    min_psnr: float | None = None,
    space: str = "rgb",
    reserve: object = None,
    order: str = "given",
    init: str = "k-means++",
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    refine: int = 1,
    seed: int = 0,
    device: torch.device | str = "cpu",
    backend: str = "auto",
    on_progress: Progress | None = None,
) -> SharedPalette:
    """Find the palette that serves some pictures best, all together.

    Args:
        tally: Their colours. Afterwards `quantize(..., palette=...)` brings each into the palette.
        k: See `quantize`, as all that follow but the device.
        k_max: See `quantize`.
        min_psnr: See `quantize`; over all pictures together.
        space: See `quantize`.
        reserve: See `quantize`.
        order: See `quantize`.
        init: See `quantize`.
        n_init: See `quantize`.
        max_iter: See `quantize`.
        tol: See `quantize`.
        refine: See `quantize`.
        seed: See `quantize`.
        device: Where to compute.
        backend: See `quantize`.
        on_progress: See `quantize`.

    Returns:
        The palette, the same whatever the order and the parts in which the tally was added up.

    Raises:
        InputError: There are no pixels.
        ShapeError: Reserved colours are not of a shape or type that `quantize` names.
        OptionError: An option is out of range.
        DeviceError: The device or the backend cannot be had here.

    Example:
        >>> black = Tally.from_pixels(np.zeros((1, 2, 3), np.uint8))
        >>> white = Tally.from_pixels(np.full((1, 1, 3), 255, np.uint8))
        >>> shared_palette(black + white, 2).palette.tolist()
        [[0, 0, 0], [255, 255, 255]]
    """
    options = QuantizeOptions(
        k=k,
        k_max=k_max,
        targets=Targets.of(k, min_psnr, None),
        space=space,
        dither=0.0,
        dither_method="diffusion",
        thrift=0.0,
        solid=False,
        palette=None,
        reserve=None if reserve is None else check_palette(reserve, "reserve"),
        order=order,
        curve=False,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        tol=tol,
        refine=refine,
        seed=seed,
    )
    if not tally.pixels:
        raise InputError("there are no colours to cluster: the tally is empty")
    place = check_device(device)
    histogram = tally.to_histogram(place)
    if options.reserve is not None:  # where it has alpha, so has the sum
        channels = max(histogram.shape[2], options.reserve.shape[1])
        histogram = replace(histogram, shape=(*histogram.shape[:2], channels))
    engine = backend_for(place, backend)
    image = quantize_histogram(engine, histogram, options, rising(on_progress))
    return SharedPalette(
        palette=_to_numpy(image.palette),
        counts=_to_numpy(image.counts),
        centroids=_to_numpy(image.centroids),
        wcss=image.wcss,
        wcss_bounds=_bounds(image.wcss, tally.scatter),
        psnr_db=psnr_db(image.wcss, (tally.pixels, histogram.colors.shape[1])),
        k_reason=image.k_reason,
        unique_colors=image.unique_colors,
        n_iter=image.n_iter,
        converged=image.converged,
        seed=image.seed,
        backend=image.backend,
        device=image.device,
        warnings=image.warnings,
    )


def _bounds(wcss: float, scatter: float) -> tuple[float, float]:
    """Apply the triangle inequality to the roots (Minkowski's, for sums of squares)."""
    if not scatter:
        return wcss, wcss
    root, error = math.sqrt(wcss), math.sqrt(scatter)
    return max(0.0, root - error) ** 2, (root + error) ** 2


def _to_numpy(tensor: object) -> np.ndarray:
    return tensor.numpy(force=True) if isinstance(tensor, torch.Tensor) else np.asarray(tensor)
