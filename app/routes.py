"""The HTTP doors: read, call the service, answer."""

from pathlib import Path
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from app import openapi
from app.accept import preferred
from app.errors import NotReady
from app.options import CompressOptions, ElbowOptions, PaletteOptions, parse_options
from app.palettes import MEDIA_TYPES, write_palette
from app.schemas import CompressAnswer, ElbowAnswer, Health
from app.service import Service
from app.uploads import read_upload

WEB = Path(__file__).parent / "web"
_JSON = "application/json"
_VARY = {"Vary": "Accept"}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
router = APIRouter()


def _service(request: Request) -> Service:
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
    answer = await service.compress(upload.body, options, with_curve=with_curve)
    return _picture_response(answer) if wants_picture else _json_response(answer)


@router.post("/elbow", **openapi.elbow)
async def elbow(request: Request, service: ServiceDep) -> Response:
    """Give WCSS against k and its knee: JSON, or a plot where `Accept` prefers one."""
    upload = await read_upload(request)
    options = parse_options(ElbowOptions, upload.fields)
    media_type = preferred(request.headers.get("accept", ""), [_JSON, "image/svg+xml", "image/png"])
    answer = await service.elbow(upload.body, options)
    if media_type == _JSON:
        return _json_response(answer)
    return Response(await _draw(answer, media_type), media_type=media_type, headers=_VARY)


@router.post("/palette", **openapi.palette)
async def palette(request: Request, service: ServiceDep) -> Response:
    """Give the colours of a picture: JSON, CSS, GPL, ACT or HEX."""
    upload = await read_upload(request)
    options = parse_options(PaletteOptions, upload.fields)
    answer = await service.palette(upload.body, options)
    if options.format == "json":
        return _json_response(answer)
    name = f'attachment; filename="palette.{options.format}"'
    return Response(
        write_palette(answer.palette, options.format),
        media_type=MEDIA_TYPES[options.format],
        headers={"Content-Disposition": name},
    )


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


def _json_response(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type=_JSON, headers=_VARY)


def _picture_response(answer: CompressAnswer) -> Response:
    psnr = "inf" if answer.psnr_db is None else f"{answer.psnr_db:.4f}"
    headers = {"X-K": str(answer.k), "X-WCSS": repr(answer.wcss), "X-PSNR": psnr}
    return Response(answer.image.data, media_type=answer.image.media_type, headers=headers | _VARY)


async def _draw(answer: ElbowAnswer, media_type: str) -> bytes:
    from app.plots import draw_elbow  # half a second of imports that only plots need

    return await to_thread.run_sync(
        draw_elbow, answer, "svg" if media_type == "image/svg+xml" else "png"
    )
