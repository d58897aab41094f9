"""The one way through: pixels, histogram, colour space, k-means, palette, indices.

An image is a weighted set of colours. Count them, cluster them, map every pixel, done.

What may be chosen is in `quantize_options`; palettes come from `palette_fits`, and pictures from
palettes in `drawing`.
"""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from gpu_kmeans.backends import Backend, backend_for
from gpu_kmeans.backends.abilities import runs_ahead
from gpu_kmeans.backends.threads import beside
from gpu_kmeans.checks import as_tensor, check_number, check_pixels
from gpu_kmeans.color import srgb8_to_features
from gpu_kmeans.elbow import ElbowCurve, curve_ks, picture_curve
from gpu_kmeans.histogram import Histogram
from gpu_kmeans.mapping import given_palette, map_picture
from gpu_kmeans.palette import MAX_COLORS
from gpu_kmeans.palette_fits import fit_and_map, fit_and_map_all
from gpu_kmeans.progress import Progress, part_of, rising
from gpu_kmeans.quality import score
from gpu_kmeans.quantize_options import QuantizeOptions, check_palette, check_thrift
from gpu_kmeans.quantized_image import QuantizedImage, in_kind_of, in_order
from gpu_kmeans.targets import Targets, search_k

__all__ = ["QuantizedImage", "quantize", "quantize_batch"]

Pixels = UInt8[Tensor, "_h _w _c"] | UInt8[np.ndarray, "_h _w _c"]  # each of its own size
GROUP_PIXELS = 1 << 27  # of pictures fitted together: some 30 bytes of device memory each
FIRST_K = 32  # of a search for the smallest k that is good enough


def quantize(
    pixels: Pixels,
    k: int | str = 64,
    *,
    k_max: int = 20,
    min_psnr: float | None = None,
    min_quality: float | None = None,
    space: str = "rgb",
    dither: float = 0.0,
    dither_method: str = "diffusion",
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
            keeps the mean of every area. The computed colours are then moved to where the picture
            looks right from afar.
        dither_method: "diffusion", which looks best, or "blue-noise", where the same colour at the
            same place gets the same entry of a palette, whatever is beside it: for animations.
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
        dither_method=dither_method,
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
    dither_method: str = "diffusion",
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
        dither_method: See `quantize`.
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
        dither_method=dither_method,
        thrift=check_thrift(thrift, dither),
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
        if options.unheeded:
            said = options.unheeded
            found = [replace(image, warnings=(*image.warnings, *said)) for image in found]
        results += map(in_kind_of, originals[len(results) :], found)
    return results


def _groups(tensors: list[Tensor], options: QuantizeOptions, backend: str) -> list[list[Tensor]]:
    """Take pictures together where the engine runs ahead, as many as there is room for."""
    groups: list[list[Tensor]] = []
    is_plain = isinstance(options.k, int) and options.palette is None and not options.targets
    room = 0
    for pixels in tensors:
        engine = backend_for(pixels.device, backend)
        size = pixels.shape[0] * pixels.shape[1]
        if is_plain and runs_ahead(engine) and groups and size <= room:
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
    histograms = Histogram.from_all(group, engine)
    if len(group) == 1:
        return [quantize_histogram(engine, histograms[0], options, report)]
    fitted = fit_and_map_all(engine, histograms, options, report)
    images = [in_order(image, options.order) for image in fitted]
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
    return in_order(_reduce(engine, histogram, options, report), options.order)


def _reduce(
    engine: Backend, histogram: Histogram, options: QuantizeOptions, report: Progress
) -> QuantizedImage:
    if options.palette is not None:
        image = map_picture(engine, histogram, given_palette(options.palette, histogram), options)
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
        image = fit_and_map(engine, histogram, chosen, report)
        reason = "elbow" if image.k_reason == "asked" else image.k_reason
        said = (*image.warnings, *_on_the_knee(curve, least))
        return replace(image, k_reason=reason, curve=curve, warnings=said)
    if not options.curve:
        return fit_and_map(engine, histogram, options, report)
    return _fit_beside_curve(engine, histogram, options, report)


def _fit_beside_curve(
    engine: Backend, histogram: Histogram, options: QuantizeOptions, report: Progress
) -> QuantizedImage:
    """Compute the curve in a thread of its own: a search on merged colours keeps one core busy.

    Not on another device, where the other thread would not be on this one's stream.
    """
    if histogram.colors.device.type != "cpu":
        image = fit_and_map(engine, histogram, options, report)
        return replace(image, curve=picture_curve(engine, histogram, curve_ks(int(options.k))))
    stop, is_drawn = threading.Event(), threading.Event()

    def stop_with_the_fit(_: float) -> None:
        if stop.is_set():
            raise InterruptedError

    def draw_curve() -> ElbowCurve:
        with beside(is_drawn.is_set):
            return picture_curve(engine, histogram, curve_ks(int(options.k)), stop_with_the_fit)

    with ThreadPoolExecutor(1, thread_name_prefix="gpu-kmeans-curve") as pool:
        curve = pool.submit(draw_curve)
        try:
            with beside(curve.done):
                image = fit_and_map(engine, histogram, options, report)
        except BaseException:
            stop.set()
            raise
        finally:
            is_drawn.set()
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
            image = fit_and_map(engine, histogram, replace(options, k=k, curve=False), report)
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
    return 1 if reserve is None else len(given_palette(reserve, histogram, "reserve").colors)


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


def _on_the_knee(curve: ElbowCurve, least: int) -> list[str]:
    """Say in words where k is not the knee."""
    last = curve.ks[-1]
    said = [] if curve.knee else [f"the curve has no knee: its last k, {last}, was taken"]
    if least > (curve.knee or last):
        said.append(f"the reserved colours take {least} entries, more than the curve says")
    return said
