"""Entries of a palette that no pixel went to, given to the colours that are farthest off.

Moving entries to where the picture looks right can make two of them equal, or leave one without a
pixel: `thrift` and dithering choose for other reasons than nearness. It happens to pictures of few
pixels or of a few colours more than k; a second mapping costs as much as the first.
"""

from dataclasses import replace

from torch import Tensor

from gpu_kmeans.backends import Backend
from gpu_kmeans.checks import as_tensor
from gpu_kmeans.dithering import Labels
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.mapping import map_picture, nearest_entries
from gpu_kmeans.palette import Palette
from gpu_kmeans.quantize_options import QuantizeOptions
from gpu_kmeans.quantized_image import QuantizedImage

__all__ = ["map_in_full"]


def map_in_full(
    engine: Backend,
    histogram: Histogram,
    palette: Palette,
    options: QuantizeOptions,
    labels: Labels | None = None,
    *,
    kept: int = 0,
) -> QuantizedImage:
    """Map a picture; where that takes fewer than k entries, once more with others in their place.

    Args:
        engine: Who computes.
        histogram: Of a picture of more than k colours.
        palette: At most k entries.
        options: See `map_picture`; k is a number.
        labels: The entry of each colour, where it is known.
        kept: So many entries at the front stay.

    Returns:
        The picture; fewer entries than k come with a warning. Never raises.
    """
    image = map_picture(engine, histogram, palette, options, labels, kept=kept)
    k, channels = int(options.k), palette.colors.shape[1]
    if image.k >= k:
        return image
    used = Palette(
        colors=as_tensor("palette", image.palette)[:, :channels],
        centroids=as_tensor("centroids", image.centroids)[:, :channels],
    )
    histogram = histogram.with_channels(channels)
    missing = _farthest_off(engine, histogram, used, options.space, k - image.k)
    fuller = used.joined(Palette.from_colors(missing)).sorted(kept)
    image = max(
        image, map_picture(engine, histogram, fuller, options, kept=kept), key=lambda i: i.k
    )
    if image.k == k:
        return image
    few = f"no pixel went to {k - image.k} of {k} entries, which are left out"
    return replace(image, warnings=(*image.warnings, few))


def _farthest_off(
    engine: Backend, histogram: Histogram, palette: Palette, space: str, n: int
) -> Tensor:
    """Return up to n colours that add most to the squared error; the first of equals."""
    features, entries = histogram.features(space).double(), palette.to_features(space).double()
    labels = nearest_entries(engine, histogram, palette, space)
    errors = (features - entries[labels]).square().sum(dim=1) * histogram.counts
    farthest = errors.argsort(descending=True, stable=True)[:n]
    return histogram.colors[farthest[errors[farthest] > 0]]
