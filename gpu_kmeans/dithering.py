"""Giving each pixel its palette entry: dithered, plain, or such that the file is small.

Without, an entry is found once for each distinct colour and looked up for the pixels. With it, the
error of each pixel is passed on to its neighbours (Floyd and Steinberg), and then each chooses
again, knowing what all its neighbours miss: the picture comes close to the original as both look
from afar, and the less so, the lower the strength, pixel by pixel. At strength 1 none chooses
again: then the mean of every area is kept, which costs looks. Targets are clamped to the range of
the picture: where the palette does not enclose the colours, errors would run away. A pixel whose
colour is in the palette keeps it and passes nothing on, so that flat areas of it stay clean.

The other method, blue noise, looks at no neighbours (`gpu_kmeans.mixtures`): the same colour at the
same place gets the same entry, in every frame of an animation. Single pictures look less good.

A palette of cluster means does not enclose the colours, so a dithered picture looks paler than its
original. `adapt_palette` moves the entries to where the picture, seen from a distance, is closest
to the original, dithers again and repeats. docs/decisions/0004-dithering.md has what it gains.

With thrift, pixels prefer the entries of those beside them (`gpu_kmeans.backends.thrift`), at a
price in proportion to how far off a pixel is anyway: nothing where the palette has every colour.

References:
    Floyd, Steinberg, "An adaptive algorithm for spatial greyscale", Proc. SID 17(2), 1976.
    Analoui, Allebach, "Model-based halftoning using direct binary search", Proc. SPIE 1666, 1992.
        Differs: whole palettes, a fixed order in nine turns, no swaps; entries by nearness.
    Young, "Iterative methods for solving partial difference equations of elliptic type",
        Trans. Amer. Math. Soc. 76(1), 1954 (over-relaxation).
    Puzicha et al., "On spatial quantization of color images", IEEE Trans. Image Proc. 9(4), 2000.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpu_kmeans.backends import Backend
from gpu_kmeans.color import GRID
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.metrics import in_levels, premultiplied
from gpu_kmeans.mixtures import lay_out, mix
from gpu_kmeans.palette import Palette, opaque_colors, sort_key

__all__ = ["METHODS", "Labels", "Mapping", "adapt_palette", "map_pixels"]

METHODS = ("diffusion", "blue-noise")

FEW, MORE = 4 * (1 << 17,), (1 << 17, 1 << 18, 1 << 18)  # pixels of each round: see 0004
BEYOND = 1.7  # times the step that would be right for an entry, were the others to stay
THRIFTY_SWEEPS = 4  # of choosing again for the file's sake
SWEEPS = 2  # over the pixels, each choosing again; a third changes nothing to speak of
BAND_ROWS = 8  # of the bands of a large picture that the palette is adapted to
FEW_ENTRIES = 32  # up to here fewer pixels say enough, and more rounds gain more


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The palette entry nearest to each distinct colour, and what is known about them.

    Attributes:
        entries: (n,) whole numbers; for a dithered picture without alpha only those that are just
            a colour matter, and -1 will do for the others.
        counts: (m,) int64, pixels of each entry, where that is known.
        wcss: Of the colours against their entries, in RGB units, likewise.
        are_own: Each entry is just the colour, or -1.
    """

    entries: Tensor
    counts: Tensor | None = None
    wcss: float | None = None
    are_own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Pixels expressed in a palette.

    Attributes:
        indices: (h, w) uint8.
        counts: (m,) int64, pixels of each entry.
        wcss: Of the mapped picture against the original, in RGB units.
    """

    indices: Tensor
    counts: Tensor
    wcss: float


def map_pixels(
    engine: Backend,
    histogram: Histogram,
    palette: Palette,
    labels: Labels,
    *,
    space: str,
    dither: float,
    method: str = "diffusion",
    thrift: float = 0.0,
) -> Mapping:
    """Give every pixel its palette entry.

    Args:
        engine: Who computes.
        histogram: The picture; with alpha wherever the palette has it.
        palette: Of as many channels as the histogram's colours.
        labels: The entry nearest to each colour of the histogram.
        space: Where colours are compared.
        dither: Strength, in [0, 1].
        method: Of dithering, one of METHODS.
        thrift: How much a pixel prefers the entries of those beside it, without dithering.

    Returns:
        The mapping. Never raises.
    """
    if not dither and not thrift:
        nearest = _looked_up(histogram, labels)
        counts, wcss, rows = labels.counts, labels.wcss, labels.entries
        if counts is None:
            masses = histogram.counts.double()
            counts = torch.bincount(rows.long(), masses, len(palette.colors)).long()
        if wcss is None:
            wcss = _weighted_wcss(histogram.colors, palette.colors, rows.long(), histogram.counts)
        return Mapping(indices=nearest, counts=counts, wcss=wcss)
    rows = labels.entries.long()
    features, entries = histogram.features(space), palette.to_features(space)
    inverse = histogram.inverse.reshape(histogram.shape[:2])
    if dither:
        own = rows
        if not labels.are_own:
            own = torch.where((features == entries[rows]).all(dim=1), rows, -1)
        indices = _dithered(
            engine, features, inverse, palette,
            space=space, strength=dither, method=method, own=own, sweeps=SWEEPS,
        )  # fmt: skip
    else:
        price = thrift * _typical_sq_distance(features, entries, rows, histogram.counts)
        indices = engine.economize(
            features, inverse, entries, rows, price=price, sweeps=THRIFTY_SWEEPS
        )
    if histogram.has_transparent:  # what is invisible takes no part
        indices = torch.where(inverse == 0, _looked_up(histogram, labels), indices)
    if not bool(palette.is_opaque.all()):  # what is opaque stays so
        shines = (opaque_colors(histogram.colors) & palette.is_opaque[rows])[inverse.long()]
        shows = shines & ~palette.is_opaque[indices.long()]
        indices = torch.where(shows, _looked_up(histogram, labels), indices)
    counts = torch.bincount(indices.reshape(-1), minlength=len(entries))
    sides = premultiplied(histogram.colors), premultiplied(palette.colors)
    total = engine.squared_error(sides[0], inverse, sides[1], indices)
    wcss = in_levels(total, histogram.colors.shape[1])
    return Mapping(indices=indices, counts=counts, wcss=wcss)


def _looked_up(histogram: Histogram, labels: Labels) -> Tensor:
    """Return the entry of each pixel's colour, (h, w) uint8."""
    if labels.entries.device.type == "cpu":  # numpy: torch's team of threads looks out for work
        entries = torch.from_numpy(labels.entries.numpy().astype(np.uint8))
    else:
        entries = labels.entries.to(torch.uint8)
    return entries.index_select(0, histogram.inverse).reshape(histogram.shape[:2])


def adapt_palette(
    engine: Backend,
    histogram: Histogram,
    palette: Palette,
    *,
    space: str,
    dither: float,
    method: str = "diffusion",
    kept: int = 0,
) -> Palette:
    """Move entries to where the dithered picture looks most like the original.

    Args:
        engine: Who computes.
        histogram: The picture, with alpha wherever the palette has it.
        palette: Where to start from.
        space: Where colours are compared and blurred.
        dither: Strength, in (0, 1].
        method: Of dithering, one of METHODS.
        kept: How many entries, the first ones, must stay as they are.

    Returns:
        The palette; entries that meet are merged. Never raises.
    """
    from gpu_kmeans.backends.moment_kernels import relax

    plane, placed = histogram.inverse.reshape(histogram.shape[:2]), histogram.features(space)
    fixed = palette.keep(torch.arange(len(palette.colors)) < kept)
    for enough in MORE if len(palette.colors) > FEW_ENTRIES else FEW:
        features, inverse = _sampled(placed, _bands(plane, enough), by_pixel=method == "diffusion")
        nobody = torch.full((len(features),), -1, device=features.device)
        entries = palette.to_features(space)
        indices = _dithered(
            engine, features, inverse, palette,
            space=space, strength=dither, method=method, own=nobody, sweeps=1,
        )  # fmt: skip
        found = engine.blurred_moments(features, inverse, indices, len(entries))
        meetings, sums = (moments.cpu().double().numpy() for moments in found)
        moved = entries.cpu().double().numpy()
        relax(moved, meetings, sums, kept, BEYOND, GRID)
        palette = fixed.joined(
            Palette.from_features(torch.from_numpy(moved[kept:]).to(entries.device), space)
        )
        kept = len(fixed.colors)
    return palette


def _dithered(
    engine: Backend,
    features: Tensor,
    inverse: Tensor,
    palette: Palette,
    *,
    space: str,
    strength: float,
    method: str,
    own: Tensor,
    sweeps: int,
) -> Tensor:
    """Dither by a method; at full strength no pixel chooses again, so that areas keep their means.

    Dots that are few and far between do not look right from as near as two pixels, and would go.
    """
    entries = palette.to_features(space)
    if method == "blue-noise":
        order = sort_key(palette.colors).argsort()
        return lay_out(mix(engine, features, entries, order, strength=strength, own=own), inverse)
    sweeps = 0 if strength == 1 else sweeps
    return engine.dither(features, inverse, entries, strength=strength, own=own, sweeps=sweeps)


def _sampled(features: Tensor, bands: Tensor, *, by_pixel: bool) -> tuple[Tensor, Tensor]:
    """Return the colours of bands, and where each pixel has its own among them.

    By pixel, in the order in which they are visited, where the picture has more colours than these
    have pixels, or each colour once.
    """
    if by_pixel and len(features) <= bands.numel():
        return features, bands
    if by_pixel:
        rows = torch.arange(bands.numel(), dtype=torch.int32, device=bands.device)
        return features.index_select(0, bands.reshape(-1)), rows.view(bands.shape)
    is_there = torch.zeros(len(features), dtype=torch.bool, device=bands.device)
    is_there[bands.reshape(-1).long()] = True
    places = is_there.cumsum(0, dtype=torch.int32) - 1
    return features[is_there], places[bands.long()]


def _bands(inverse: Tensor, enough: int) -> Tensor:
    """Take bands of rows, evenly spread, that hold enough pixels of a large picture."""
    h, w = inverse.shape
    count = max(1, enough // (BAND_ROWS * w))
    if count * BAND_ROWS >= h:
        return inverse
    starts = [(h - BAND_ROWS) * i // max(1, count - 1) for i in range(count)]
    return torch.cat([inverse[start : start + BAND_ROWS] for start in starts])


def _typical_sq_distance(
    features: Tensor, entries: Tensor, labels: Tensor, counts: Tensor
) -> float:
    """Return how far off pixels are, squared, in whole numbers until the end.

    The geometric mean of two means, of all pixels and of those that are off at all: in a drawing
    the former is next to nothing and the latter the shades of its edges; in a photograph they are
    the same.
    """
    squares = ((features - entries[labels]) ** 2).sum(dim=1).long()
    pixels, off = int(counts.sum()), int(counts[squares > 0].sum())
    return int((squares * counts).sum()) / math.sqrt(pixels * max(1, off))


def _weighted_wcss(colors: Tensor, entries: Tensor, labels: Tensor, counts: Tensor) -> float:
    """Add up squared differences in whole numbers: exact, whatever the order."""
    if colors.device.type == "cpu":
        # numpy: torch's team of threads costs more than it saves where the cores have other work
        # (kodim03, k = 64, both cores busy: 84 ms against 1 ms, of 270 ms in all).
        sides = (premultiplied(side).numpy().T for side in (colors, entries))
        total, rows, weights = 0, labels.numpy(), counts.numpy()
        for before, after in zip(*sides, strict=True):
            difference = before - after[rows]
            total += int(np.dot(np.square(difference, dtype=np.int64), weights))
    else:
        total = 0
        for before, after in zip(premultiplied(colors).T, premultiplied(entries).T, strict=True):
            difference = (before - after[labels]).long()
            total += int((difference * difference * counts).sum())
    return in_levels(total, colors.shape[1])
