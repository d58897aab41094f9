"""What whoever runs the service may set, read from the environment once, at start.

Every name is prefixed: `max_pixels` is `GPU_KMEANS_MAX_PIXELS`. The library reads no environment.
"""

import os
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Backend = Literal["auto", "reference", "cpu", "cuda"]


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

    codec_threads: int = Field(default=os.cpu_count() or 1, ge=1, le=256)
    """Pictures decoded or encoded at the same time: one a processor, as they only compute."""

    stop_timeout_s: int = Field(default=20, ge=0, le=600)
    """How long accepted requests may take to finish once the service is told to stop, in seconds.

    Without a limit one slow sender would block every restart.
    """
