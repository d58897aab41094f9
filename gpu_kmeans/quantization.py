"""The one way through: pixels, histogram, colour space, k-means, palette, indices.

An image is a weighted set of colours. Count them, cluster them, map every pixel, done.

The search for good centroids runs on a few thousand merged colours, the last Lloyd iterations on
all distinct ones; then the centroids are rounded to 8 bits, and every colour is given the nearest
entry of the palette as written.
"""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from gpu_kmeans.areas import area_weights, settle_solid
from gpu_kmeans.backends import AheadBackend, Backend, Problems, backend_for
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.checks import as_tensor, check_integer, check_number, check_pixels, like
from gpu_kmeans.color import STEPS, check_space, srgb8_to_features
from gpu_kmeans.distances import OVER_RELAXED, cluster_means
from gpu_kmeans.dithering import Labels, adapt_palette, map_pixels
from gpu_kmeans.elbow import ElbowCurve, curve_ks, picture_curve
from gpu_kmeans.errors import OptionError, ShapeError
from gpu_kmeans.histogram import Histogram, coarse_points, coarsen_together
from gpu_kmeans.lloyd import INITS, Fit, descend
from gpu_kmeans.metrics import psnr_db
from gpu_kmeans.palette import MAX_COLORS, ORDERS, Palette, opaque_colors, sort_key
from gpu_kmeans.progress import Progress, part_of, rising
from gpu_kmeans.quality import score
from gpu_kmeans.refinement import REFINE_LEVELS
from gpu_kmeans.reserving import fit_around
from gpu_kmeans.targets import Targets, search_k

__all__ = ["QuantizedImage", "quantize", "quantize_batch"]

Pixels = UInt8[Tensor, "_h _w _c"] | UInt8[np.ndarray, "_h _w _c"]  # each of its own size
STILL = 1e-4  # the search has done its work: what further iterations gain is below what it may miss
GROUP_PIXELS = 1 << 27  # of pictures fitted together: some 20 bytes of device memory each
MAX_THRIFT = 10.0  # of a price far above which a picture is a few blots
FIRST_K = 32  # of a search for the smallest k that is good enough
ROUNDINGS = 2  # of the centroids to 8 bits, with a pass over the colours after each


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


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """What the caller may choose, checked; `quantize` says what each means."""

    k: int | str
    k_max: int
    targets: Targets
    space: str
    dither: float
    thrift: float
    solid: bool
    palette: Tensor | None
    reserve: Tensor | None
    order: str
    curve: bool
    init: str
    n_init: int
    max_iter: int
    tol: float
    refine: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            OptionError: Naming the option, what was got and what is allowed.
        """
        if not (isinstance(self.k, str) and self.k in ("elbow", "auto")):
            allowed = f"a whole number from 1 to {MAX_COLORS}, 'elbow' or 'auto'"
            try:
                check_integer("k", self.k, low=1, high=MAX_COLORS)
            except OptionError:
                raise OptionError("k", self.k, allowed) from None
        check_integer("k_max", self.k_max, low=2, high=MAX_COLORS)
        for name in ("min_psnr", "min_quality"):
            got = getattr(self.targets, name)
            if got is not None and self.k == "elbow":
                raise OptionError(
                    name, got, "none beside k='elbow', which is another way to choose"
                )
            if got is not None and self.palette is not None:
                raise OptionError(name, got, "none beside palette, which is what it is")
        check_space(self.space)
        if self.palette is not None and self.reserve is not None:
            raise OptionError("reserve", "colours", "none beside palette, which is the whole one")
        if str(self.order) not in ORDERS:
            raise OptionError("order", self.order, f"one of {', '.join(ORDERS)}")
        _check_switch("curve", self.curve)
        _check_switch("solid", self.solid)
        if str(self.init) not in INITS:  # an array answers "in" with an array
            raise OptionError("init", self.init, f"one of {', '.join(INITS)}")
        check_integer("n_init", self.n_init, low=1)
        check_integer("max_iter", self.max_iter, low=1)
        check_number("tol", self.tol, low=0)
        check_integer("refine", self.refine, low=0, high=max(REFINE_LEVELS))
        check_integer("seed", self.seed, low=0)

    def fit(self, k: int) -> Fit:
        """Return how k clusters are to be fitted."""
        return Fit(
            k=k,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            refine=self.refine,
            seed=self.seed,
        )


def quantize(
    pixels: Pixels,
    k: int | str = 64,
    *,
    k_max: int = 20,
    min_psnr: float | None = None,
    min_quality: float | None = None,
    space: str = "rgb",
    dither: float = 0.0,
    thrift: float = 0.0,
    solid: bool = False,
    palette: object = None,
    reserve: object = None,
    order: str = "given",
    curve: bool = False,
    init: str = "k-means++",
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    refine: int = 1,
    seed: int = 0,
    backend: str = "auto",
    on_progress: Progress | None = None,
) -> QuantizedImage:
    """Reduce a picture to at most k colours.

    Args:
        pixels: 8-bit sRGB (h, w, 3), or (h, w, 4) with straight alpha.
        k: Palette entries, 1 <= k <= 256, an upper bound; "elbow" for the knee of the curve up to
            k_max; "auto" for as few as reach min_psnr and min_quality, or 32 dB where neither is
            given.
        k_max: The largest k on the curve for k="elbow", 2 <= k_max <= 256.
        min_psnr: The least PSNR, in dB, from 0 to 200: the smallest k found that reaches it is
            taken, up to k where that is a number.
        min_quality: Likewise the least quality, from 0 to 100; see `gpu_kmeans.quality`.
        space: Where colours are compared: "rgb", "linear" or "oklab".
        dither: How much the picture counts as it looks from afar, rather than pixel by pixel,
            0 <= dither <= 1; 0 for not at all, 0.6 looks best, 1 is plain error diffusion, which
            keeps the mean of every area. The computed colours of an opaque picture are then moved
            to where it looks right from afar.
        thrift: How much pixels prefer the entries of those beside them, so that the file gets
            smaller, 0 <= thrift <= 10; without dithering. 0.5 is a good exchange, mostly of what
            an eye does not see. A pixel whose colour is in the palette keeps it.
        solid: Keep areas of one colour as they are, as well as so many entries can: pixels inside
            them count for more, and an entry of which one colour has a third of the weight is it.
        palette: The whole palette, uint8 (m, 3) or (m, 4), instead of computing one; k is not used.
            Equal colours are merged; where fully transparent pixels find no such colour in it, an
            entry for them is put first.
        reserve: Colours that must be in the palette, likewise: they come first, in this order, and
            the others are computed, k in all, or as many as are reserved where "elbow" or "auto"
            says fewer. A pixel of just such a colour keeps it.
        order: Of the palette: "luminance" (alpha, then luma), "popularity" (the commonest first),
            or "given": colours given as they were given, then the others by luminance.
        curve: Compute the elbow curve to k as well.
        init: "k-means++" or "random".
        n_init: How many times to start anew, the lowest WCSS being kept.
        max_iter: The most Lloyd iterations.
        tol: See `gpu_kmeans.kmeans`.
        refine: How hard to look for a better optimum than Lloyd's. 0: not at all, and all distinct
            colours from the first iteration, as in the textbook; 1; 2.
        seed: Of the random choices, 0 <= seed.
        backend: "auto", or one of `gpu_kmeans.backends.available_backends()`.
        on_progress: Called between iterations with the share of the work done, in [0, 1]; what it
            raises ends the fit.

    Returns:
        The picture, its palette and what there is to say about them.

    Raises:
        ShapeError: pixels or palette are not of a shape or type named above.
        OptionError: An option is out of range.
        DeviceError: The backend cannot run here.

    Example:
        >>> picture = np.array([[[0, 0, 0], [2, 2, 2], [255, 255, 255]]], np.uint8)
        >>> quantize(picture, 2).palette.tolist()
        [[1, 1, 1], [255, 255, 255]]
    """
    return quantize_batch(
        [pixels],
        k,
        k_max=k_max,
        min_psnr=min_psnr,
        min_quality=min_quality,
        space=space,
        dither=dither,
        thrift=thrift,
        solid=solid,
        palette=palette,
        reserve=reserve,
        order=order,
        curve=curve,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        tol=tol,
        refine=refine,
        seed=seed,
        backend=backend,
        on_progress=on_progress,
    )[0]


def quantize_batch(
    images: Iterable[Pixels],
    k: int | str = 64,
    *,
    k_max: int = 20,
    min_psnr: float | None = None,
    min_quality: float | None = None,
    space: str = "rgb",
    dither: float = 0.0,
    thrift: float = 0.0,
    solid: bool = False,
    palette: object = None,
    reserve: object = None,
    order: str = "given",
    curve: bool = False,
    init: str = "k-means++",
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    refine: int = 1,
    seed: int = 0,
    backend: str = "auto",
    on_progress: Progress | None = None,
) -> list[QuantizedImage]:
    """Reduce several pictures, of any sizes, each to its own palette.

    Args:
        images: Each as `pixels` of `quantize`, all on one device.
        k: See `quantize`, as all that follow.
        k_max: See `quantize`.
        min_psnr: See `quantize`.
        min_quality: See `quantize`.
        space: See `quantize`.
        dither: See `quantize`.
        thrift: See `quantize`.
        solid: See `quantize`.
        palette: See `quantize`; the same for all.
        reserve: See `quantize`; the same for all.
        order: See `quantize`.
        curve: See `quantize`.
        init: See `quantize`.
        n_init: See `quantize`.
        max_iter: See `quantize`.
        tol: See `quantize`.
        refine: See `quantize`.
        seed: See `quantize`.
        backend: See `quantize`.
        on_progress: See `quantize`.

    Returns:
        One result for each, the same as it would be alone.

    Raises:
        ShapeError: See `quantize`.
        OptionError: See `quantize`.
        DeviceError: See `quantize`.

    Example:
        >>> [image.k for image in quantize_batch([np.zeros((1, 1, 3), np.uint8)] * 2)]
        [1, 1]
    """
    options = QuantizeOptions(
        k=k,
        k_max=k_max,
        targets=Targets.of(k if palette is None else None, min_psnr, min_quality),
        space=space,
        dither=check_number("dither", dither, low=0, high=1),
        thrift=_check_thrift(thrift, dither),
        solid=solid,
        palette=None if palette is None else check_palette(palette),
        reserve=None if reserve is None else check_palette(reserve, "reserve"),
        order=order,
        curve=curve,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        tol=tol,
        refine=refine,
        seed=seed,
    )
    originals = list(images)
    tensors = [check_pixels(image) for image in originals]
    overall, results = rising(on_progress), list[QuantizedImage]()
    groups = _groups(tensors, options, backend)
    for i, group in enumerate(groups):
        engine = backend_for(group[0].device, backend)
        found = _quantize(engine, group, options, part_of(overall, i, len(groups)))
        results += map(_in_kind_of, originals[len(results) :], found)
    return results


def _groups(tensors: list[Tensor], options: QuantizeOptions, backend: str) -> list[list[Tensor]]:
    """Take pictures together where the engine runs ahead, as many as there is room for."""
    groups: list[list[Tensor]] = []
    is_plain = isinstance(options.k, int) and options.palette is None and not options.targets
    room = 0
    for pixels in tensors:
        engine = backend_for(pixels.device, backend)
        size = pixels.shape[0] * pixels.shape[1]
        if is_plain and isinstance(engine, AheadBackend) and groups and size <= room:
            groups[-1].append(pixels)
            room -= size
        else:
            groups.append([pixels])
            room = GROUP_PIXELS - size
    return groups


def _quantize(
    engine: Backend, group: list[Tensor], options: QuantizeOptions, report: Progress
) -> list[QuantizedImage]:
    """Go the one way through, for one picture or for several that are fitted together."""
    histograms = [Histogram.from_pixels(pixels, engine) for pixels in group]
    if len(group) == 1:
        return [quantize_histogram(engine, histograms[0], options, report)]
    fitted = _fit_and_draw_all(engine, histograms, options, report)
    images = [_in_order(image, options.order) for image in fitted]
    if not options.curve:
        return images
    ks = curve_ks(int(options.k))
    pairs = zip(images, histograms, strict=True)
    return [replace(image, curve=picture_curve(engine, of, ks)) for image, of in pairs]


def quantize_histogram(
    engine: Backend, histogram: Histogram, options: QuantizeOptions, report: Progress
) -> QuantizedImage:
    """Go on from where the colours are counted.

    Args:
        engine: Who computes.
        histogram: Of a picture.
        options: What the caller chose.
        report: Told the share of the work done.

    Returns:
        The picture, on the engine's device.

    Raises:
        ShapeError: A palette given has alpha, and the picture has none.
        OptionError: Colours given are too many.
    """
    return _in_order(_reduce(engine, histogram, options, report), options.order)


def _in_order(image: QuantizedImage, order: str) -> QuantizedImage:
    """Renumber the palette; of equals in popularity the darker comes first."""
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


def _reduce(
    engine: Backend, histogram: Histogram, options: QuantizeOptions, report: Progress
) -> QuantizedImage:
    if options.palette is not None:
        image = _draw(engine, histogram, _given(options.palette, histogram), options)
        ks = curve_ks(image.k)
        return (
            replace(image, curve=picture_curve(engine, histogram, ks)) if options.curve else image
        )
    if options.targets:
        return _smallest(engine, histogram, options, report)
    if options.k == "elbow":
        curve = picture_curve(engine, histogram, range(1, options.k_max + 1), report)
        least = _least_k(options.reserve, histogram)
        chosen = replace(options, k=max(curve.knee or curve.ks[-1], least), curve=False)
        image = _fit_and_draw(engine, histogram, chosen, report)
        reason = "elbow" if image.k_reason == "asked" else image.k_reason
        said = (*image.warnings, *_on_the_knee(curve, least))
        return replace(image, k_reason=reason, curve=curve, warnings=said)
    if not options.curve:
        return _fit_and_draw(engine, histogram, options, report)
    return _fit_beside_curve(engine, histogram, options, report)


def _fit_beside_curve(
    engine: Backend, histogram: Histogram, options: QuantizeOptions, report: Progress
) -> QuantizedImage:
    """Compute the curve in a thread of its own: a search on merged colours keeps one core busy.

    Not on another device, where the other thread would not be on this one's stream.
    """
    if histogram.colors.device.type != "cpu":
        image = _fit_and_draw(engine, histogram, options, report)
        return replace(image, curve=picture_curve(engine, histogram, curve_ks(int(options.k))))
    stop = threading.Event()

    def stop_with_the_fit(_: float) -> None:
        if stop.is_set():
            raise InterruptedError

    with ThreadPoolExecutor(1, thread_name_prefix="gpu-kmeans-curve") as pool:
        ks = curve_ks(int(options.k))
        curve = pool.submit(picture_curve, engine, histogram, ks, stop_with_the_fit)
        try:
            image = _fit_and_draw(engine, histogram, options, report)
        except BaseException:
            stop.set()
            raise
        return replace(image, curve=curve.result())


def _smallest(
    engine: Backend, histogram: Histogram, options: QuantizeOptions, report: Progress
) -> QuantizedImage:
    """Find the smallest k that is good enough, in a few fits."""
    targets, most = options.targets, MAX_COLORS if options.k == "auto" else int(options.k)
    least = _least_k(options.reserve, histogram)
    features = None if targets.min_quality is None else _for_the_eye(histogram.colors)
    fits: dict[int, QuantizedImage] = {}
    search = search_k(min(least, most), most, FIRST_K)
    try:
        k = next(search)
        while True:
            image = _fit_and_draw(engine, histogram, replace(options, k=k, curve=False), report)
            fits[k] = image = _with_quality(engine, image, histogram, features)
            k = search.send(targets.lack(image.psnr_db, image.quality))
    except StopIteration as end:
        k = min(end.value[1], most)
    image = fits[k]
    if targets.lack(image.psnr_db, image.quality) > 0:
        short = targets.shortfall(image.k, image.psnr_db, image.quality)
        image = replace(image, warnings=(*image.warnings, short))
    elif image.k_reason == "asked":
        image = replace(image, k_reason=targets.reason(image.psnr_db, image.quality))
    if not options.curve:
        return image
    return replace(image, curve=picture_curve(engine, histogram, curve_ks(image.k), report))


def _least_k(reserve: Tensor | None, histogram: Histogram) -> int:
    return 1 if reserve is None else len(_given(reserve, histogram, "reserve").colors)


def _with_quality(
    engine: Backend, image: QuantizedImage, histogram: Histogram, features: Tensor | None
) -> QuantizedImage:
    """Score a picture against the colours it came from."""
    if features is None:
        return image
    entries = _for_the_eye(as_tensor("palette", image.palette)[:, : features.shape[1]])
    places = histogram.inverse.reshape(histogram.shape[:2])
    return replace(
        image, quality=score(engine, features, places, entries, as_tensor("indices", image.indices))
    )


def _for_the_eye(colors: Tensor) -> Tensor:
    return srgb8_to_features(colors, "oklab")


def _working_shape(histogram: Histogram) -> tuple[int, int]:
    """Pixels and channels: as many pixels as were counted, which a tally has in no plane."""
    return int(histogram.counts.sum()), histogram.colors.shape[1]


def _on_the_knee(curve: ElbowCurve, least: int) -> list[str]:
    """Say in words where k is not the knee."""
    last = curve.ks[-1]
    said = [] if curve.knee else [f"the curve has no knee: its last k, {last}, was taken"]
    if least > (curve.knee or last):
        said.append(f"the reserved colours take {least} entries, more than the curve says")
    return said


def _fit_and_draw(
    engine: Backend, histogram: Histogram, options: QuantizeOptions, report: Progress
) -> QuantizedImage:
    """Cluster the colours into a palette and map the picture to it."""
    return _fit_and_draw_all(engine, [histogram], options, report)[0]


def _fit_and_draw_all(
    engine: Backend, histograms: list[Histogram], options: QuantizeOptions, report: Progress
) -> list[QuantizedImage]:
    """Cluster the colours of each picture, those of equal k and channels together, and map it."""
    found: dict[int, QuantizedImage] = {}
    alike: dict[tuple[int, int], list[int]] = {}
    for i, histogram in enumerate(histograms):
        if options.reserve is not None:
            found[i] = _fit_around_and_draw(engine, histogram, options.reserve, options, report)
        elif len(histogram.colors) <= int(options.k):
            found[i] = _draw_as_it_is(engine, histogram, options)
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


def _draw_as_it_is(
    engine: Backend, histogram: Histogram, options: QuantizeOptions
) -> QuantizedImage:
    """Take a picture's own colours: there are few enough."""
    k, distinct = int(options.k), len(histogram.colors)
    order = sort_key(histogram.colors).argsort(stable=True)
    palette = Palette.from_colors(histogram.colors[order])
    image = _draw(
        engine, histogram, palette, replace(options, dither=0.0), Labels(entries=order.argsort())
    )
    warning = (f"the picture has {distinct} distinct colours, k={k} was asked",)
    return replace(image, k_reason="distinct colors", warnings=warning if distinct < k else ())


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
    drawn = zip(histograms, masses, descents, rounded, strict=True)
    for histogram, mass, descent, (palette, found) in drawn:
        labels: Labels | None = found
        if _reserved(histogram, options):  # what is hardly visible may be nearest to transparent
            palette, labels = palette.with_transparent(), None  # noqa: PLW2901
        is_opaque = palette.colors.shape[1] == 3  # noqa: PLR2004
        if options.solid or options.dither or not is_opaque:
            kept = _reserved(histogram, options)
            palette, labels = _settled(engine, histogram, mass, palette, options, kept=kept), None  # noqa: PLW2901
        image = _draw(engine, histogram, palette, options, labels)
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


def _fit_around_and_draw(
    engine: Backend,
    histogram: Histogram,
    colors: Tensor,
    options: QuantizeOptions,
    report: Progress,
) -> QuantizedImage:
    """Keep the reserved colours, compute the others."""
    reserved, k = _given(colors, histogram, "reserve"), int(options.k)
    kept = len(reserved.colors)
    if kept > k:
        raise OptionError("reserve", f"{kept} colours", f"up to k={k}, transparency included")
    histogram = histogram.with_channels(reserved.colors.shape[1])
    order = sort_key(histogram.colors).argsort(stable=True)
    own = Palette.from_colors(torch.cat([reserved.colors, histogram.colors[order]]))
    if len(own.colors) <= k:
        image = _draw(engine, histogram, own, replace(options, dither=0.0), kept=kept)
        few = f"{len(own.colors)} distinct colours, reserved ones included, k={k} was asked"
        said = (few,) if len(own.colors) < k else ()
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
    image = _draw(engine, histogram, palette, options, kept=kept)
    return replace(image, n_iter=n_iter, converged=converged)


def _weights(histogram: Histogram, options: QuantizeOptions) -> Tensor:
    """Return how much each colour counts."""
    if not options.solid:
        return histogram.counts.double()
    return area_weights(histogram.counts, histogram.inverse.reshape(histogram.shape[:2]))


def _settled(
    engine: Backend,
    histogram: Histogram,
    weights: Tensor,
    palette: Palette,
    options: QuantizeOptions,
    *,
    kept: int,
) -> Palette:
    """Move computed entries, all but the first `kept`, to where the picture looks right."""
    fixed = kept
    if options.solid:
        labels = _nearest_entries(engine, histogram, palette, options.space).long()
        palette, fixed = settle_solid(palette, histogram.colors, weights, labels, kept=kept)
    if palette.colors.shape[1] == 4:  # noqa: PLR2004
        palette = _with_opaque(engine, histogram, palette, options.space, kept=kept)
    elif options.dither and fixed < len(palette.colors):
        palette = adapt_palette(
            engine, histogram, palette, space=options.space, dither=options.dither, kept=fixed
        )
    return palette.sorted(kept) if options.solid else palette


def _with_opaque(
    engine: Backend, histogram: Histogram, palette: Palette, space: str, *, kept: int
) -> Palette:
    """Make opaque what serves opaque colours for the most part, so that none will shine through.

    A mean of opaque colours and of some that are not quite is not quite opaque itself. Where there
    are opaque colours, one entry is opaque in any case; the first `kept` stay as they are.
    """
    is_opaque = opaque_colors(histogram.colors)
    computed = torch.arange(len(palette.colors), device=is_opaque.device) >= kept
    if not bool(is_opaque.any()) or not bool(computed.any()):
        return palette
    features = histogram.features(space)
    labels = _nearest_rows(engine, features, palette.to_features(space))
    counts, size = histogram.counts.double(), len(palette.colors)
    masses = torch.bincount(labels, counts, size)
    solid = torch.bincount(labels, counts * is_opaque, size) * computed
    becomes = (solid > 0) & (2 * solid >= masses)
    if not bool((becomes | palette.is_opaque).any()):
        solid = solid + computed  # of nothing but reserved ones, the first computed one
        becomes[(solid == solid.max()).nonzero()[0]] = True
    colors, centroids = palette.colors.clone(), palette.centroids.clone()
    colors[becomes, 3], centroids[becomes, 3] = 255, 255.0
    changed = Palette(colors=colors, centroids=centroids)
    return palette.keep(~computed).joined(changed.keep(computed).sorted())


def _round_to_8_bits(
    engine: Backend, problems: Problems, means: list[Tensor], space: str
) -> list[tuple[Palette, Labels]]:
    """Round centroids, give the colours to the rounded ones, round their means: keep the better."""
    tries: list[list[tuple[float, Palette, Labels]]] = [[] for _ in means]
    for _ in range(ROUNDINGS):
        palettes = [Palette.from_features(of_one, space) for of_one in means]
        centroids = [palette.to_features(space) for palette in palettes]
        offsets = tuple(accumulate((len(c) for c in centroids), initial=0))
        found = engine.assign_accumulate(problems, torch.cat(centroids), offsets, labels=True)
        moved = cluster_means(torch.cat(centroids), found)
        means = [moved[a:b] for a, b in pairwise(offsets)]
        for b, wcss in enumerate(found.wcss.tolist()):
            labels = Labels(
                entries=found.labels[problems.spans[b]],
                counts=found.masses[offsets[b] : offsets[b + 1]].long(),
                wcss=wcss / STEPS**2 if space == "rgb" else None,
            )
            tries[b].append((wcss, palettes[b], labels))
    return [min(of_one, key=lambda t: t[0])[1:] for of_one in tries]


def _draw(
    engine: Backend,
    histogram: Histogram,
    palette: Palette,
    options: QuantizeOptions,
    labels: Labels | None = None,
    *,
    kept: int = 0,
) -> QuantizedImage:
    """Map every pixel to the palette, drop computed entries without any, measure the result."""
    histogram = histogram.with_channels(palette.colors.shape[1])
    if labels is None and options.dither and histogram.colors.shape[1] == 3:  # noqa: PLR2004
        nobody = torch.tensor(-1, device=palette.colors.device)
        labels = Labels(entries=_own_entries(histogram, palette, nobody))
    elif labels is None:
        labels = Labels(entries=_nearest_entries(engine, histogram, palette, options.space))
    mapping = map_pixels(
        engine,
        histogram,
        palette,
        labels,
        space=options.space,
        dither=options.dither,
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
        psnr_db=psnr_db(mapping.wcss, _working_shape(histogram)),
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


def _nearest_entries(engine: Backend, histogram: Histogram, palette: Palette, space: str) -> Tensor:
    """Find each colour's nearest entry; the same colour, where the palette has it, always wins.

    Without that, colours that share a place on the grid of a space would be taken for one another.
    """
    features, entries = histogram.features(space), palette.to_features(space)
    labels = _nearest_rows(engine, features, entries)
    shines = opaque_colors(histogram.colors) & ~palette.is_opaque[labels]
    if bool(shines.any()) and bool(palette.is_opaque.any()):  # opaque stays opaque
        rows = palette.is_opaque.nonzero()[:, 0]
        labels[shines] = rows[_nearest_rows(engine, features[shines], entries[rows])]
    return _own_entries(histogram, palette, labels)


def _own_entries(histogram: Histogram, palette: Palette, others: Tensor) -> Tensor:
    """Find the entry that is just a colour's own, for each that has one; `others` say the rest."""
    names, order = morton_codes(palette.colors).sort()
    codes = morton_codes(histogram.colors)
    place = torch.searchsorted(names, codes).clamp(max=len(names) - 1)
    return torch.where(names[place] == codes, order[place], others)


def _nearest_rows(engine: Backend, features: Tensor, entries: Tensor) -> Tensor:
    problem = engine.pack([features], [torch.ones_like(features[:, 0]).double()], is_integral=True)
    found = engine.assign_accumulate(problem, entries, (0, len(entries)), labels=True)
    return found.labels.long()


def _given(colors: Tensor, histogram: Histogram, name: str = "palette") -> Palette:
    """Take the caller's palette, with an entry for transparent pixels where they need one."""
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


def _check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise OptionError(name, value, "True or False")


def _check_thrift(thrift: float, dither: float) -> float:
    checked = check_number("thrift", thrift, low=0, high=MAX_THRIFT)
    if checked and dither:
        raise OptionError("thrift", thrift, "0 beside dither, which wants neighbours to differ")
    return checked


def check_palette(palette: object, name: str = "palette") -> Tensor:
    """Take the colours of a caller, uint8 (m, 3) or (m, 4).

    Raises:
        ShapeError: They are of another shape or type.
        OptionError: They are none, or too many.
    """
    colors = as_tensor(name, palette)
    if colors.dtype != torch.uint8 or colors.ndim != 2 or colors.shape[1] not in (3, 4):  # noqa: PLR2004
        got = f"{str(colors.dtype).removeprefix('torch.')} {tuple(colors.shape)}"
        raise ShapeError(f"a {name} must be uint8 (m, 3) or (m, 4), got {got}")
    if not 1 <= len(colors) <= MAX_COLORS:
        raise OptionError(name, f"{len(colors)} colours", f"1 to {MAX_COLORS}")
    return colors


def _in_kind_of(original: object, image: QuantizedImage) -> QuantizedImage:
    return replace(
        image,
        indices=like(image.indices, original),
        palette=like(image.palette, original),
        counts=like(image.counts, original),
        centroids=like(image.centroids, original),
    )
