"""The plots of the doors, step by step: read, compute, draw.

They read, admit and compute as every other use case does; what is to be drawn is cut down here, and
drawn in a process of its own, one plot at a time.
"""

from dataclasses import dataclass

import numpy as np

from app.answers import timing
from app.codecs import DecodedPicture
from app.compression import Made
from app.errors import BadPoints
from app.jobs import OnProgress, QuantizeJob, public_errors
from app.options import CompressOptions, CubeOptions, StepsOptions, TrapOptions, add_options
from app.plot_jobs import StepsJob, TrapJob
from app.points import Points, looks_like_points
from app.schemas import ClusterAnswer, ElbowAnswer, Timing
from app.service import Service
from app.sketches import (
    PlotFormat,
    Sketch,
    Starts,
    Step,
    check_plane,
    reduce_picture,
    sample_colors,
    sample_steps,
)
from gpu_kmeans import QuantizedImage

_RGB = 3  # channels before alpha
_TRAP_POINTS = 5000  # of a picture: the trap is in where they lie, not in how many they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A plot as a file.

    Attributes:
        data: The file.
        timing_ms: Where the time went; drawing is encoding.
    """

    data: bytes
    timing_ms: Timing


async def plot_comparison(
    service: Service,
    encoded: bytes,
    options: CompressOptions,
    plot_format: PlotFormat,
    on_progress: OnProgress | None = None,
) -> Drawing:
    """Draw a picture beside what `/compress` makes of it.

    Raises:
        ServiceError: The picture does not decode, or an option does not fit it.
    """
    async with service.decoded(encoded) as (picture, decode_ms):
        made = await service.reduce(picture, options, on_progress=on_progress)
        data, draw_ms = await service.draw(plot_format, _sketch_comparison, picture, made)
    return Drawing(data=data, timing_ms=timing(made.outcome, decode_ms, made.encode_ms + draw_ms))


async def plot_cube(
    service: Service,
    encoded: bytes,
    options: CubeOptions,
    plot_format: PlotFormat,
    on_progress: OnProgress | None = None,
) -> Drawing:
    """Draw the colours of a picture in the RGB cube, with their centroids.

    Raises:
        ServiceError: The picture does not decode.
    """
    async with service.decoded(encoded) as (picture, decode_ms):
        keywords = options.model_dump()
        job = QuantizeJob(pixels=picture.pixels, options=keywords, on_progress=on_progress)
        outcome = await service.compute(job)
        data, draw_ms = await service.draw(plot_format, _sketch_cube, picture, outcome.result)
    return Drawing(data=data, timing_ms=timing(outcome, decode_ms, draw_ms))


async def plot_steps(
    service: Service,
    body: bytes | Points,
    options: StepsOptions,
    plot_format: PlotFormat,
    on_progress: OnProgress | None = None,
) -> Drawing:
    """Draw Lloyd's iteration on points in the plane, from random ones of them.

    Raises:
        ServiceError: The body is no table of points in the plane, or an option does not fit it.
    """
    if isinstance(body, bytes) and not looks_like_points(body):
        raise BadPoints("Steps are drawn of points, as JSON; a picture has the other plots.")
    source, read_ms = await service.table(body)
    options = add_options(options, source.parameters)
    job = StepsJob(
        points=source.points, weights=source.weights, options=options, on_progress=on_progress
    )
    outcome = await service.compute(job)
    data, draw_ms = await service.draw(plot_format, _sketch_steps, source, outcome.result)
    return Drawing(data=data, timing_ms=timing(outcome, read_ms, draw_ms))


async def plot_trap(
    service: Service,
    body: bytes | Points,
    options: TrapOptions,
    plot_format: PlotFormat,
    on_progress: OnProgress | None = None,
) -> Drawing:
    """Draw where many random and many k-means++ starts end, on points or a picture's colours.

    Raises:
        ServiceError: The body is neither, or an option does not fit it.
    """
    table, decode_ms = await _few_points(service, body)
    options = add_options(options, table.parameters)
    job = TrapJob(
        points=table.points, weights=table.weights, options=options, on_progress=on_progress
    )
    outcome = await service.compute(job)
    data, draw_ms = await service.draw(plot_format, _sketch_starts, outcome.result)
    return Drawing(data=data, timing_ms=timing(outcome, decode_ms, draw_ms))


async def plot_elbow(service: Service, answer: ElbowAnswer, plot_format: PlotFormat) -> bytes:
    """Draw a curve. Never raises."""
    return (await service.draw(plot_format, _sketch_elbow, answer))[0]


async def plot_clusters(
    service: Service, body: bytes, answer: ClusterAnswer, plot_format: PlotFormat
) -> bytes:
    """Draw points in the plane by cluster.

    Raises:
        BadPoints: They are not in the plane.
    """
    source, _read_ms = await service.table(body)
    with public_errors():
        return (await service.draw(plot_format, _sketch_clusters, source, answer))[0]


async def _few_points(service: Service, body: bytes | Points) -> tuple[Points, float]:
    """Read points, or some colours of a picture, which is not kept beyond the room held for it."""
    async with service.source(body) as (source, read_ms):
        return _sample(source) if isinstance(source, DecodedPicture) else source, read_ms


def _sample(picture: DecodedPicture) -> Points:
    """Take some of a picture's colours, evenly, and none that cannot be seen."""
    colors = picture.pixels.reshape(-1, picture.pixels.shape[2])
    colors = colors[:: max(1, len(colors) // _TRAP_POINTS)]
    is_visible = colors[:, _RGB:].all(axis=1)
    if not is_visible.any():
        raise BadPoints("Every pixel of this picture is fully transparent.")
    return Points(points=colors[is_visible, :_RGB].astype(np.float64), weights=None)


def _sketch_comparison(picture: DecodedPicture, made: Made) -> Sketch:
    quantized = made.outcome.result
    after = picture.pixels if made.file.kept_original else quantized.to_pixels()
    said = "the original is kept" if made.file.kept_original else f"{quantized.k} colours"
    captions = (
        f"{quantized.unique_colors:,} colours, {picture.bytes:,} bytes",
        f"{said}, {len(made.file.data):,} bytes",
    )
    counts = np.asarray(quantized.counts)
    pictures = reduce_picture(picture.pixels), reduce_picture(np.asarray(after))
    palette, shares = np.asarray(quantized.palette), counts / counts.sum()
    return Sketch("comparison", (*pictures, captions, palette, shares))


def _sketch_cube(picture: DecodedPicture, fit: QuantizedImage) -> Sketch:
    colors = sample_colors(picture.pixels)
    return Sketch("cube", (colors, np.asarray(fit.centroids), np.asarray(fit.counts)))


def _sketch_steps(source: Points, steps: list[Step]) -> Sketch:
    return Sketch("steps", sample_steps(source.points, steps))


def _sketch_starts(starts: Starts) -> Sketch:
    return Sketch("starts", (starts,))


def _sketch_elbow(answer: ElbowAnswer) -> Sketch:
    return Sketch("elbow", (answer,))


def _sketch_clusters(source: Points, answer: ClusterAnswer) -> Sketch:
    check_plane(source.points)
    title = f"k = {answer.k}, {answer.metric}: {answer.wcss:.6g}"
    labels, centroids = np.array(answer.labels), np.array(answer.centroids)
    return Sketch("clusters", (source.points, labels, centroids, title))
