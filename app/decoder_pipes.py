"""One process that decodes, seen from its parent: what is sent, what comes back, and its end.

`app.decoder_process` is the other side and says what is spoken. Methods block: they are for
threads.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.codecs import DecodedPicture
from app.decoder_process import GO_ON, HEAD, LENGTH, PICTURE, TABLE
from app.errors import CorruptImage, ServiceError
from app.points import Points

__all__ = ["DecoderLimits", "PipedProcess", "ProcessDiedError"]

_LONGEST_MESSAGE = 65_536
_NUMBER = np.dtype(np.float64).itemsize
_ROOT = Path(__file__).parents[1]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLimits:
    """What one picture may take.

    Attributes:
        max_pixels: Width times height, by its header.
        max_memory_bytes: Address space of a process.
        timeout_s: Time to decode; processor time is bounded alike.
    """

    max_pixels: int
    max_memory_bytes: int = 2 * 2**30
    timeout_s: float = 15.0


class ProcessDiedError(Exception):
    """It ended under a picture: killed, crashed, or out of processor time."""


class PipedProcess:
    """One decoding process and its pipes; its methods block."""

    def __init__(self, limits: DecoderLimits) -> None:
        cpu_s = max(1, round(limits.timeout_s))
        arguments = [limits.max_pixels, limits.max_memory_bytes, cpu_s]
        self._popen = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "app.decoder_process", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # a terminal's interrupt is for the parent
        )
        assert self._popen.stdin  # noqa: S101 - tells the type checker what PIPE says
        assert self._popen.stdout  # noqa: S101 - likewise
        self._to, self._from = self._popen.stdin, self._popen.stdout
        self._talking = threading.Lock()
        self.n_pictures = 0

    def read_size(self, encoded: bytes) -> int:
        """Send a picture and get how many pixels its header promises."""
        with self._talking:
            self._begin(PICTURE, encoded)
            width, height = self._receive_message()["size"]
        return int(width) * int(height)

    def read_pixels(self, encoded: bytes) -> DecodedPicture:
        """Let it decode and get the pixels."""
        with self._talking:
            self._send(GO_ON)
            message = self._receive_message()
            shape = tuple(map(int, message["shape"]))
            content = self._receive(int(np.prod(shape)))
            exif, xmp = (bytes(self._receive(int(length))) for length in message["metadata"])
        pixels = np.frombuffer(content, np.uint8).reshape(shape)
        return DecodedPicture(
            pixels=pixels,
            media_type=str(message["media_type"]),
            width=shape[1],
            height=shape[0],
            encoded=encoded,
            is_palette=bool(message["is_palette"]),
            exif=exif,
            xmp=xmp,
            warnings=tuple(map(str, message["warnings"])),
        )

    def read_table(self, encoded: bytes) -> Points:
        """Send a table and get its numbers."""
        with self._talking:
            self._begin(TABLE, encoded)
            message = self._receive_message()
            shape = tuple(map(int, message["shape"]))
            points = self._receive(int(np.prod(shape)) * _NUMBER)
            weights = self._receive(shape[0] * _NUMBER) if message["has_weights"] else None
        return Points(
            points=np.frombuffer(points).reshape(shape),
            weights=None if weights is None else np.frombuffer(weights),
            parameters=tuple((str(name), str(text)) for name, text in message["parameters"]),
        )

    def drop(self) -> None:
        """Do without the pixels."""
        with self._talking, contextlib.suppress(ServiceError):
            self._send(b"n")
            self._receive_message()

    def close(self) -> None:
        """End it at once; whoever waits for it in another thread learns that it died."""
        self._popen.kill()
        self._popen.wait()
        with self._talking:  # which ends now that the other end of the pipes is closed
            self._to.close()
            self._from.close()

    def _begin(self, kind: bytes, encoded: bytes) -> None:
        self.n_pictures += 1
        self._send(HEAD.pack(kind, len(encoded)))
        self._send(encoded)

    def _send(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            while view:
                view = view[self._to.write(view) :]
        except OSError as error:
            raise ProcessDiedError from error

    def _receive(self, n_bytes: int) -> bytearray:
        content = bytearray(n_bytes)
        view = memoryview(content)
        while view:
            n_read = self._from.readinto(view)  # type: ignore[attr-defined]
            if not n_read:
                raise ProcessDiedError
            view = view[n_read:]
        return content

    def _receive_message(self) -> dict[str, Any]:
        length = LENGTH.unpack(self._receive(LENGTH.size))[0]
        if length > _LONGEST_MESSAGE:
            raise ProcessDiedError  # it talks nonsense: as good as dead
        message: dict[str, Any] = json.loads(self._receive(length))
        if "error" in message:
            raise _error_of(message)
        return message


def _error_of(message: dict[str, Any]) -> ServiceError:
    if message["why"]:
        _log.info("what came does not decode: %s", message["why"])
    kinds = {kind.__name__: kind for kind in ServiceError.__subclasses__()}
    kind = kinds.get(str(message["error"]), CorruptImage)
    return kind(str(message["detail"]), dict(message["members"]))


def _environment() -> dict[str, str]:
    """Nothing of our own, so no secret; one thread for the libraries, as limits count threads."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return kept | {"PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
