"""Exact k-means for colours and points, in PyTorch.

`quantize` reduces a picture to few colours, `shared_palette` finds one palette for many, `kmeans`
clusters any weighted points, `elbow` computes WCSS for many k at once, and `KMeans` stands in for
scikit-learn's.
"""

from typing import TYPE_CHECKING

from gpu_kmeans.elbow import ElbowCurve, elbow
from gpu_kmeans.errors import DeviceError, GpuKMeansError, InputError, OptionError, ShapeError
from gpu_kmeans.lloyd import KMeansResult, kmeans
from gpu_kmeans.quantization import QuantizedImage, quantize, quantize_batch
from gpu_kmeans.sharing import SharedPalette, shared_palette
from gpu_kmeans.tally import Tally

if TYPE_CHECKING:
    from gpu_kmeans.estimator import KMeans

__all__ = [
    "DeviceError",
    "ElbowCurve",
    "GpuKMeansError",
    "InputError",
    "KMeans",
    "KMeansResult",
    "OptionError",
    "QuantizedImage",
    "ShapeError",
    "SharedPalette",
    "Tally",
    "elbow",
    "kmeans",
    "quantize",
    "quantize_batch",
    "shared_palette",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `KMeans`, and with it scikit-learn, only where it is used."""
    if name == "KMeans":
        from gpu_kmeans.estimator import KMeans

        return KMeans
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
