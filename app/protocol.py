"""How long and how much a client may send before it has asked for something.

The server below us waits for a request for ever and takes headers of any length. This subclass of
its protocol looks at each connection once a tick and cuts those that send too slowly, send headers
without end, or do not take their answer. Where an answer can still be read, it is a problem
document: 408, 431 or 400.

Time in which we do not read, because the application is busy with what came before, is not the
client's. A client that leaves meanwhile is noticed all the same, at the next tick.

Of requests that come at the same moment a few begin at each turn of the event loop, so that a
flood of uploads keeps nobody else waiting: 200 at once are a quarter of a second of work even where
all are refused, and a health check would come after them.
"""

import asyncio
import heapq
import json
import secrets
import select
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import (
    PROBLEM_MEDIA_TYPE,
    TABLE,
    BadRequest,
    HeadersTooLarge,
    RequestTimeout,
    ServiceError,
    problem,
)

_BEGUN_AT_ONCE = 4  # requests, at a turn of the event loop: about 2 ms
_AT_ONCE = 50  # one in so many of those that wait makes room for newcomers
_VERSIONS = {"1.0", "1.1"}
_CODING = b"transfer-encoding"
_LINGER_S = 1.0  # what still comes after an early answer is read, and thrown away, for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptLimits:
    """What a connection may take.

    Attributes:
        header_timeout_s: From the first moment to the last byte of the headers.
        receive_timeout_s: From the first moment to the last byte of the body.
        min_bytes_per_s: What has to come, and to be taken, on average, after the grace.
        grace_s: Time before that counts.
        max_header_bytes: Request line and headers; also trailers and whatever else is no body.
        max_connections: Open at once; beyond, the one that has waited longest for its client goes.
        tick_s: How often a connection is looked at.
    """

    header_timeout_s: float = 10.0
    receive_timeout_s: float = 120.0
    min_bytes_per_s: float = 16_384.0
    grace_s: float = 5.0
    max_header_bytes: int = 32_768
    max_connections: int = 900
    tick_s: float = 0.5


class Turnstile:
    """Lets a few requests begin at each turn of the event loop, in the order they came."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._n_left = _BEGUN_AT_ONCE  # of this turn
        self._is_turning = False

    def enter(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], None]) -> None:
        """Call `begin` when its turn has come."""
        if self._n_left:
            self._n_left -= 1
            begin()
        else:
            self._waiting.append(begin)
        if not self._is_turning:
            self._is_turning = True
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        n_begun = min(_BEGUN_AT_ONCE, len(self._waiting))
        for _ in range(n_begun):
            self._waiting.popleft()()
        self._n_left = _BEGUN_AT_ONCE - n_begun
        self._is_turning = n_begun > 0
        if self._is_turning:
            loop.call_soon(self._turn, loop)


class GuardedProtocol(HttpToolsProtocol):
    """One connection; `guarded` makes the class for given limits."""

    limits = ReceiptLimits()
    turnstile = Turnstile()
    on_refusal: Callable[[int, str], None] = staticmethod(lambda _status, _request_id: None)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._is_receiving = True  # a connection that says nothing is late too
        self._is_in_headers = True
        self._receiving_s = self._body_s = self._sending_s = 0.0
        self._body_bytes = self._header_bytes = self._unproductive_bytes = 0
        self._lingering_s = 0.0
        self._most_pending = 0
        self._is_dismissed = False
        self._begun: Any = None  # the request under way; `cycle` may be one that waits behind it
        self._last_words: ServiceError | None = None
        self._ticking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, and make room if there is none."""
        super().connection_made(transport)
        self._ticking = self.loop.call_later(self.limits.tick_s, self._tick)
        if len(self.connections) > self.limits.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        if self._ticking is not None:
            self._ticking.cancel()
        self.pipeline.clear()
        super().connection_lost(exc)
        if self._begun is not None and not self._begun.response_complete:
            self._begun.disconnected = True
            self._begun.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Count what is no body: it may come without end and never get to the application."""
        if self._is_dismissed or self.transport.is_closing():
            return
        self._is_receiving = True
        self._unproductive_bytes += len(data)
        super().data_received(data)
        if self._unproductive_bytes > self.limits.max_header_bytes:
            self._refuse_headers()

    def on_message_begin(self) -> None:
        """Start the receiving clock, where it is not running since the connection was made."""
        self._is_receiving = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the request line as a header."""
        self._header_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count, and keep what is within the limit; trailers come here too."""
        self._header_bytes += (
            len(name) + len(value) + 4
        )  # as written, with a colon and a line's end
        if self._header_bytes <= self.limits.max_header_bytes:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the request begin, unless its headers are too long."""
        self._is_in_headers = False
        self._unproductive_bytes = 0
        if self._header_bytes > self.limits.max_header_bytes:
            self._refuse_headers()
        elif fault := self._fault():
            self.send_400_response(fault)
        elif not self._is_dismissed:
            super().on_headers_complete()

    def _fault(self) -> str:
        """Say what RFC 9112, sections 2.3, 3.2 and 6.1, does not allow and the parser does."""
        version = self.parser.get_http_version()
        n_hosts = sum(name == b"host" for name, _ in self.headers)
        codings = [value.strip().lower() for name, value in self.headers if name == _CODING]
        if version not in _VERSIONS:
            return "The versions of HTTP that are taken are 1.0 and 1.1."
        if n_hosts > 1 or (n_hosts == 0 and version == "1.1"):
            return "A request of HTTP/1.1 has one Host header."
        if codings and (version == "1.0" or codings != [b"chunked"]):
            return "The one transfer coding that is taken is chunked, in HTTP/1.1."
        return ""

    def on_body(self, body: bytes) -> None:
        """Count a part of the body."""
        self._body_bytes += len(body)
        self._unproductive_bytes = 0
        if not self._is_dismissed:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the receiving clock and be ready to count another request."""
        self._is_receiving, self._is_in_headers = False, True
        self._receiving_s = self._body_s = 0.0
        self._body_bytes = self._header_bytes = self._unproductive_bytes = 0
        if self._is_dismissed:
            return
        super().on_message_complete()
        if self.cycle.response_complete:  # answered early: what came since has stopped this clock
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Say what had to wait until the answer was out; otherwise go on with the next request."""
        if self._last_words is not None and not self.transport.is_closing():
            self._write(self._last_words)
            return
        super().on_response_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Begin a request: at once, or when its turn has come where it brings something."""
        self._begun = cycle
        begin = partial(super()._start_asgi_task, cycle, app)
        if cycle.scope["method"] == "POST":
            self.turnstile.enter(self.loop, begin)
        else:
            begin()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as every other error."""
        self._answer(BadRequest(msg))

    def shutdown(self) -> None:
        """When the server stops, let an answer under way be finished, wait for no request."""
        if self._is_receiving:
            self.transport.close()
        else:
            super().shutdown()

    def _tick(self) -> None:
        """Look at the connection: is its client sending, and taking its answer, fast enough?"""
        self._ticking = self.loop.call_later(self.limits.tick_s, self._tick)
        self._watch_the_answer()
        if self.flow.read_paused and _has_left(self.transport):
            self.transport.abort()
            return
        if self._last_words is not None:
            return  # it is our turn
        if self._is_answered_early():
            self._lingering_s += self.limits.tick_s
            if self._lingering_s > _LINGER_S:
                self.transport.close()
        elif self._is_receiving and not self.flow.read_paused:
            self._receiving_s += self.limits.tick_s
            self._body_s += 0.0 if self._is_in_headers else self.limits.tick_s
            if self._is_late():
                self._give_up_waiting()

    def _is_answered_early(self) -> bool:
        """Say whether what still comes is only there to be thrown away."""
        half_read = self._is_receiving and not self._is_in_headers
        return self._is_dismissed or (half_read and self.cycle.response_complete)

    def _is_late(self) -> bool:
        if self._is_in_headers:
            return self._receiving_s > self.limits.header_timeout_s
        return (
            self._receiving_s > self.limits.receive_timeout_s
            or self._body_bytes < self._least_bytes(self._body_s)
        )

    def _watch_the_answer(self) -> None:
        """Cut a client that does not take what is sent to it; its memory is ours."""
        pending = self.transport.get_write_buffer_size()
        if not pending:
            self._sending_s, self._most_pending = 0.0, 0
            return
        self._sending_s += self.limits.tick_s
        self._most_pending = max(self._most_pending, pending)
        if self._most_pending - pending < self._least_bytes(self._sending_s):
            self.transport.abort()

    def _least_bytes(self, seconds: float) -> float:
        return self.limits.min_bytes_per_s * (seconds - self.limits.grace_s)

    def _give_up_waiting(self) -> None:
        if self._is_in_headers and not self._unproductive_bytes:
            self.transport.close()  # it never said a word
            return
        self._answer(RequestTimeout("The request came too slowly; nothing was done with it."))

    def _refuse_headers(self) -> None:
        most = self.limits.max_header_bytes
        self._answer(HeadersTooLarge(f"Headers may take {most:,} bytes.", {"limit_bytes": most}))

    def _answer(self, error: ServiceError) -> None:
        """Write a problem document past the application, after the answer that is under way.

        A request that has not come to its end is not answered otherwise. The connection is closed a
        moment later: closing it on what is still coming would reset it, and the client would not
        see why.
        """
        if self._is_dismissed or self.transport.is_closing():
            return
        self._is_dismissed = True
        self.pipeline.clear()
        begun = self._begun
        if begun is not None and not begun.response_complete:
            if not begun.more_body:
                self._last_words = error
                return
            begun.disconnected = True
            begun.message_event.set()
            if begun.response_started:
                self.transport.abort()
                return
        self._write(error)

    def _write(self, error: ServiceError) -> None:
        self._last_words = None
        status, _code, title = TABLE[type(error)]
        request_id = secrets.token_hex(8)
        self.on_refusal(status, request_id)
        body = json.dumps(problem(error)).encode()
        head = (
            f"HTTP/1.1 {status} {title}\r\ncontent-type: {PROBLEM_MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
            "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _is_waiting(self) -> bool:
        """Say whether it is the client's turn."""
        cycle: Any = self.cycle
        return self._is_receiving or cycle is None or cycle.response_complete

    def _make_room(self) -> None:
        """Close those that have kept us waiting longest, of the client that has most.

        Some at once, as looking at all of them takes a millisecond.
        """
        waiting = [
            other
            for other in self.connections
            if isinstance(other, GuardedProtocol) and other._is_waiting()  # noqa: SLF001 - our own kind
        ]
        hosts = Counter(_host(other) for other in waiting)

        def claim(other: "GuardedProtocol") -> tuple[int, float]:
            return hosts[_host(other)], other._receiving_s  # noqa: SLF001 - likewise

        for other in heapq.nlargest(1 + len(waiting) // _AT_ONCE, waiting, key=claim):
            other.transport.abort()


def _has_left(transport: asyncio.Transport) -> bool:
    """Say whether the client closed its side, though what it sent before is not read yet.

    Not seen, until reading goes on: an end behind more than the kernel keeps for us (some 100 kB),
    and any where the system does not tell (`POLLRDHUP` is Linux's).
    """
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


def _host(protocol: GuardedProtocol) -> str:
    return protocol.client[0] if protocol.client else ""


def guarded(
    limits: ReceiptLimits, on_refusal: Callable[[int, str], None] | None = None
) -> type[GuardedProtocol]:
    """Make the protocol class that holds these limits, for `uvicorn.Config(http=...)`.

    Args:
        limits: What a connection may take.
        on_refusal: Told the status and the request id of what is answered here.

    Returns:
        The class. Never raises.

    Example:
        >>> guarded(ReceiptLimits(grace_s=1.0)).limits.grace_s
        1.0
    """
    members: dict[str, Any] = {"limits": limits, "turnstile": Turnstile()}
    if on_refusal is not None:
        members["on_refusal"] = staticmethod(on_refusal)
    return type("LimitedProtocol", (GuardedProtocol,), members)
