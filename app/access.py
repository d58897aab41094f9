"""Keys, for those who want them: without one of those that are set, nothing is computed or told."""

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Unauthorized
from app.problems import problem_response

_OPEN = {"/", "/docs", "/openapi.json", "/healthz", "/readyz"}


class ApiKeys:
    """Middleware that asks for a key on every door but health, the page and its files.

    Several keys may be set at once, so that one can be replaced without an interruption. A key
    comes as `Authorization: Bearer <key>` or `X-API-Key: <key>`.

    Args:
        app: What is protected.
        keys: Those that open; with none, everything is open.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app, self._digests = app, [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer 401."""
        if not self._digests or scope["type"] != "http" or not _is_closed(scope["path"]):
            await self._app(scope, receive, send)
            return
        given = _digest(_key_of(Headers(scope=scope)))
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]  # all: no timing
        if not any(matches):
            error = Unauthorized("Send one of the keys as `Authorization: Bearer` or `X-API-Key`.")
            await problem_response(error)(scope, receive, send)
            return
        scope["gpu_kmeans.client"] = given.hex()[:16]  # whose share of the queue it takes
        await self._app(scope, receive, send)


def _is_closed(path: str) -> bool:
    return path not in _OPEN and not path.startswith("/static/")


def _key_of(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return key.strip()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
