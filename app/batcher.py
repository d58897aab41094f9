"""The waiting room in front of the engine.

It gathers jobs into batches, lets large ones run alone and forgets those nobody waits for.

A batch is full by work, not by count: a budget of pixels. While the engine is busy jobs gather by
themselves; when it is idle the first one waits a few milliseconds for company, where company pays.
A job larger than the budget gets the whole engine. A deadline and a client that leaves are the
same thing here: the waiting ends, and whoever computes learns that the result is not wanted.

Knows neither torch nor the web; a job may be anything.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from app.errors import NotReady

Job = TypeVar("Job")


@dataclass(eq=False, slots=True)
class Ticket(Generic[Job]):
    """A job and who waits for it.

    Attributes:
        job: What to compute.
        cost: Its pixels.
        asked_at: When it came, in seconds of `time.perf_counter`.
        is_wanted: False once nobody waits; may be read from any thread.
        result: What is waited for.
    """

    job: Job
    cost: int
    result: "asyncio.Future[Any]"
    asked_at: float = field(default_factory=time.perf_counter)
    is_wanted: bool = True


Run = Callable[[Sequence[Ticket[Job]], float], Awaitable[Sequence[Any]]]
"""Computes a batch with a share, in (0, 1], of the engine: a result or an exception for each."""


class Batcher(Generic[Job]):
    """Gathers jobs into batches; starts with the first one.

    Args:
        run: Computes a batch.
        cost_of: Pixels of a job.
        lanes: Batches computed at once.
        ahead: Batches given to the engine beyond those, so that a lane that is done has the next.
        max_batch_jobs: Most jobs of a batch; 1 where company does not pay.
        max_batch_pixels: Most pixels of a batch; a job with more runs alone.
        wait_s: How long the first job of a batch waits for company.
    """

    def __init__(
        self,
        run: Run[Job],
        cost_of: Callable[[Job], int],
        *,
        lanes: int = 1,
        ahead: int = 0,
        max_batch_jobs: int = 1,
        max_batch_pixels: int,
        wait_s: float = 0.0,
    ) -> None:
        self._run, self._cost_of, self._lanes, self._ahead = run, cost_of, lanes, ahead
        self._max_jobs, self._max_pixels = max_batch_jobs, max_batch_pixels
        self._wait_s = wait_s
        self._waiting: deque[Ticket[Job]] = deque()
        self._changed = asyncio.Condition()
        self._n_busy = 0
        self._dispatching: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self.on_batch: Callable[[int], None] = lambda _pixels: None

    async def submit(self, job: Job) -> Any:
        """Wait for a job's result.

        Raises:
            NotReady: The service is stopping.
        """
        future = asyncio.get_running_loop().create_future()
        ticket = Ticket(job, self._cost_of(job), future)
        self._waiting.append(ticket)
        try:
            await self._tell()
            return await future
        finally:
            ticket.is_wanted = False

    def close(self) -> None:
        """Begin nothing more; whoever still waits learns it."""
        if self._dispatching is not None:
            self._dispatching.cancel()
        for ticket in self._waiting:
            if not ticket.result.done():
                ticket.result.set_exception(NotReady("The service is stopping."))
        self._waiting.clear()

    @property
    def n_waiting(self) -> int:
        """Jobs that no lane has taken yet."""
        return len(self._waiting)

    async def _tell(self) -> None:
        self._dispatching = self._dispatching or asyncio.create_task(self._dispatch())
        async with self._changed:
            self._changed.notify_all()

    async def _dispatch(self) -> None:
        """Give the next batch to the next free lane, for ever."""
        while True:
            async with self._changed:
                await self._changed.wait_for(self._may_begin)
                batch = [self._waiting.popleft()]
                self._n_busy += self._lanes_for(batch[0])
                if not self._is_large(batch[0]):
                    await self._add_company(batch)
                share = self._lanes_for(batch[0]) / self._lanes if self._is_contended() else 1.0
            task = asyncio.create_task(self._run_batch(batch, share))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _may_begin(self) -> bool:
        """Say whether there is a job somebody wants, and room for it."""
        while self._waiting and not self._waiting[0].is_wanted:
            self._waiting.popleft()
        if not self._waiting:
            return False
        ticket = self._waiting[0]
        most = self._lanes if self._is_large(ticket) else self._lanes + self._ahead
        return self._n_busy + self._lanes_for(ticket) <= most

    def _is_large(self, ticket: Ticket[Job]) -> bool:
        return ticket.cost > self._max_pixels

    def _lanes_for(self, ticket: Ticket[Job]) -> int:
        return self._lanes if self._is_large(ticket) else 1

    def _is_contended(self) -> bool:
        return self._n_busy > 1 or bool(self._waiting)

    async def _add_company(self, batch: list[Ticket[Job]]) -> None:
        """Fill the batch with what waits, and with what comes in the next few milliseconds."""
        room = self._max_pixels - batch[0].cost
        until = asyncio.get_running_loop().time() + self._wait_s
        while len(batch) < self._max_jobs:
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait_for(lambda: bool(self._waiting))
            except TimeoutError:
                return
            if self._waiting[0].cost > room:
                return
            ticket = self._waiting.popleft()
            if ticket.is_wanted:
                room -= ticket.cost
                batch.append(ticket)

    async def _run_batch(self, batch: list[Ticket[Job]], share: float) -> None:
        self.on_batch(sum(ticket.cost for ticket in batch))
        try:
            results = await self._run(batch, share)
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait learn it
            results = [error] * len(batch)
        for ticket, result in zip(batch, results, strict=True):
            if ticket.result.done():
                continue
            if isinstance(result, BaseException):
                ticket.result.set_exception(result)
            else:
                ticket.result.set_result(result)
        self._n_busy -= self._lanes_for(batch[0])
        await self._tell()
