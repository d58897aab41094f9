"""One process that decodes, seen from its parent: what is sent, and what comes back.

`app.decoder_process` is the other side and says what is spoken. Methods block: they are for
threads.
"""

import contextlib
import json
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.codecs import DecodedPicture
from app.decoder_process import GO_ON, HEAD, PICTURE, TABLE
from app.errors import CorruptImage, ServiceError
from app.pipes import LENGTH, PipedProcess, ProcessDiedError
from app.points import Points
from app.shared_pixels import MakeArray, new_array

__all__ = ["DecoderLimits", "DecodingProcess"]

_LONGEST_MESSAGE = 65_536
_NUMBER = np.dtype(np.float64).itemsize
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


class DecodingProcess(PipedProcess):
    """One decoding process; its methods block.

    Args:
        limits: What one picture may take.
        array: Makes room for pixels.
    """

    def __init__(self, limits: DecoderLimits, array: MakeArray = new_array) -> None:
        cpu_s = max(1, round(limits.timeout_s))
        super().__init__("app.decoder_process", limits.max_pixels, limits.max_memory_bytes, cpu_s)
        self.n_pictures, self._array = 0, array
        self._is_waiting = False  # for a word on whether to decode

    def begin(self, encoded: bytes, at_once: int) -> tuple[int, DecodedPicture | None]:
        """Send a picture; get how many pixels it has by its header, and itself if few enough."""
        with self._talking:
            self._begin(PICTURE, encoded)
            width, height = self._receive_message()["size"]
        self._is_waiting = True
        n_pixels = int(width) * int(height)
        return n_pixels, self.read_pixels(encoded) if n_pixels <= at_once else None

    def read_pixels(self, encoded: bytes) -> DecodedPicture:
        """Let it decode and get the pixels."""
        with self._talking:
            self._is_waiting = False
            self._send(GO_ON)
            message = self._receive_message()
            shape = tuple(map(int, message["shape"]))
            pixels = self._array(int(np.prod(shape)))
            self._receive_into(pixels.data)
            exif, xmp = (bytes(self._receive(int(length))) for length in message["metadata"])
        return DecodedPicture(
            pixels=pixels.reshape(shape),
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
        """Do without the pixels, if they have not come."""
        if not self._is_waiting:
            return
        self._is_waiting = False
        with self._talking, contextlib.suppress(ServiceError):
            self._send(b"n")
            self._receive_message()

    def _begin(self, kind: bytes, encoded: bytes) -> None:
        self.n_pictures += 1
        self._send(HEAD.pack(kind, len(encoded)))
        self._send(encoded)

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
