"""Errors as HTTP answers: every one of them `application/problem+json`, whoever raised it."""

from http import HTTPStatus

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from app.errors import (
    PROBLEM_MEDIA_TYPE,
    TABLE,
    NotReady,
    OutOfMemory,
    QueueFull,
    ServiceError,
    Unauthorized,
    problem,
    problem_document,
)

_TAKE_POINTS = {"/cluster", "/plots/steps"}  # and no picture
_CLIENT_CLOSED_REQUEST = 499  # as proxies log it; nobody reads the answer


def add_problem_handlers(app: FastAPI) -> None:
    """Make an application answer every error as a problem document."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


def problem_response(error: ServiceError) -> Response:
    """Write an error as a response with its status. Never raises."""
    headers = {}
    if isinstance(error, (QueueFull, NotReady, OutOfMemory)):
        headers["Retry-After"] = str(error.members.get("retry_after_s", 1))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    status, _code, _title = TABLE[type(error)]
    return JSONResponse(problem(error), status, headers, PROBLEM_MEDIA_TYPE)


async def _on_service_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 - tells the type checker what the registration says
    return problem_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses: no such path, or not by this method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - likewise
    title, headers = HTTPStatus(error.status_code).phrase, dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # see app.observability
    document = problem_document(
        error.status_code, title.lower().replace(" ", "-"), title, _explain(request, error)
    )
    return JSONResponse(document, error.status_code, headers, PROBLEM_MEDIA_TYPE)


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


def _explain(request: Request, error: HTTPException) -> str:
    path = request.url.path
    if error.status_code == HTTPStatus.NOT_FOUND:
        return f"There is nothing at {path}; /docs lists what there is."
    allow = (error.headers or {}).get("Allow", "")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and "POST" in allow:
        url = request.url.replace(query="", fragment="")
        if path in _TAKE_POINTS:
            points = '{"points": [[0, 0], [1, 0], [9, 9]], "k": 2}'
            return f"{path} takes points by {allow}: curl --json '{points}' '{url}'"
        return f"{path} takes a picture by {allow}: curl -F file=@photo.jpg '{url}'"
    return str(error.detail)
