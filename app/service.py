"""The use cases, step by step: decode, compute, encode, answer.

Every front door calls these. Decoding runs in processes of its own, encoding in worker threads,
computing wherever `compute` does it, so nothing here holds the event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from app.answers import (
    OF_THE_CURVE,
    describe_clusters,
    describe_colors,
    describe_elbow,
    describe_made,
    timing,
)
from app.codecs import DecodedPicture
from app.compression import Compression, Made
from app.decoder import Decoder
from app.delivery import (
    Delivery,
    check_sides,
    deliver,
    pixels_for,
    takes_no_time,
    with_alpha,
)
from app.drawer import Drawer
from app.errors import BadParameter, BodyTooLarge
from app.jobs import ClusterJob, Compute, ElbowJob, OnProgress, QuantizeJob
from app.options import (
    ClusterOptions,
    CompressOptions,
    ElbowOptions,
    PaletteOptions,
    add_options,
    allowed,
)
from app.palettes import read_colors
from app.points import Points, looks_like_points
from app.preferences import preferred
from app.schemas import ClusterAnswer, CompressAnswer, ElbowAnswer, PaletteAnswer, PointsInput
from app.sketches import PlotFormat, Sketch
from gpu_kmeans import QuantizedImage

T = TypeVar("T")
_RGB = 3  # channels before alpha
_OF_THE_FILE = {
    "format",
    "effort",
    "skip_if_larger",
    "max_bytes",
    "metadata",
}  # no business of the fit
_TAKEN_APART = {"prefer", "curve", "palette", "reserve"}  # before they get there


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the use cases need.

    Attributes:
        compute: Turns a job into its outcome.
        decoder: Turns bytes into pixels, for which it holds room, and JSON into points.
        max_points_bytes: Longest table of points, as JSON.
        threads: How many pictures may be encoded at once.
        drawer: Turns sketches into files of figures.
        writes_at_once: Whoever computes a picture writes it too, where that takes no time: what
            computes is a process, and the picture need not come back first.
    """

    compute: Compute
    decoder: Decoder
    max_points_bytes: int
    threads: CapacityLimiter
    drawer: Drawer
    writes_at_once: bool = False

    async def compress(
        self,
        encoded: bytes,
        options: CompressOptions,
        *,
        with_curve: bool,
        is_shared: bool = False,
        on_progress: OnProgress | None = None,
    ) -> CompressAnswer:
        """Give a picture in k colours, its colours and, if wanted, its elbow curve.

        A palette that is shared may have been made for pictures with alpha too: what in it is not
        opaque is taken for a picture without as well, so that an entry has one index in all.

        Raises:
            ServiceError: The picture does not decode, or an option does not fit it.
        """
        async with self.decoded(encoded) as (picture, decode_ms):
            made = await self.reduce(
                picture,
                options,
                with_curve=with_curve,
                is_shared=is_shared,
                needs_indices=False,
                on_progress=on_progress,
            )
            return describe_made(picture, made, decode_ms, with_curve=with_curve)

    async def reduce(
        self,
        picture: DecodedPicture,
        options: CompressOptions,
        *,
        with_curve: bool = False,
        is_shared: bool = False,
        needs_indices: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Made:
        """Give a decoded picture in k colours, and the file that goes back; see `compress`.

        Who does not need the indices of the picture, which are in the file, may not get them.

        Raises:
            ServiceError: An option does not fit the picture.
        """
        check_sides(picture, options.format)
        pixels = pixels_for(picture, options.format)
        if is_shared:
            pixels = with_alpha(pixels)
        keywords = given(options, leave_out=_OF_THE_FILE | _TAKEN_APART) | preferred(options)
        has_alpha = pixels.shape[2] > _RGB
        for name in ("palette", "reserve"):
            if (colors := getattr(options, name)) is not None:
                keywords[name] = read_colors(name, colors, has_alpha=has_alpha)
        job = QuantizeJob(
            pixels=pixels,
            options=keywords | {"curve": with_curve},
            on_progress=on_progress,
        )

        async def write(image: QuantizedImage, effort: int) -> tuple[Delivery, float]:
            asked = options.model_copy(update={"effort": effort})
            return await self._delivered(picture, image, asked)

        return await Compression(
            picture=picture,
            options=options,
            job=job,
            compute=self.compute,
            deliver=write,
            is_written_at_once=(
                self.writes_at_once and not needs_indices and takes_no_time(picture, options)
            ),
        ).run()

    async def palette(
        self, encoded: bytes, options: PaletteOptions, *, on_progress: OnProgress | None = None
    ) -> PaletteAnswer:
        """Give the colours a picture would be reduced to.

        Raises:
            ServiceError: The picture does not decode, or an option does not fit it.
        """
        keywords = given(options, leave_out={"format"})
        async with self.decoded(encoded) as (picture, decode_ms):
            job = QuantizeJob(pixels=picture.pixels, options=keywords, on_progress=on_progress)
            outcome = await self.compute(job)
            timing_ms = timing(outcome, decode_ms, encode_ms=0.0)
            return PaletteAnswer(**describe_colors(picture, outcome), timing_ms=timing_ms)

    async def elbow(
        self, body: bytes | Points, options: ElbowOptions, *, on_progress: OnProgress | None = None
    ) -> ElbowAnswer:
        """Give WCSS against k, of a picture or of points, as JSON or read already.

        Raises:
            ServiceError: The body is neither, or an option does not fit it.
        """
        async with self.source(body) as (source, decode_ms):
            return await self._elbow(source, decode_ms, options, on_progress)

    async def _elbow(
        self,
        source: DecodedPicture | Points,
        decode_ms: float,
        options: ElbowOptions,
        on_progress: OnProgress | None,
    ) -> ElbowAnswer:
        if isinstance(source, Points):
            options = add_options(options, source.parameters)
        keywords = options.model_dump(include=OF_THE_CURVE - {"k_max"}, exclude_unset=True)
        job = ElbowJob(
            points=source.points if isinstance(source, Points) else source.pixels,
            weights=source.weights if isinstance(source, Points) else None,
            k_max=options.k_max,
            options=keywords,
            on_progress=on_progress,
        )
        outcome = await self.compute(job)
        return describe_elbow(outcome, source, options, decode_ms)

    async def cluster(
        self,
        body: bytes | Points,
        options: ClusterOptions,
        *,
        on_progress: OnProgress | None = None,
    ) -> ClusterAnswer:
        """Give points in k clusters.

        Raises:
            ServiceError: The body is no table of points as JSON, or an option does not fit it.
        """
        points, read_ms = await self.table(body)
        options = add_options(options, points.parameters)
        n, d = points.points.shape
        if isinstance(options.k, int) and options.k > n and "k" in options.model_fields_set:
            raise BadParameter.of("k", options.k, f"{allowed(ClusterOptions, 'k')}; here are {n}")
        job = ClusterJob(
            points=points.points,
            weights=points.weights,
            k=None if options.k == "elbow" else options.k,
            k_max=options.k_max,
            options=options.model_dump(exclude_unset=True, exclude={"k", "k_max"}),
            on_progress=on_progress,
        )
        outcome = await self.compute(job)
        described, encode_ms = await self._timed(describe_clusters, outcome, options)
        return ClusterAnswer(
            **described,
            input=PointsInput(points=n, dimensions=d),
            timing_ms=timing(outcome, read_ms, encode_ms),
        )

    @asynccontextmanager
    async def source(
        self, body: bytes | Points
    ) -> AsyncIterator[tuple[DecodedPicture | Points, float]]:
        """Read a picture or points, whichever came, and say how many milliseconds it took.

        Raises:
            ServiceError: The body is neither.
        """
        if isinstance(body, Points) or looks_like_points(body):
            yield await self.table(body)
            return
        async with self.decoded(body) as decoded:
            yield decoded

    @asynccontextmanager
    async def decoded(self, encoded: bytes) -> AsyncIterator[tuple[DecodedPicture, float]]:
        """Decode a picture, hold room for it, and say how many milliseconds it took.

        Raises:
            ServiceError: It does not decode, or there is no room.
        """
        started_at = time.perf_counter()
        async with self.decoder.decoded(encoded) as picture:
            yield picture, 1e3 * (time.perf_counter() - started_at)

    async def table(self, body: bytes | Points) -> tuple[Points, float]:
        """Read points, as JSON or read already, and say how many milliseconds it took.

        Raises:
            ServiceError: The body is too long, or no table of points.
        """
        if isinstance(body, Points):
            return body, 0.0
        if len(body) > self.max_points_bytes:
            raise BodyTooLarge(
                f"Points may take {self.max_points_bytes:,} bytes; these take {len(body):,}.",
                {"limit_bytes": self.max_points_bytes},
            )
        started_at = time.perf_counter()
        points = await self.decoder.table(body)
        return points, 1e3 * (time.perf_counter() - started_at)

    async def _delivered(
        self, picture: DecodedPicture, quantized: QuantizedImage, options: CompressOptions
    ) -> tuple[Delivery, float]:
        """Encode in a worker thread; if nobody waits any more, leave it, and it ends soon."""
        is_wanted = True
        work = asyncio.ensure_future(
            self._timed(deliver, picture, quantized, options, lambda: is_wanted)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            is_wanted = False
            work.add_done_callback(lambda left: left.cancelled() or left.exception())
            raise

    async def draw(
        self, plot_format: PlotFormat, sketch: Callable[..., Sketch], *arguments: object
    ) -> tuple[bytes, float]:
        """Sketch a plot in a worker thread, draw it, and say how many milliseconds that took."""
        started_at = time.perf_counter()
        sketched, _ = await self._timed(sketch, *arguments)
        drawing = await self.drawer.draw(sketched, plot_format)
        return drawing, 1e3 * (time.perf_counter() - started_at)

    async def _timed(self, step: Callable[..., T], *arguments: object) -> tuple[T, float]:
        """Run a step in a worker thread; give its result and its milliseconds."""
        started_at = time.perf_counter()
        result = await to_thread.run_sync(partial(step, *arguments), limiter=self.threads)
        return result, 1e3 * (time.perf_counter() - started_at)


def given(options: PaletteOptions | CompressOptions, leave_out: set[str]) -> dict[str, Any]:
    """Only what was asked for goes on, so that the library's defaults hold everywhere.

    Never raises.

    Example:
        >>> given(PaletteOptions(k=9, format="css"), {"format"})
        {'k': 9}
    """
    return options.model_dump(exclude_unset=True, exclude=leave_out)
