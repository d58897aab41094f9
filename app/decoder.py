"""Decoding in processes that can be killed: what hangs or crashes costs its own request only.

Each process decodes one picture at a time and is started by exec, never by a mere fork of a process
with threads. A picture's header is read first, and room for its pixels taken before they exist. A
process that dies under a picture is replaced and the picture tried once more, since the death may
have had nothing to do with it; one that takes too long is killed. Tables of points are read there
too: parsing four megabytes of JSON holds an interpreter for a quarter of a second, and this one has
others to answer.
"""

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread

from app import errors
from app.codecs import DecodedPicture
from app.decoder_process import GO_ON, HEAD, LENGTH, PICTURE, TABLE
from app.errors import BadPoints, CorruptImage, ServiceError
from app.points import Points

T = TypeVar("T")
_MOST_PICTURES = 1000  # of one process; then a new one, whatever its libraries have leaked
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


class _ProcessDiedError(Exception):
    """It ended under a picture: killed, crashed, or out of processor time."""


class _Process:
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
            raise _ProcessDiedError from error

    def _receive(self, n_bytes: int) -> bytearray:
        content = bytearray(n_bytes)
        view = memoryview(content)
        while view:
            n_read = self._from.readinto(view)  # type: ignore[attr-defined]
            if not n_read:
                raise _ProcessDiedError
            view = view[n_read:]
        return content

    def _receive_message(self) -> dict[str, Any]:
        length = LENGTH.unpack(self._receive(LENGTH.size))[0]
        if length > _LONGEST_MESSAGE:
            raise _ProcessDiedError  # it talks nonsense: as good as dead
        message: dict[str, Any] = json.loads(self._receive(length))
        if "error" in message:
            raise _error_of(message)
        return message


@dataclass(slots=True)
class Decoder:
    """A few decoding processes, started when they are needed.

    Attributes:
        limits: What one picture may take.
        processes: How many may decode at once.
        room: Holds room for that many pixels, or raises that there is none.
        kills: How many processes were killed or died.
    """

    limits: DecoderLimits
    processes: int = 1
    room: Callable[[int], AbstractContextManager[None]] = lambda _: contextlib.nullcontext()
    kills: int = 0
    _idle: list[_Process] = field(default_factory=list)
    _is_closed: bool = False
    _turns: asyncio.Semaphore | None = None
    _threads: CapacityLimiter | None = None

    def warm_up(self) -> None:
        """Start the processes, so that no picture waits for one. Returns at once."""
        self._is_closed = False
        while len(self._idle) < self.processes:
            self._idle.append(_Process(self.limits))

    def close(self) -> None:
        """End the processes that are idle; those at work end with their request."""
        self._is_closed = True
        self._end_idle()

    def _end_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @asynccontextmanager
    async def decoded(self, encoded: bytes) -> AsyncIterator[DecodedPicture]:
        """Decode a picture and hold room for it until the end of the block.

        Raises:
            ServiceError: As `app.codecs.decode`, or as `room`.
        """
        if not encoded:
            raise errors.MissingImage("The picture has no bytes.")
        with ExitStack() as held:

            async def decode(process: _Process) -> DecodedPicture:
                held.close()  # of a first try
                n_pixels = await self._in_thread(process.read_size, encoded)
                try:
                    held.enter_context(self.room(n_pixels))
                except ServiceError:
                    await self._in_thread(process.drop)
                    raise
                return await self._in_thread(process.read_pixels, encoded)

            yield await self._tried_twice(decode, CorruptImage, "picture")

    async def table(self, encoded: bytes) -> Points:
        """Read points from JSON.

        Raises:
            BadPoints: As `app.points.parse_points`, or it takes too much time or memory.
        """

        async def read(process: _Process) -> Points:
            return await self._in_thread(process.read_table, encoded)

        return await self._tried_twice(read, BadPoints, "table")

    async def _tried_twice(
        self, step: Callable[[_Process], Awaitable[T]], error: type[ServiceError], what: str
    ) -> T:
        """Use a process; if it dies another one, as the death may be another's doing."""
        try:
            return await self._use(step, error, what)
        except _ProcessDiedError:
            self._end_idle()  # whatever killed one process may have killed them all
        try:
            return await self._use(step, error, what)
        except _ProcessDiedError as death:
            _log.warning("a %s killed its reader, twice", what)
            raise error(f"The {what} is more than its reader can take.") from death

    async def _use(
        self, step: Callable[[_Process], Awaitable[T]], error: type[ServiceError], what: str
    ) -> T:
        """Wait for a process and use it for a while; then it is put back, or ended."""
        self._turns = self._turns or asyncio.Semaphore(self.processes)
        async with self._turns:
            process = self._idle.pop() if self._idle else _Process(self.limits)
            is_usable = False
            try:
                async with asyncio.timeout(self.limits.timeout_s):
                    result = await step(process)
                is_usable = True
            except ServiceError:
                is_usable = True
                raise
            except TimeoutError as late:
                limit_s = self.limits.timeout_s
                raise error(f"The {what} did not decode within {limit_s:g} s.") from late
            finally:
                self._put_back(process, is_usable=is_usable)
        return result

    async def _in_thread(self, step: Callable[..., T], *arguments: Any) -> T:
        """Wait for a process in a thread; a thread left behind ends when its process is killed."""
        self._threads = self._threads or CapacityLimiter(2 * self.processes)
        return await to_thread.run_sync(
            step, *arguments, abandon_on_cancel=True, limiter=self._threads
        )

    def _put_back(self, process: _Process, *, is_usable: bool) -> None:
        if is_usable and process.n_pictures < _MOST_PICTURES and not self._is_closed:
            self._idle.append(process)
            return
        self.kills += not is_usable
        process.close()


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
