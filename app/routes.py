"""The HTTP doors: read, call the service, answer."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import BaseModel

from app import openapi
from app.accept import preferred
from app.errors import DeadlineExceeded, NotReady
from app.observability import METRICS_MEDIA_TYPE, Metrics
from app.options import (
    ClusterOptions,
    CompressOptions,
    CubeOptions,
    ElbowOptions,
    Options,
    PaletteOptions,
    StepsOptions,
    TrapOptions,
    parse_options,
)
from app.palettes import MEDIA_TYPES, write_palette
from app.plotting import (
    Drawing,
    plot_clusters,
    plot_comparison,
    plot_cube,
    plot_elbow,
    plot_steps,
    plot_trap,
)
from app.results import Kept, ResultCache
from app.schemas import (
    ClusterAnswer,
    CompressAnswer,
    ElbowAnswer,
    Health,
    PaletteAnswer,
    Timing,
)
from app.service import Service
from app.sketches import PlotFormat
from app.uploads import read_upload

WEB = Path(__file__).parent / "web"
_JSON = "application/json"
_VARY = {"Vary": "Accept"}
_PLOTS: dict[str, PlotFormat] = {"image/png": "png", "image/svg+xml": "svg"}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
router = APIRouter()
T = TypeVar("T")
Answer = TypeVar("Answer", CompressAnswer, ElbowAnswer, PaletteAnswer, ClusterAnswer)


async def _service(request: Request) -> Service:  # else it would cost a hop to a thread
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]


@router.post("/compress", **openapi.compress)
async def compress(request: Request, service: ServiceDep) -> Response:
    """Give a picture back in k colours: JSON, or the picture itself where `Accept` prefers one."""
    upload = await read_upload(request)
    options = parse_options(CompressOptions, upload.fields)
    wants_picture = preferred(request.headers.get("accept", ""), [_JSON, "image/*"]) != _JSON
    with_curve = options.curve and not wants_picture
    compute = partial(service.compress, upload.body, options, with_curve=with_curve)
    question = f"compress {with_curve} {_words(options)}"
    kept = await _answer(request, question, upload.body, CompressAnswer, compute)
    return _picture_response(kept) if wants_picture else _json_response(kept)


@router.post("/elbow", **openapi.elbow)
async def elbow(request: Request, service: ServiceDep) -> Response:
    """Give WCSS against k and its knee: JSON, or a plot where `Accept` prefers one."""
    upload = await read_upload(request)
    options = parse_options(ElbowOptions, upload.fields)
    media_type = preferred(request.headers.get("accept", ""), [_JSON, *_PLOTS])
    compute = partial(service.elbow, upload.body, options)
    kept = await _answer(request, f"elbow {_words(options)}", upload.body, ElbowAnswer, compute)
    if media_type == _JSON:
        return _json_response(kept)
    return await _plot_response(request, media_type, partial(plot_elbow, service, kept.answer))


@router.post("/cluster", **openapi.cluster)
async def cluster(request: Request, service: ServiceDep) -> Response:
    """Give points, as JSON, in k clusters; a plot of the plane where `Accept` prefers one."""
    upload = await read_upload(request)
    options = parse_options(ClusterOptions, upload.fields)
    compute = partial(service.cluster, upload.body, options)
    question = f"cluster {_words(options)}"
    media_type = preferred(request.headers.get("accept", ""), [_JSON, *_PLOTS])
    kept = await _answer(request, question, upload.body, ClusterAnswer, compute)
    if media_type == _JSON:
        return _json_response(kept)
    draw = partial(plot_clusters, service, upload.body, kept.answer)
    return await _plot_response(request, media_type, draw)


@router.post("/palette", **openapi.palette)
async def palette(request: Request, service: ServiceDep) -> Response:
    """Give the colours of a picture: JSON, CSS, GPL, ACT or HEX."""
    upload = await read_upload(request)
    options = parse_options(PaletteOptions, upload.fields)
    compute = partial(service.palette, upload.body, options)
    question = f"palette {_words(options)}"
    kept = await _answer(request, question, upload.body, PaletteAnswer, compute)
    if options.format == "json":
        return _json_response(kept)
    name = f'attachment; filename="palette.{options.format}"'
    return Response(
        write_palette(kept.answer.palette, options.format),
        media_type=MEDIA_TYPES[options.format],
        headers={"Content-Disposition": name},
    )


@router.post("/plots/before-after", response_class=Response, **openapi.plot_comparison)
async def before_after(request: Request, service: ServiceDep) -> Response:
    """Draw a picture beside what `/compress` makes of it by the same parameters: PNG or SVG."""
    return await _plot(request, CompressOptions, partial(plot_comparison, service))


@router.post("/plots/cube", response_class=Response, **openapi.plot_cube)
async def cube(request: Request, service: ServiceDep) -> Response:
    """Draw the colours of a picture in the RGB cube, with their centroids: PNG or SVG."""
    return await _plot(request, CubeOptions, partial(plot_cube, service))


@router.post("/plots/steps", response_class=Response, **openapi.plot_steps)
async def steps(request: Request, service: ServiceDep) -> Response:
    """Draw Lloyd's iteration on points in the plane, from random ones of them: PNG or SVG."""
    return await _plot(request, StepsOptions, partial(plot_steps, service))


@router.post("/plots/trap", response_class=Response, **openapi.plot_trap)
async def trap(request: Request, service: ServiceDep) -> Response:
    """Draw where many random and many k-means++ starts end: PNG or SVG."""
    return await _plot(request, TrapOptions, partial(plot_trap, service))


@router.get("/results/{key}", **openapi.results)
async def results(request: Request, key: str) -> Response:
    """Give an earlier answer while it is kept: JSON, or its picture where `Accept` prefers one."""
    kept = request.app.state.results.get(key)
    if kept is None:
        raise HTTPException(404)
    is_picture = kept.model is CompressAnswer and (
        preferred(request.headers.get("accept", ""), [_JSON, "image/*"]) != _JSON
    )
    response = _picture_response(kept) if is_picture else _json_response(kept)
    left_s = request.app.state.results.left_s(kept)
    response.headers["Cache-Control"] = f"private, max-age={left_s}, immutable"
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or response.headers["ETag"] in known:
        names = ("ETag", "Cache-Control", "Content-Location", "Vary")
        return Response(status_code=304, headers={name: response.headers[name] for name in names})
    return response


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Give the numbers of this process as Prometheus reads them."""
    return Response(request.app.state.metrics.render(), media_type=METRICS_MEDIA_TYPE)


@router.get("/healthz")
async def healthz(request: Request) -> Health:
    """Say that the process lives; never waits for anything."""
    health: Health = request.app.state.health
    return health


@router.get("/readyz", **openapi.readyz)
async def readyz(request: Request) -> Health:
    """Say whether requests are answered at full speed already."""
    if not request.app.state.is_ready():
        raise NotReady("The service is starting or stopping; ask again in a second.")
    health: Health = request.app.state.health
    return health


@router.get("/", include_in_schema=False)
async def index() -> FileResponse:
    """Give the page."""
    return FileResponse(WEB / "index.html", headers=_PAGE_HEADERS)


@router.get("/docs", include_in_schema=False)
async def docs() -> FileResponse:
    """Give the API's description to click through, from files of our own: it works offline."""
    return FileResponse(WEB / "docs.html", headers=_PAGE_HEADERS)


async def _answer(
    request: Request,
    question: str,
    body: bytes,
    model: type[Answer],
    compute: Callable[[], Awaitable[Answer]],
) -> Kept[Answer]:
    """Compute an answer and count its time, or take the one that is kept."""
    results: ResultCache = request.app.state.results
    metrics: Metrics = request.app.state.metrics

    async def observed() -> Answer:
        answer = await compute()
        metrics.stages(answer.timing_ms.model_dump())
        return answer

    answering = results.answer(question, body, model, observed)
    return await _in_time(answering, request.app.state.compute_timeout_s)


async def _plot(
    request: Request,
    model: type[Options],
    draw: Callable[[bytes, Options, PlotFormat], Awaitable[Drawing]],
) -> Response:
    upload = await read_upload(request)
    options = parse_options(model, upload.fields)
    media_type = preferred(request.headers.get("accept", ""), [*_PLOTS])
    limit_s = request.app.state.compute_timeout_s
    drawing = await _in_time(draw(upload.body, options, _PLOTS[media_type]), limit_s)
    metrics: Metrics = request.app.state.metrics
    metrics.stages(drawing.timing_ms.model_dump())
    headers = _VARY | {"Server-Timing": _server_timing(drawing.timing_ms)}
    return Response(drawing.data, media_type=media_type, headers=headers)


async def _plot_response(
    request: Request, media_type: str, draw: Callable[[PlotFormat], Awaitable[bytes]]
) -> Response:
    """Draw an answer that is known, within a deadline of its own."""
    drawn = await _in_time(draw(_PLOTS[media_type]), request.app.state.compute_timeout_s)
    return Response(drawn, media_type=media_type, headers=_VARY)


async def _in_time(answering: Awaitable[T], limit_s: float) -> T:
    """Answer within the deadline, all waiting included, for another's answer to the same too.

    Work that is left behind ends.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await answering
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"There was no answer within {limit_s:g} s.", {"limit_s": limit_s}
        ) from error


def _words(options: BaseModel) -> str:
    """Write what was asked; what was only assumed too, as an answer may speak of the difference."""
    return f"{options.model_dump_json()} {sorted(options.model_fields_set)}"


def _json_response(kept: Kept[Any]) -> Response:
    return Response(kept.json, media_type=_JSON, headers=_VARY | _names(kept, "json"))


def _picture_response(kept: Kept[CompressAnswer]) -> Response:
    answer = kept.answer
    psnr = "inf" if answer.psnr_db is None else f"{answer.psnr_db:.4f}"
    headers = {"X-K": str(answer.k), "X-WCSS": repr(answer.wcss), "X-PSNR": psnr}
    headers |= _VARY | _names(kept, "picture")
    return Response(answer.image.data, media_type=answer.image.media_type, headers=headers)


def _names(kept: Kept[Any], form: str) -> dict[str, str]:
    """Say where an answer can be had again, how to tell it from others, and where its time went."""
    timing = _server_timing(kept.fresh.timing_ms) if kept.fresh else "kept"
    return {
        "Content-Location": f"/results/{kept.key}",
        "ETag": f'"{kept.key}-{form}"',
        "Server-Timing": timing,
    }


def _server_timing(timing: Timing) -> str:
    return ", ".join(f"{stage};dur={ms:g}" for stage, ms in timing.model_dump().items())
