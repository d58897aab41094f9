"""The gate in front of the doors that compute: how much may come in, and for whom.

A pure ASGI middleware, so that it holds for every `POST` door there is or will be. It counts bodies
while they come, takes a place in the queue once they are there, and ends the work of a client that
leaves. The framework's own limit would answer a declared length in plain text; this one always
answers as every other error does.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.admission import CLIENT, Admission
from app.errors import BodyTooLarge, ServiceError
from app.problems import problem_response

_MOST_DIGITS = 20  # a length with more is as much too long; int() refuses thousands of them


class Gate:
    """Middleware: at most `max_body_bytes` a body, and no more under way than `admission` has.

    Args:
        app: What is protected.
        admission: What is under way.
        max_body_bytes: Longest body, declared or streamed.
    """

    def __init__(self, app: ASGIApp, admission: Admission, max_body_bytes: int) -> None:
        self._app, self._admission, self._max_bytes = app, admission, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse at once what is too much already; otherwise let it in and watch its client."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        client = client_of(scope)
        CLIENT.set(client)  # of this task, which is the request's own, and of those it starts
        try:
            self._check_declared_length(scope)
            self._admission.check(client)
        except ServiceError as error:
            await problem_response(error)(scope, receive, send)
            return
        with ExitStack() as held:
            body = _CountedBody(receive, self._admission, self._max_bytes, client, held)
            held.callback(body.forget)
            await _run_while_wanted(self._app(scope, body, send), body)

    def _check_declared_length(self, scope: Scope) -> None:
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:_MOST_DIGITS]) > self._max_bytes:
            raise _too_large(self._max_bytes)


class _CountedBody:
    """The request's `receive`, counted; with the last byte the request takes its place."""

    def __init__(
        self, receive: Receive, admission: Admission, max_bytes: int, client: str, held: ExitStack
    ) -> None:
        self._receive, self._admission, self._held = receive, admission, held
        self._max_bytes, self._client = max_bytes, client
        self._n_bytes = self._n_counted = 0
        self.is_complete = asyncio.Event()
        self.is_gone = asyncio.Event()

    async def __call__(self) -> Message:
        """Give the next part; after the last, wait for the client to leave."""
        if self.is_complete.is_set():
            await self.is_gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._count(len(message.get("body", b"")))
            if not message.get("more_body", False):
                self._held.enter_context(self._admission.job(self._client))
                self.is_complete.set()
        return message

    def _count(self, n_bytes: int) -> None:
        self._n_bytes += n_bytes
        if self._n_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._admission.receive(n_bytes)
        self._n_counted += n_bytes

    def forget(self) -> None:
        """Give the room for the body back."""
        self._admission.forget(self._n_counted)

    async def wait_until_gone(self) -> None:
        """Return when the client leaves after its body has come."""
        await self.is_complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone.set()


async def _run_while_wanted(answering: Awaitable[None], body: _CountedBody) -> None:
    """Answer, but stop if the client leaves: its place is free at once."""
    work = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(body.wait_until_gone())
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
    if not work.cancelled():
        work.result()


def client_of(scope: Scope) -> str:
    """Tell clients apart: by address; an IPv6 network of 64 bits is one client. Never raises.

    Example:
        >>> client_of({"client": ("2001:db8:1:2:3:4:5:6", 80)})
        '2001:db8:1:2'
    """
    if "gpu_kmeans.client" in scope:  # who has a key is known by it
        return str(scope["gpu_kmeans.client"])
    host = (scope.get("client") or ("", 0))[0]
    return ":".join(host.split(":")[:4]) if ":" in host else host


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"A request may have {limit:,} bytes; this one has more.", {"limit_bytes": limit}
    )
