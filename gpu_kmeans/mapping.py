"""From a palette to a picture: every colour's entry, every pixel's index, and what that costs."""

from dataclasses import replace

import torch
from torch import Tensor

from gpu_kmeans.backends import Backend
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.dithering import Labels, map_pixels
from gpu_kmeans.errors import OptionError, ShapeError
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.metrics import psnr_db
from gpu_kmeans.nearest import nearest_rows
from gpu_kmeans.palette import MAX_COLORS, Palette, opaque_colors, sort_key
from gpu_kmeans.quantize_options import QuantizeOptions
from gpu_kmeans.quantized_image import QuantizedImage

__all__ = ["given_palette", "keep_own_colors", "map_picture", "nearest_entries"]


def map_picture(
    engine: Backend,
    histogram: Histogram,
    palette: Palette,
    options: QuantizeOptions,
    labels: Labels | None = None,
    *,
    kept: int = 0,
) -> QuantizedImage:
    """Map every pixel to the palette, drop computed entries without any, measure the result.

    Args:
        engine: Who computes.
        histogram: Of the picture.
        palette: With as many channels as the picture, or fewer.
        options: Of these the space, dither and thrift, and whether the palette was given.
        labels: The entry of each colour, where it is known.
        kept: So many entries at the front stay, whether pixels have them or not.

    Returns:
        The picture. Never raises.
    """
    histogram = histogram.with_channels(palette.colors.shape[1])
    if labels is None and options.dither and histogram.colors.shape[1] == 3:  # noqa: PLR2004
        nobody = torch.tensor(-1, device=palette.colors.device)
        labels = Labels(entries=_own_entries(histogram, palette, nobody), are_own=True)
    elif labels is None:
        labels = Labels(entries=nearest_entries(engine, histogram, palette, options.space))
    mapping = map_pixels(
        engine,
        histogram,
        palette,
        labels,
        space=options.space,
        dither=options.dither,
        method=options.dither_method,
        thrift=options.thrift,
    )
    indices, counts = mapping.indices, mapping.counts
    if options.palette is None and not bool(counts.all()):
        used = counts > 0
        used[:kept] = True  # reserved
        renumbered = used.cumsum(0).sub(1).clamp(min=0).to(torch.uint8)
        indices, counts = renumbered[indices.long()], counts[used]
        palette = palette.keep(used)
    palette = palette.with_channels(histogram.shape[2])
    return QuantizedImage(
        indices=indices,
        palette=palette.colors,
        counts=counts,
        centroids=palette.centroids,
        wcss=mapping.wcss,
        psnr_db=psnr_db(mapping.wcss, (histogram.pixels, histogram.colors.shape[1])),
        k_reason="asked",
        unique_colors=len(histogram.colors),
        curve=None,
        n_iter=0,
        converged=True,
        seed=options.seed,
        backend=engine.name,
        device=str(indices.device),
        warnings=(),
    )


def keep_own_colors(
    engine: Backend, histogram: Histogram, options: QuantizeOptions
) -> QuantizedImage:
    """Take a picture's own colours: there are few enough. Arguments as of `map_picture`.

    Never raises.
    """
    k, distinct = int(options.k), len(histogram.colors)
    order = sort_key(histogram.colors).argsort(stable=True)
    palette = Palette.from_colors(histogram.colors[order])
    image = map_picture(
        engine, histogram, palette, replace(options, dither=0.0), Labels(entries=order.argsort())
    )
    warning = (f"the picture has only {distinct} distinct colour{'s' * (distinct > 1)}",)
    return replace(image, k_reason="distinct colors", warnings=warning if distinct < k else ())


def nearest_entries(
    engine: Backend,
    histogram: Histogram,
    palette: Palette,
    space: str,
    labels: Tensor | None = None,
) -> Tensor:
    """Find each colour's nearest entry; the same colour, where the palette has it, always wins.

    Without that, colours that share a place on the grid of a space would be taken for one another.
    Opaque colours go to opaque entries, where there are any. `labels` are the entries nearest on
    the grid, where these are known. Never raises.
    """
    features, entries = histogram.features(space), palette.to_features(space)
    labels = nearest_rows(engine, features, entries) if labels is None else labels.long()
    is_opaque = palette.is_opaque
    if not bool(is_opaque.all()) and bool(is_opaque.any()):
        shines = opaque_colors(histogram.colors) & ~is_opaque[labels]
        if bool(shines.any()):  # opaque stays opaque
            rows = is_opaque.nonzero()[:, 0]
            labels[shines] = rows[nearest_rows(engine, features[shines], entries[rows])]
    return _own_entries(histogram, palette, labels)


def _own_entries(histogram: Histogram, palette: Palette, others: Tensor) -> Tensor:
    """Find the entry that is just a colour's own, for each that has one; `others` say the rest."""
    nowhere, size = len(histogram.colors), len(palette.colors)
    if histogram.colors.device.type == "cpu":
        from gpu_kmeans.backends.area_kernels import find_colors

        place = torch.from_numpy(find_colors(histogram.colors.numpy(), palette.colors.numpy()))
    else:
        codes, names = histogram.codes(), morton_codes(palette.colors)
        place = torch.searchsorted(codes, names).clamp(max=nowhere - 1)
        place = torch.where(codes[place] == names, place, nowhere)
    entries = torch.cat([others.expand(nowhere), others.new_zeros(1)])
    return entries.index_put_((place,), torch.arange(size, device=place.device))[:-1]


def given_palette(colors: Tensor, histogram: Histogram, name: str = "palette") -> Palette:
    """Take the caller's palette, with an entry for transparent pixels where they need one.

    Args:
        colors: As `gpu_kmeans.quantize_options.check_palette` gives them.
        histogram: Of the picture.
        name: What the caller calls them.

    Raises:
        ShapeError: It has alpha, and the picture has none.
        OptionError: It is too large with that entry.
    """
    if colors.shape[1] > histogram.shape[2]:
        raise ShapeError(f"a {name} with alpha needs a picture with alpha")
    palette = Palette.from_colors(colors.to(histogram.colors.device))
    palette = palette.with_channels(max(colors.shape[1], histogram.colors.shape[1]))
    if histogram.has_transparent and bool((palette.colors[:, 3] > 0).all()):
        palette = palette.with_transparent()
    if len(palette.colors) > MAX_COLORS:
        got = len(palette.colors)
        raise OptionError(name, f"{got} colours", f"1 to {MAX_COLORS}, transparency included")
    return palette
