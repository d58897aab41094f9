"""Decoding in processes that can be killed: what hangs or crashes costs its own request only.

Each process decodes one picture at a time and is started by exec, never by a mere fork of a process
with threads. A picture's header is read first, and room for its pixels taken before they exist;
where it has to wait for its turn it waits as it came, and its header is read once more. A small one
comes whole where there is room for any such, as each word with a process takes a thread. A process
that dies under a picture is replaced and the picture tried once more, since the death may have had
nothing to do with it; one that takes too long is killed. Tables of points are read there too:
parsing four megabytes of JSON holds an interpreter for a quarter of a second, and this one has
others to answer.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from app.codecs import DecodedPicture
from app.decoder_pipes import DecoderLimits, DecodingProcess
from app.errors import BadPoints, CorruptImage, MissingImage, ServiceError
from app.pipes import ProcessDiedError
from app.points import Points
from app.shared_pixels import MakeArray, new_array
from app.turns import Turns

__all__ = ["Decoder", "DecoderLimits"]

T = TypeVar("T")
_MOST_PICTURES = 1000  # of one process; then a new one, whatever its libraries have leaked
_SMALL = 1_000_000  # pixels, which no process holds for long
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Turn:
    """A picture's turn to be in memory, held until its request ends."""

    turns: Turns
    held: ExitStack
    n_pixels: int = 0
    is_held: bool = False

    def may_be(self, n_pixels: int) -> bool:
        return self.is_held or self.turns.are_free(n_pixels)

    def take(self, n_pixels: int) -> bool:
        self.n_pixels = n_pixels
        if not self.is_held and self.turns.take(n_pixels):
            self._hold()
        return self.is_held

    async def wait(self) -> None:
        await self.turns.wait(self.n_pixels)
        self._hold()

    def _hold(self) -> None:
        self.is_held = True
        self.held.callback(self.turns.give_back, self.n_pixels)


@dataclass(slots=True)
class Decoder:
    """A few decoding processes, started when they are needed.

    Attributes:
        limits: What one picture may take.
        processes: How many may decode at once.
        room: Holds room for that many pixels, or raises that there is none.
        has_room: Says whether there is room for that many.
        turns: Says when those pixels may be in memory.
        kills: How many processes were killed or died.
        array: Makes room for pixels.
    """

    limits: DecoderLimits
    processes: int = 1
    room: Callable[[int], AbstractContextManager[None]] = lambda _: contextlib.nullcontext()
    has_room: Callable[[int], bool] = lambda _: True
    turns: Turns = field(default_factory=lambda: Turns(max_pixels=sys.maxsize))
    kills: int = 0
    array: MakeArray = new_array
    _idle: list[DecodingProcess] = field(default_factory=list)
    _is_closed: bool = False
    _turns: asyncio.Semaphore | None = None
    _threads: CapacityLimiter | None = None

    def warm_up(self) -> None:
        """Start the processes, so that no picture waits for one. Returns at once."""
        self._is_closed = False
        while len(self._idle) < self.processes:
            self._idle.append(DecodingProcess(self.limits, self.array))

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
            raise MissingImage("The picture has no bytes.")
        with ExitStack() as held:
            turn = _Turn(self.turns, held)

            async def decode(process: DecodingProcess) -> DecodedPicture | None:
                at_once = _SMALL if turn.may_be(_SMALL) and self.has_room(_SMALL) else 0
                n_pixels, picture = await self._in_thread(process.begin, encoded, at_once)
                try:
                    if not turn.n_pixels:  # else this is not the first try
                        held.enter_context(self.room(n_pixels))
                except ServiceError:
                    await self._in_thread(process.drop)
                    raise
                if not turn.take(n_pixels):
                    await self._in_thread(process.drop)  # for others, while we wait
                    return None
                return picture or await self._in_thread(process.read_pixels, encoded)

            while (picture := await self._tried_twice(decode, CorruptImage, "picture")) is None:
                await turn.wait()
            yield picture

    async def table(self, encoded: bytes) -> Points:
        """Read points from JSON.

        Raises:
            BadPoints: As `app.points.parse_points`, or it takes too much time or memory.
            BadParameter: Likewise.
        """

        async def read(process: DecodingProcess) -> Points:
            return await self._in_thread(process.read_table, encoded)

        return await self._tried_twice(read, BadPoints, "table")

    async def _tried_twice(
        self, step: Callable[[DecodingProcess], Awaitable[T]], error: type[ServiceError], what: str
    ) -> T:
        """Use a process; if it dies another one, as the death may be another's doing."""
        try:
            return await self._use(step, error, what)
        except ProcessDiedError:
            self._end_idle()  # whatever killed one process may have killed them all
        try:
            return await self._use(step, error, what)
        except ProcessDiedError as death:
            _log.warning("a %s killed its reader, twice", what)
            raise error(f"The {what} is more than its reader can take.") from death

    async def _use(
        self, step: Callable[[DecodingProcess], Awaitable[T]], error: type[ServiceError], what: str
    ) -> T:
        """Wait for a process and use it for a while; then it is put back, or ended."""
        self._turns = self._turns or asyncio.Semaphore(self.processes)
        async with self._turns:
            process = self._idle.pop() if self._idle else DecodingProcess(self.limits, self.array)
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

    def _put_back(self, process: DecodingProcess, *, is_usable: bool) -> None:
        if is_usable and process.n_pictures < _MOST_PICTURES and not self._is_closed:
            self._idle.append(process)
            return
        self.kills += not is_usable
        process.close()
