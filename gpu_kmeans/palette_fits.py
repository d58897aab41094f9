"""From the colours of pictures to their palettes.

The search for good centroids runs on a few thousand merged colours, the last Lloyd iterations on
all distinct ones; then the centroids are rounded to 8 bits, and moved to where the picture looks
right where that is asked.
"""

from dataclasses import replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from gpu_kmeans.areas import area_weights, settle_solid
from gpu_kmeans.backends import Backend, Problems
from gpu_kmeans.color import STEPS, srgb8_to_features
from gpu_kmeans.descent import descend
from gpu_kmeans.distances import OVER_RELAXED, cluster_means
from gpu_kmeans.dithering import Labels, adapt_palette
from gpu_kmeans.errors import OptionError
from gpu_kmeans.histogram import Histogram, coarse_points, coarsen_together
from gpu_kmeans.lloyd import Fit
from gpu_kmeans.mapping import given_palette, keep_own_colors, map_picture, nearest_entries
from gpu_kmeans.opacity import settle_opaque
from gpu_kmeans.palette import Palette, sort_key
from gpu_kmeans.progress import Progress, part_of
from gpu_kmeans.quantize_options import QuantizeOptions
from gpu_kmeans.quantized_image import QuantizedImage
from gpu_kmeans.reserving import fit_around
from gpu_kmeans.vacancies import map_in_full

__all__ = ["fit_and_map", "fit_and_map_all"]

STILL = 1e-4  # the search has done its work: what further iterations gain is below what it may miss
ROUNDINGS = 2  # of the centroids to 8 bits, with a pass over the colours after each


def fit_and_map(
    engine: Backend, histogram: Histogram, options: QuantizeOptions, report: Progress
) -> QuantizedImage:
    """Cluster the colours into a palette and map the picture to it; see `fit_and_map_all`."""
    return fit_and_map_all(engine, [histogram], options, report)[0]


def fit_and_map_all(
    engine: Backend, histograms: list[Histogram], options: QuantizeOptions, report: Progress
) -> list[QuantizedImage]:
    """Cluster the colours of each picture, those of equal k and channels together, and map it.

    Args:
        engine: Who computes.
        histograms: One for each picture.
        options: The same for all, k being a number.
        report: Told the share of the work done.

    Returns:
        A picture for each.

    Raises:
        ShapeError: Reserved colours have alpha, and a picture has none.
        OptionError: Reserved colours are more than k.
    """
    found: dict[int, QuantizedImage] = {}
    alike: dict[tuple[int, int], list[int]] = {}
    for i, histogram in enumerate(histograms):
        if options.reserve is not None:
            found[i] = _fit_around_and_map(engine, histogram, options.reserve, options, report)
        elif len(histogram.colors) <= int(options.k):
            found[i] = keep_own_colors(engine, histogram, options)
        else:
            k = int(options.k) - _reserved(histogram, options)
            alike.setdefault((k, histogram.colors.shape[1]), []).append(i)
    for (k, _), members in alike.items():
        group = [histograms[i] for i in members]
        images = _fit_group(engine, group, options.fit(k), options, report)
        found.update(zip(members, images, strict=True))
    return [found[i] for i in range(len(histograms))]


def _reserved(histogram: Histogram, options: QuantizeOptions) -> int:
    """Return how many entries are the transparent one's."""
    return int(histogram.has_transparent and int(options.k) > 1)


def _fit_group(
    engine: Backend,
    histograms: list[Histogram],
    fit: Fit,
    options: QuantizeOptions,
    report: Progress,
) -> list[QuantizedImage]:
    """Cluster the colours of pictures of as many channels into as many clusters, and map them."""
    masses = [_weights(histogram, options) for histogram in histograms]
    fine, sets = _points(engine, histograms, masses, options)
    if options.refine:
        descents = descend(
            engine,
            fine,
            fit.search_together(engine, sets, options.init, report),
            max_iter=options.max_iter,
            tol=options.tol,
            still=STILL,
            on_iteration=lambda _: report(1.0),
            metric=OVER_RELAXED,
            labels=False,
        )
    else:
        singles = _apart(engine, fine)
        descents = [
            fit.run(engine, one, options.init, part_of(report, i, len(singles)))
            for i, one in enumerate(singles)
        ]
    means = [descent.means for descent in descents]
    rounded = _round_to_8_bits(engine, fine, means, options.space)
    images = []
    mapped = zip(histograms, masses, descents, rounded, strict=True)
    for histogram, mass, descent, (palette, found) in mapped:
        labels: Labels | None = found
        kept = _reserved(histogram, options)
        if kept:  # what is hardly visible may be nearest to transparent
            palette, labels = palette.with_transparent(), None  # noqa: PLW2901
        is_opaque = palette.colors.shape[1] == 3  # noqa: PLR2004
        if options.solid or options.dither or not is_opaque:
            known = labels.entries if labels and is_opaque else None
            palette = _settled(engine, histogram, mass, palette, options, kept=kept, labels=known)  # noqa: PLW2901
            labels = None
        image = map_in_full(engine, histogram, palette, options, labels, kept=kept)
        images.append(replace(image, n_iter=descent.n_iter, converged=descent.converged))
    return images


def _points(
    engine: Backend, histograms: list[Histogram], masses: list[Tensor], options: QuantizeOptions
) -> tuple[Problems, list[tuple[Tensor, Tensor]]]:
    """Return the visible colours of all pictures, packed, and of each the merged ones."""
    space, few = options.space, coarse_points(int(options.k))
    visible = [slice(_reserved(histogram, options), None) for histogram in histograms]
    if len(histograms) == 1 and not visible[0].start and not options.solid:  # the curve's as well
        fine = histograms[0].problem(engine, space)
        return fine, [histograms[0].merged(engine, space, few)] if options.refine else []
    pairs = list(zip(histograms, visible, strict=True))
    weights = [of_one[rows] for of_one, rows in zip(masses, visible, strict=True)]
    features = [histogram.features(space)[rows] for histogram, rows in pairs]
    fine = engine.pack(features, weights, is_integral=True)
    if not options.refine:
        return fine, []
    colors = [histogram.colors[rows] for histogram, rows in pairs]
    return fine, coarsen_together(engine, colors, features, weights, few)


def _apart(engine: Backend, problems: Problems) -> list[Problems]:
    """Return each problem by itself."""
    if len(problems.spans) == 1:
        return [problems]
    return [
        engine.pack([problems.points[rows]], [problems.weights[rows]], is_integral=True)
        for rows in problems.spans
    ]


def _fit_around_and_map(
    engine: Backend,
    histogram: Histogram,
    colors: Tensor,
    options: QuantizeOptions,
    report: Progress,
) -> QuantizedImage:
    """Keep the reserved colours, compute the others."""
    reserved, k = given_palette(colors, histogram, "reserve"), int(options.k)
    kept = len(reserved.colors)
    if kept > k:
        raise OptionError("reserve", f"{kept} colours", f"up to k={k}, transparency included")
    histogram = histogram.with_channels(reserved.colors.shape[1])
    order = sort_key(histogram.colors).argsort(stable=True)
    own = Palette.from_colors(torch.cat([reserved.colors, histogram.colors[order]]))
    if len(own.colors) <= k:
        image = map_picture(engine, histogram, own, replace(options, dither=0.0), kept=kept)
        n = len(own.colors)
        few = f"there {'are' if n > 1 else 'is'} only {n} distinct colour{'s' * (n > 1)}"
        said = (f"{few}, reserved ones included",) if n < k else ()
        return replace(image, k_reason="distinct colors", warnings=said)
    fit, weights = replace(options.fit(k), k=k - kept), _weights(histogram, options)
    palette, n_iter, converged = fit_around(
        engine,
        reserved,
        histogram.colors,
        weights,
        fit=fit,
        init=options.init,
        space=options.space,
        on_progress=report,
    )
    palette = _settled(engine, histogram, weights, palette, options, kept=kept)
    image = map_in_full(engine, histogram, palette, options, kept=kept)
    return replace(image, n_iter=n_iter, converged=converged)


def _weights(histogram: Histogram, options: QuantizeOptions) -> Tensor:
    """Return how much each colour counts."""
    if not options.solid:
        return histogram.weights()
    return area_weights(histogram.counts, histogram.inverse.reshape(histogram.shape[:2]))


def _settled(
    engine: Backend,
    histogram: Histogram,
    weights: Tensor,
    palette: Palette,
    options: QuantizeOptions,
    *,
    kept: int,
    labels: Tensor | None = None,
) -> Palette:
    """Move computed entries, all but the first `kept`, to where the picture looks right.

    `labels` are the entries nearest to the colours, where they are known.
    """
    fixed = kept
    if options.solid:
        labels = nearest_entries(engine, histogram, palette, options.space, labels)
        palette, fixed = settle_solid(palette, histogram.colors, weights, labels, kept=kept)
    if options.dither and fixed < len(palette.colors):
        palette = adapt_palette(
            engine, histogram, palette,
            space=options.space, dither=options.dither, method=options.dither_method, kept=fixed,
        )  # fmt: skip
    if palette.colors.shape[1] == 4:  # noqa: PLR2004
        palette = settle_opaque(engine, histogram, palette, options.space, kept=kept)
    return palette.sorted(kept) if options.solid else palette


def _round_to_8_bits(
    engine: Backend, problems: Problems, means: list[Tensor], space: str
) -> list[tuple[Palette, Labels]]:
    """Round centroids, give the colours to the rounded ones, round their means: keep the better."""
    tries: list[list[tuple[float, Palette, Labels]]] = [[] for _ in means]
    centers, spans = torch.stack(means), problems.spans
    for _ in range(ROUNDINGS):
        palettes = Palette.all_from_features(centers, space)
        offsets = tuple(accumulate((len(own.colors) for own in palettes), initial=0))
        colors = torch.cat([own.colors for own in palettes])
        centroids = srgb8_to_features(colors, space)
        found = engine.assign_accumulate(problems, centroids, offsets, labels=True)
        counts = found.masses.long()
        for b, wcss in enumerate(found.wcss.tolist()):
            labels = Labels(
                entries=found.labels[spans[b]],
                counts=counts[offsets[b] : offsets[b + 1]],
                wcss=wcss / STEPS**2 if space == "rgb" else None,
            )
            tries[b].append((wcss, palettes[b], labels))
        if len(tries[0]) < ROUNDINGS:
            moved = cluster_means(centroids, found)
            centers = _stacked([moved[a:b] for a, b in pairwise(offsets)])
    return [min(of_one, key=lambda t: t[0])[1:] for of_one in tries]


def _stacked(rows: list[Tensor]) -> Tensor:
    """Stack palettes; one that is shorter, entries being merged, ends in copies of its last."""
    most = max(map(len, rows))
    full = [own if len(own) == most else _with_copies(own, most) for own in rows]
    return torch.stack(full)


def _with_copies(own: Tensor, most: int) -> Tensor:
    return torch.cat([own, own[-1:].expand(most - len(own), -1)])
