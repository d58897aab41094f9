"""The use cases, step by step: decode, compute, encode, answer.

Every front door calls these. Decoding runs in processes of its own, encoding in worker threads,
computing wherever `compute` does it, so nothing here holds the event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread

from app.codecs import DecodedPicture
from app.compression import Compression, Made
from app.decoder import Decoder
from app.delivery import Delivery, deliver, pixels_for
from app.engine import ClusterJob, Compute, ElbowJob, OnProgress, Outcome, QuantizeJob
from app.errors import BadParameter, BodyTooLarge
from app.options import (
    ClusterOptions,
    CompressOptions,
    ElbowOptions,
    PaletteOptions,
    add_options,
    allowed,
)
from app.palettes import palette_entries
from app.points import Points, looks_like_points
from app.preferences import preferred
from app.schemas import (
    ClusterAnswer,
    CompressAnswer,
    CountedPictureInput,
    CurveCriterion,
    CurveEngine,
    CurvePoint,
    ElbowAnswer,
    EncodedPicture,
    FitEngine,
    PaletteAnswer,
    PictureCurvePoint,
    PictureInput,
    PointsInput,
    Timing,
)
from gpu_kmeans import ElbowCurve, KMeansResult, QuantizedImage, __version__
from gpu_kmeans.metrics import psnr_db

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
_OPAQUE = 255
_NAMED_COLORS = {"black": "000000", "white": "ffffff"}
_OF_THE_CURVE = {"k_max", "metric", "p", "target_error"}
_BACKEND_OF_OTHERS = "reference"  # runs all but the two metrics that squared distances serve
_SQUARED = {"euclidean", "cosine"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the use cases need.

    Attributes:
        compute: Turns a job into its outcome.
        decoder: Turns bytes into pixels, for which it holds room, and JSON into points.
        max_points_bytes: Longest table of points, as JSON.
        threads: How many pictures may be encoded at once.
        drawing: How many plots may be drawn at once: one, as they share their fonts and settings.
    """

    compute: Compute
    decoder: Decoder
    max_points_bytes: int
    threads: CapacityLimiter
    drawing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))

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
                on_progress=on_progress,
            )
            return _describe_made(picture, made, decode_ms, with_curve=with_curve)

    async def reduce(
        self,
        picture: DecodedPicture,
        options: CompressOptions,
        *,
        with_curve: bool = False,
        is_shared: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Made:
        """Give a decoded picture in k colours, and the file that goes back; see `compress`.

        Raises:
            ServiceError: An option does not fit the picture.
        """
        pixels = pixels_for(picture, options.format)
        if is_shared:
            pixels = _with_alpha(pixels)
        keywords = given(options, leave_out=_OF_THE_FILE | _TAKEN_APART) | preferred(options)
        has_alpha = pixels.shape[2] > _RGB
        for name in ("palette", "reserve"):
            if (colors := getattr(options, name)) is not None:
                keywords[name] = _color_array(name, colors, has_alpha=has_alpha)
        job = QuantizeJob(
            pixels=pixels,
            options=keywords | {"curve": with_curve},
            on_progress=on_progress,
        )

        async def write(image: QuantizedImage, effort: int) -> tuple[Delivery, float]:
            asked = options.model_copy(update={"effort": effort})
            return await self._delivered(picture, image, asked)

        return await Compression(
            picture=picture, options=options, job=job, compute=self.compute, deliver=write
        ).run()

    async def palette(
        self, encoded: bytes, options: PaletteOptions, *, on_progress: OnProgress | None = None
    ) -> PaletteAnswer:
        """Give the colours a picture would be reduced to.

        Raises:
            ServiceError: The picture does not decode, or an option does not fit it.
        """
        async with self.decoded(encoded) as (picture, decode_ms):
            return await self._palette(picture, decode_ms, options, on_progress)

    async def _palette(
        self,
        picture: DecodedPicture,
        decode_ms: float,
        options: PaletteOptions,
        on_progress: OnProgress | None,
    ) -> PaletteAnswer:
        keywords = given(options, leave_out={"format"})
        job = QuantizeJob(pixels=picture.pixels, options=keywords, on_progress=on_progress)
        outcome = await self.compute(job)
        return PaletteAnswer(
            **_colors(picture, outcome), timing_ms=timing(outcome, decode_ms, encode_ms=0.0)
        )

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
        keywords = options.model_dump(include=_OF_THE_CURVE - {"k_max"}, exclude_unset=True)
        job = ElbowJob(
            points=source.points if isinstance(source, Points) else source.pixels,
            weights=source.weights if isinstance(source, Points) else None,
            k_max=options.k_max,
            options=keywords,
            on_progress=on_progress,
        )
        outcome = await self.compute(job)
        curve = outcome.result
        return ElbowAnswer(
            **_describe_curve(curve, source),
            knee=curve.knee,
            criteria=_criteria(curve),
            fit_ms=[round(1e3 * seconds, 3) for seconds in curve.fit_s],
            engine=CurveEngine(
                device=outcome.device, backend=_backend(outcome, options), version=__version__
            ),
            timing_ms=timing(outcome, decode_ms, encode_ms=0.0),
            warnings=(
                *_notes(source),
                *curve.warnings,
                *outcome.warnings,
                *_without_effect(options),
            ),
        )

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
        described, encode_ms = await self._timed(_describe_clusters, outcome, options)
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

    async def draw(self, step: Callable[..., bytes], *arguments: object) -> tuple[bytes, float]:
        """Draw a plot in a worker thread; give its file and the milliseconds it took."""
        started_at = time.perf_counter()
        drawing = await to_thread.run_sync(partial(step, *arguments), limiter=self.drawing)
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


def _with_alpha(pixels: np.ndarray) -> np.ndarray:
    """Say of each pixel that it is opaque, where nothing is said of alpha."""
    if pixels.shape[2] > _RGB:
        return pixels
    return np.concatenate([pixels, np.full_like(pixels[..., :1], _OPAQUE)], axis=2)


def _color_array(name: str, colors: str, *, has_alpha: bool) -> np.ndarray:
    """Read `#rrggbb` and `#rrggbbaa`: (m, 4) for a picture with alpha, else (m, 3)."""
    texts = [_NAMED_COLORS.get(text, text) for text in colors.split(",")]
    rows = [list(bytes.fromhex(text.removeprefix("#")).ljust(4, b"\xff")) for text in texts]
    palette = np.array(rows, np.uint8)
    if has_alpha:
        return palette
    if palette[:, _RGB].min() < _OPAQUE:
        raise BadParameter.of(name, colors, "#rrggbb: this picture has no alpha")
    return palette[:, :_RGB]


def _colors(picture: DecodedPicture, outcome: Outcome[QuantizedImage]) -> dict[str, Any]:
    """Describe what `/compress` and `/palette` have in common."""
    quantized = outcome.result
    return {
        "input": CountedPictureInput(
            **_picture_input(picture).model_dump(), unique_colors=quantized.unique_colors
        ),
        "k": quantized.k,
        "k_reason": quantized.k_reason,
        "centroids": quantized.centroids.tolist(),
        "palette": palette_entries(np.asarray(quantized.palette), np.asarray(quantized.counts)),
        "wcss": quantized.wcss,
        "psnr_db": quantized.psnr_db,
        "quality": quantized.quality,
        "engine": FitEngine(
            device=outcome.device,
            backend=outcome.backend,
            n_iter=quantized.n_iter,
            converged=quantized.converged,
            seed=quantized.seed,
            version=__version__,
        ),
        "warnings": (*picture.warnings, *quantized.warnings, *outcome.warnings),
    }


def _describe_made(
    picture: DecodedPicture, made: Made, decode_ms: float, *, with_curve: bool
) -> CompressAnswer:
    outcome, file, quantized = made.outcome, made.file, made.outcome.result
    described = _colors(picture, outcome)
    warnings = (*described["warnings"], *file.warnings)
    truth = {"wcss": file.wcss, "psnr_db": file.psnr_db, "warnings": warnings}
    if file.kept_original and quantized.quality is not None:
        truth["quality"] = 100.0
    return CompressAnswer(
        **(described | truth),
        image=EncodedPicture(
            data=file.data,
            media_type=file.media_type,
            width=picture.width,
            height=picture.height,
            bytes=len(file.data),
        ),
        kept_original=file.kept_original,
        wcss_curve=_curve(quantized.curve) if with_curve and quantized.curve else None,
        timing_ms=timing(outcome, decode_ms, made.encode_ms),
    )


def _picture_input(picture: DecodedPicture) -> PictureInput:
    return PictureInput(
        width=picture.width,
        height=picture.height,
        bytes=picture.bytes,
        media_type=picture.media_type,
    )


def _curve(curve: ElbowCurve) -> list[CurvePoint]:
    return [CurvePoint(k=k, wcss=wcss) for k, wcss in zip(curve.ks, curve.wcss, strict=True)]


def _describe_curve(curve: ElbowCurve, source: DecodedPicture | Points) -> dict[str, Any]:
    """Describe where a curve comes from, and give PSNR where it is a picture."""
    if isinstance(source, Points):
        n_points, n_dimensions = source.points.shape
        return {
            "input": PointsInput(points=n_points, dimensions=n_dimensions),
            "curve": _curve(curve),
        }
    return {
        "input": _picture_input(source),
        "curve": [
            PictureCurvePoint(k=k, wcss=wcss, psnr_db=psnr_db(wcss, source.pixels.shape))
            for k, wcss in zip(curve.ks, curve.wcss, strict=True)
        ],
    }


def _criteria(curve: ElbowCurve) -> dict[str, CurveCriterion]:
    return {
        name: CurveCriterion(k=each.k, values=list(each.values), meaning=each.meaning)
        for name, each in curve.criteria.items()
    }


def _describe_clusters(outcome: Outcome[KMeansResult], options: ClusterOptions) -> dict[str, Any]:
    result = outcome.result
    centroids, labels = np.asarray(result.centroids), np.asarray(result.labels)
    reason = "elbow" if options.k == "elbow" else "asked"
    return {
        "k": len(centroids),
        "k_reason": "distinct points" if result.warnings else reason,
        "metric": options.metric,
        "p": options.p,
        "centroids": centroids.tolist(),
        "labels": labels.tolist(),
        "counts": np.bincount(labels, minlength=len(centroids)).tolist(),
        "wcss": result.wcss,
        "history": list(result.wcss_history),
        "engine": FitEngine(
            device=outcome.device,
            backend=_backend(outcome, options),
            n_iter=result.n_iter,
            converged=result.converged,
            seed=options.seed,
            version=__version__,
        ),
        "warnings": (*result.warnings, *outcome.warnings),
    }


def _backend(outcome: Outcome[Any], options: ElbowOptions | ClusterOptions) -> str:
    """Name who did the work: what backends speed up are squared distances."""
    is_squared = options.metric in _SQUARED or (options.metric == "minkowski" and options.p == 2)  # noqa: PLR2004
    return outcome.backend if is_squared else _BACKEND_OF_OTHERS


def _notes(source: DecodedPicture | Points) -> tuple[str, ...]:
    return source.warnings if isinstance(source, DecodedPicture) else ()


def _without_effect(options: ElbowOptions) -> tuple[str, ...]:
    """Nothing given is ignored in silence."""
    names = sorted(options.model_fields_set - _OF_THE_CURVE)
    return (f"no effect on the curve: {', '.join(names)}",) if names else ()


def timing(outcome: Outcome[Any], decode_ms: float, encode_ms: float) -> Timing:
    """Say where the time of an answer went. Never raises."""
    return Timing(
        queue=round(outcome.queue_ms, 3),
        decode=round(decode_ms, 3),
        kmeans=round(outcome.kmeans_ms, 3),
        encode=round(encode_ms, 3),
    )
