"""What whoever runs the service may set, read from the environment once, at start.

Every name is prefixed: `max_pixels` is `GPU_KMEANS_MAX_PIXELS`. The library reads no environment.
"""

import os
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Backend = Literal["auto", "reference", "cpu", "cuda"]
PROCESSORS = len(os.sched_getaffinity(0))  # that this process may run on


class Settings(BaseSettings):
    """The settings of one service; frozen, created in `create_app`, passed down.

    Example:
        >>> Settings(max_pixels=1_000_000).max_pixels
        1000000
    """

    model_config = SettingsConfigDict(env_prefix="GPU_KMEANS_", frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on. Loopback, so that nobody exposes the service without meaning to."""

    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port to listen on; 0 takes any free one."""

    backend: Backend = "auto"
    """What computes: `auto` is cuda where there is a GPU, else cpu.

    Naming one that cannot run here is an error, so that nothing is slow in silence.
    """

    max_body_bytes: int = Field(default=20 * 2**20, ge=1024, le=2**30)
    """Longest request body, in bytes: 20 MiB hold any telephone's photograph."""

    max_pixels: int = Field(default=50_000_000, ge=1, le=89_000_000)
    """Largest picture, width times height, in pixels, checked in its header.

    A pixel takes some 10 bytes while it is decoded. The bound is Pillow's own guard against bombs.
    """

    max_points_bytes: int = Field(default=4 * 2**20, ge=1024, le=2**30)
    """Longest table of points as JSON, in bytes: parsing it holds the interpreter."""

    max_jobs: int = Field(default=64, ge=1, le=10_000)
    """Requests computing or waiting to; one more is refused with 429. Bounds how long one waits."""

    max_client_jobs: int = Field(default=16, ge=1, le=10_000)
    """Those of one client (by address), so that one cannot take the whole queue."""

    max_pixels_in_flight: int = Field(default=200_000_000, ge=1, le=10**10)
    """Pixels of all pictures decoded and not yet answered; more are refused with 429.

    One picture is always let in, however large.
    """

    max_uploads_bytes: int = Field(default=256 * 2**20, ge=2**20, le=2**34)
    """Bytes of all bodies that came and are not yet answered, kept in memory, never on a disk."""

    compute_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest time from a whole request to its answer, waiting included, in seconds; then 504."""

    max_header_bytes: int = Field(default=32_768, ge=1024, le=2**20)
    """Longest request line and headers, in bytes; the server below has no limit."""

    header_timeout_s: float = Field(default=10.0, gt=0, le=600)
    """How long a connection may take to its first request's last header, in seconds."""

    receive_timeout_s: float = Field(default=120.0, gt=0, le=3600)
    """How long a whole request may take to come, in seconds."""

    min_bytes_per_s: float = Field(default=16_384.0, ge=1, le=10**9)
    """What a client has to send, and to take of its answer, on average: a poor telephone line."""

    grace_s: float = Field(default=5.0, ge=0, le=600)
    """Time before `min_bytes_per_s` counts, in seconds."""

    max_connections: int = Field(default=900, ge=1, le=100_000)
    """Connections open at once, below the usual limit of 1024 files a process.

    One more displaces the one that has kept us waiting longest, so that health checks get through.
    """

    trusted_proxies: str = ""
    """Addresses, separated by commas, whose `X-Forwarded-For` says who the client is; none."""

    result_cache_bytes: int = Field(default=64 * 2**20, ge=0, le=2**36)
    """Answers kept in memory so that nothing is computed twice, in bytes; 0 keeps none."""

    result_ttl_s: float = Field(default=900.0, gt=0, le=86_400)
    """How long an answer is kept, in seconds."""

    api_keys: SecretStr = SecretStr("")
    """Keys, separated by commas, of which a request has to bring one; none asks for none."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is worth a line on standard error."""

    log_format: Literal["text", "json"] = "text"
    """How a line is written: for people, or for programs."""

    codec_threads: int = Field(default=PROCESSORS, ge=1, le=256)
    """Pictures decoded, and encoded, at the same time: one a processor, as they only compute."""

    decode_timeout_s: float = Field(default=15.0, gt=0, le=600)
    """Longest time one picture may take to decode, in seconds; 50 megapixels take about two."""

    decode_memory_bytes: int = Field(default=2 * 2**30, ge=2**28, le=2**40)
    """Address space of a process that decodes: 50 megapixels with a profile fit."""

    engine_processes: int = Field(default=min(PROCESSORS, 8), ge=0, le=256)
    """Processes that compute on the CPU what shares the processors, one picture at a time each.

    They are forked from one that takes 240 MB, and take 20 MB more each, and room for a picture.
    With 0, as many threads of the server compute as there are processors, and small pictures take a
    quarter longer, as threads take turns at the interpreter; with 1, one thread does.
    """

    max_batch_pixels: int = Field(default=8_000_000, ge=1, le=10**9)
    """Pixels computed as one batch on a GPU; a larger picture runs alone, on the CPU too.

    Below it a picture leaves other processors idle, so several are computed at once.
    """

    batch_wait_timeout_s: float = Field(default=0.005, ge=0, le=1)
    """How long the first job of a batch waits for company on a GPU, in seconds: one call there."""

    stop_timeout_s: int = Field(default=20, ge=0, le=600)
    """How long accepted requests may take to finish once the service is told to stop, in seconds.

    Without a limit one slow sender would block every restart.
    """
