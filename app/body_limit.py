"""Refuses bodies that are too long, before and while they are read.

The framework's own limit answers a declared length in plain text and a streamed one through the
application; this one, in front of both, always answers as every other error does.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLarge
from app.problems import problem_response

_MOST_DIGITS = 20  # a length with more is as much too long; int() refuses thousands of them


class BodyLimit:
    """Middleware that lets at most `max_bytes` of a body through.

    Args:
        app: What is protected.
        max_bytes: Longest body, declared or streamed.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a declared length at once, count what comes otherwise."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:_MOST_DIGITS]) > self._max_bytes:
            await problem_response(self._too_large())(scope, receive, send)
            return
        n_bytes = 0

        async def counted_receive() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._max_bytes:
                raise self._too_large()
            return message

        await self._app(scope, counted_receive, send)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"A request may have {self._max_bytes:,} bytes; this one has more.",
            {"limit_bytes": self._max_bytes},
        )
