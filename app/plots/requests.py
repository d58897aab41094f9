"""The plots of the doors: from a file's bytes to a figure's bytes."""

import numpy as np

from app.codecs import Limits, decode
from app.engine import public_errors
from app.errors import BadParameter
from app.options import PlotOptions
from app.plots.comparison import comparison_figure
from app.plots.cube import cube_figure
from app.plots.drawing import PlotFormat, write_figure
from app.plots.starts import starts_figure, try_starts
from app.plots.steps import clusters_figure, steps_figure, take_steps
from app.points import Points, looks_like_points, parse_points
from app.schemas import ClusterAnswer, CompressAnswer
from app.settings import Settings
from gpu_kmeans import quantize

_TRAP_POINTS = 5000  # of a picture: the trap is in where they lie, not in how many they are


def draw_request(
    kind: str, source: bytes | Points, options: PlotOptions, plot_format: PlotFormat
) -> bytes:
    """Draw a picture in the RGB cube, Lloyd's steps, or the trap.

    Args:
        kind: "cube", "steps" or "trap".
        source: A picture's file, points as JSON, or points.
        options: As the command took them.
        plot_format: What to write.

    Returns:
        The file.

    Raises:
        ServiceError: The source does not decode, or does not suit the kind.
    """
    if isinstance(source, bytes) and looks_like_points(source):
        source = parse_points(source)
    with public_errors():
        if isinstance(source, bytes):
            return _draw_picture(kind, source, options, plot_format)
        return _draw_points(kind, source, options, plot_format)


def draw_comparison(encoded: bytes, answer: CompressAnswer, plot_format: PlotFormat) -> bytes:
    """Draw a picture beside what `/compress` made of it.

    Args:
        encoded: The file that came.
        answer: What became of it.
        plot_format: What to write.

    Returns:
        The file.

    Raises:
        ServiceError: The picture does not decode.
    """
    limits = _limits()
    before, after = decode(encoded, limits), decode(answer.image.data, limits)
    captions = (
        f"{answer.input.unique_colors:,} colours, {answer.input.bytes:,} bytes",
        f"{answer.k} colours, {answer.image.bytes:,} bytes",
    )
    palette = np.array([entry.rgb for entry in answer.palette], np.uint8)
    shares = np.array([entry.share for entry in answer.palette])
    figure = comparison_figure(before.pixels, after.pixels, captions, palette, shares)
    return write_figure(figure, plot_format)


def draw_clusters(body: bytes, answer: ClusterAnswer, plot_format: PlotFormat) -> bytes:
    """Draw points in the plane by cluster.

    Args:
        body: The points, as JSON.
        answer: What `/cluster` made of them.
        plot_format: What to write.

    Returns:
        The file.

    Raises:
        BadPoints: They are not in the plane.
    """
    title = f"k = {answer.k}, {answer.metric}: {answer.wcss:.6g}"
    labels, centroids = np.array(answer.labels), np.array(answer.centroids)
    with public_errors():
        figure = clusters_figure(parse_points(body).points, labels, centroids, title)
    return write_figure(figure, plot_format)


def _draw_picture(
    kind: str, encoded: bytes, options: PlotOptions, plot_format: PlotFormat
) -> bytes:
    pixels = decode(encoded, _limits()).pixels
    if kind == "steps":
        raise BadParameter.of("KIND", kind, "cube, trap or before-after for a picture")
    if kind == "trap":
        colors = pixels.reshape(-1, pixels.shape[2])[:, :3].astype(np.float64)
        rows = colors[:: max(1, len(colors) // _TRAP_POINTS)]
        return write_figure(
            starts_figure(try_starts(rows, options.k, starts=options.starts)), plot_format
        )
    fit = quantize(pixels, options.k, seed=options.seed)
    figure = cube_figure(pixels, np.asarray(fit.centroids), np.asarray(fit.counts))
    return write_figure(figure, plot_format)


def _draw_points(kind: str, source: Points, options: PlotOptions, plot_format: PlotFormat) -> bytes:
    points = source.points
    if kind == "cube":
        raise BadParameter.of("KIND", kind, "steps or trap for points")
    if kind == "trap":
        found = try_starts(points, options.k, starts=options.starts, weights=source.weights)
        return write_figure(starts_figure(found), plot_format)
    if options.k > len(points):
        raise BadParameter.of("k", options.k, f"1 to the number of points, {len(points)}")
    rng = np.random.default_rng(options.seed)
    first = points[rng.choice(len(points), options.k, replace=False)]
    steps = take_steps(points, first, metric=options.metric, p=options.p)
    return write_figure(steps_figure(points, steps), plot_format)


def _limits() -> Limits:
    return Limits(max_pixels=Settings().max_pixels)
