"""What can be seen from outside: numbers for Prometheus, a line a request, an id to find it by.

Counters live where they are counted, as plain integers; `Metrics` reads them when it is asked. No
line and no number holds anything of a picture, nor a file's name.
"""

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from urllib.parse import urlsplit, urlunsplit

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import InternalError, NotReady
from app.problems import problem_response

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}
_CLIENT_LEFT = 499  # as proxies log it
_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_PIXELS = tuple(2.0**power for power in range(12, 28, 2))
_request_id: ContextVar[str] = ContextVar("request_id", default="-")
_log = logging.getLogger("app.requests")


class Metrics:
    """Numbers of one application.

    Args:
        read: Gives the gauges and counters of its parts, by name; a counter's ends in `_total`.
    """

    def __init__(self, read: Callable[[], Mapping[str, float]]) -> None:
        self._read, self._registry = read, CollectorRegistry()
        self.requests = Counter(
            "gpu_kmeans_requests", "Requests answered", ["route", "status"], registry=self._registry
        )
        self._stages = Histogram(
            "gpu_kmeans_stage_seconds",
            "Time of an answer by stage",
            ["stage"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_pixels = Histogram(
            "gpu_kmeans_batch_pixels",
            "Pixels computed as one batch",
            buckets=_PIXELS,
            registry=self._registry,
        )
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Read what the parts have counted; the registry asks."""
        for name, value in self._read().items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(f"gpu_kmeans_{name}", name.replace("_", " "), value=value)

    def stages(self, timing_ms: Mapping[str, float]) -> None:
        """Count an answer's time by stage, in milliseconds."""
        for stage, milliseconds in timing_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1e3)

    def refused(self, status: int, request_id: str) -> None:
        """Count and tell of an answer given before there was a request. Never raises."""
        self.requests.labels("connection", str(status)).inc()
        facts = {"request_id": request_id, "route": "connection", "status": status}
        _log.info("refused", extra={"facts": facts})

    def render(self) -> bytes:
        """Write every number as Prometheus reads it."""
        return generate_latest(self._registry)


class Observed:
    """Middleware around everything: an id, a line, a count, and the headers that protect a browser.

    Args:
        app: What is observed.
        metrics: Where answers are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens, and tell how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        _request_id.set(request_id)
        started_at, status = time.perf_counter(), _CLIENT_LEFT

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                if "location" in headers:  # whoever is in front knows its scheme and its name
                    parts = urlsplit(headers["location"])
                    path = f"/{parts.path.lstrip('/')}"  # two slashes would begin a name
                    headers["Location"] = urlunsplit(("", "", path, *parts[3:]))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except asyncio.CancelledError:  # by the server, when `stop_timeout_s` is over
            error = NotReady("The service stopped before this was done; ask again.")
            await problem_response(error)(scope, receive, send_with_headers)
        except Exception:  # the last one who can answer, and the only one who knows the id
            _log.exception("a defect")
            if status != _CLIENT_LEFT:
                raise  # half an answer is out: the server cuts the connection
            defect = InternalError("Something went wrong here; the log says what.")
            await problem_response(defect)(scope, receive, send_with_headers)
        finally:
            self._tell(scope, status, time.perf_counter() - started_at)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(status)).inc()
        facts = {"method": scope["method"], "route": route, "status": status}
        _log.info("request", extra={"facts": facts | {"ms": round(1e3 * seconds, 1)}})


class _Lines(logging.Formatter):
    """One JSON object a line, or plain text; always with the request's id."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        facts = {"request_id": _request_id.get(), **getattr(record, "facts", {})}
        if not self._as_json:
            return f"{super().format(record)} {' '.join(f'{k}={v}' for k, v in facts.items())}"
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(level: str, log_format: str) -> None:
    """Write every line of this process to standard error. For commands, not for libraries.

    Args:
        level: Such as `info`.
        log_format: `json` or `text`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(as_json=log_format == "json"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
