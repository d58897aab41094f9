"""The process that serves: the limits of each connection, and an orderly stop.

On SIGTERM or SIGINT the doors that compute close at once and readiness turns false, while health
goes on answering; what was let in is finished, then the process ends with 0. A second signal, or
`stop_timeout_s`, ends it anyway.
"""

import logging
import math
import os
import resource
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI
from opentelemetry.trace import get_tracer_provider

from app.admission import Admission
from app.heaps import share_heaps
from app.protocol import ReceiptLimits, guarded
from app.settings import Settings

_ACCEPTED_AT_ONCE = 128  # connections of a flood, before the others have their turn again
_CONNECTION_FILES = 124  # what else a process may have open: pipes, sockets, logs
_TRACES_MS = 2000  # to send the last traces
_AT_LEAST_S = 1  # for answers still being written when the time is over
_log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server, which finishes what `admission` let in before it closes its doors."""

    def __init__(self, config: uvicorn.Config, admission: Admission, stop_timeout_s: float) -> None:
        super().__init__(config)
        self._admission, self._stop_timeout_s = admission, stop_timeout_s
        self._stop_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Close the doors that compute; the second time, stop."""
        if self._stop_at is None:
            self._admission.is_open = False
            self._stop_at = time.monotonic() + self._stop_timeout_s
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """End the loop once nothing is under way, or it has taken too long."""
        if self._stop_at is not None:
            is_late = time.monotonic() >= self._stop_at
            self.should_exit |= is_late or not self._admission.jobs
            left_s = max(0, math.ceil(self._stop_at - time.monotonic()))
            self.config.timeout_graceful_shutdown = left_s + _AT_LEAST_S  # to take the answers
        return await super().on_tick(counter)


def serve(app: FastAPI, settings: Settings) -> None:
    """Serve until told to stop.

    Args:
        app: Of `create_app`.
        settings: The same as the application's.
    """
    _allow_files(settings.max_connections + _CONNECTION_FILES)
    share_heaps()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="asyncio",  # the one that is tested, whatever else is installed
        http=guarded(_receipt_limits(settings), app.state.metrics.refused),
        ws="none",
        backlog=_ACCEPTED_AT_ONCE,
        log_config=None,  # ours, see app.observability
        access_log=False,  # likewise
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
    )
    Server(config, app.state.admission, settings.stop_timeout_s).run()
    _flush_traces()
    _log.info("stopped")
    logging.shutdown()
    os._exit(0)  # a computation that nobody waits for any more must not keep the process


def _flush_traces() -> None:
    """Let a tracer provider that was set send what it holds; ours is none, which holds nothing."""
    flush: Callable[[int], object] | None = getattr(get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush(_TRACES_MS)


def _receipt_limits(settings: Settings) -> ReceiptLimits:
    return ReceiptLimits(
        header_timeout_s=settings.header_timeout_s,
        receive_timeout_s=settings.receive_timeout_s,
        min_bytes_per_s=settings.min_bytes_per_s,
        grace_s=settings.grace_s,
        max_header_bytes=settings.max_header_bytes,
        max_connections=settings.max_connections,
    )


def _allow_files(wanted: int) -> None:
    """Raise our own limit of open files, as far as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
