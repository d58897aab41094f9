"""The device and the threads that talk to it: jobs in, results out.

Two threads talk to a GPU, each on a stream of its own, so that the copies of one batch overlap with
the computing of another; pictures that want the same are computed together (`app.together`), halved
where there is no room, then each by itself, then on the CPU. On the CPU several jobs are computed
at once, in lanes of their own (`app.lanes`) that share the processors, which is a third faster than
one job with all of them; a job that is alone, or large, has them all, in a thread of ours.

What is computed says `app.jobs`; the engine adds the device, the thread and the clock.
Knows no web framework.
"""

import asyncio
import gc
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8

from app.batcher import Ticket
from app.device import enter_stream, make_room
from app.errors import DeviceUnavailable, OutOfMemory, ServiceError
from app.first_jobs import something_small
from app.jobs import Job, Outcome, public_errors
from app.lanes import Lane, LaneProcess, OwnLane, UnwantedError
from app.nursery import Nursery
from app.together import alike, run_together, wanted
from gpu_kmeans.backends import backend_for

Result = TypeVar("Result")
_CPU = torch.device("cpu")
_MOST_JOBS = 64  # of a batch
_PLACES = 4  # for small pictures, a process
_GPU_LANES = 2  # one computes while the other copies
_MOST_DEFECTS = 3  # in a row; then something is broken, and readiness says so
_LOOK_EVERY_S = 1.0
_NO_ROOM = (MemoryError, torch.OutOfMemoryError)
_log = logging.getLogger(__name__)


class Engine:
    """Owns the device; only its threads talk to it.

    Args:
        backend: `auto` (cuda where there is a GPU, else cpu), `reference`, `cpu` or `cuda`.
        processors: How many to use on the CPU; None for all that this process may run on.
        processes: How many compute beside this one, on the CPU, what shares the processors, a job
            at a time each; with none, as many threads do as there are processors, with one, one.
        niceness: Of its threads on Linux, beyond our own: at 5 they have a third of the time that
            one has who answers, decodes or encodes meanwhile.

    Raises:
        DeviceUnavailable: The backend cannot run here.
    """

    def __init__(
        self,
        backend: str = "auto",
        processors: int | None = None,
        processes: int = 0,
        niceness: int = 0,
    ) -> None:
        has_gpu = torch.cuda.is_available()
        if backend == "cuda" and not has_gpu:
            raise DeviceUnavailable("The cuda backend was asked for, and there is no GPU here.")
        on_gpu = has_gpu and backend in {"auto", "cuda"}
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else _CPU
        with public_errors():
            self.backend = backend_for(self._device, backend).name
        self.device = str(self._device)
        self._n_processors = processors or _processors()
        threads = _GPU_LANES if on_gpu else self._n_processors
        processes = 0 if on_gpu else processes
        self.lanes = processes or threads
        nice = os.getpriority(os.PRIO_PROCESS, 0) + niceness
        n_beside = processes if processes > 1 else 0  # one alone shares with nobody
        self._nursery = Nursery(nice, self.backend, _PLACES * n_beside)
        self._beside = [LaneProcess(self._nursery) for _ in range(n_beside)]
        self._cold = list(self._beside)  # which take no job yet
        self._free: queue.SimpleQueue[LaneProcess] = queue.SimpleQueue()
        self.has_processes = bool(self._beside)
        self.ahead = int(self.has_processes)  # a process that is done finds the next job here
        self.max_batch_jobs = _MOST_JOBS if on_gpu else 1  # threads, not batches, fill processors
        self._threads = ThreadPoolExecutor(
            self.lanes + self.ahead,
            "engine",
            initializer=_enter,
            initargs=(self._device, niceness),
        )
        self.out_of_memory = self.moved_to_cpu = 0  # batches or jobs; jobs
        self._is_warm, self._n_defects = False, 0

    @property
    def is_ready(self) -> bool:
        """It is warm, and the last jobs have not all failed by a defect."""
        return self._is_warm and self._n_defects < _MOST_DEFECTS

    @property
    def deaths(self) -> int:
        """How many processes that compute beside this one have died or were killed at work."""
        return sum(lane.deaths for lane in self._beside)

    async def submit(self, job: Job[Result]) -> Outcome[Result]:
        """Compute a job by itself, as soon as a thread is free, with all processors.

        Raises:
            BadParameter: An option is outside what the library takes.
            BadPoints: The points cannot be clustered.
            DeviceUnavailable: The device cannot be had.
        """
        ticket: Ticket[Job[Result]] = Ticket(job, 0, asyncio.get_running_loop().create_future())
        (outcome,) = await self.compute([ticket], 1.0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def compute(
        self, tickets: Sequence[Ticket[Job[Any]]], share: float
    ) -> list[Outcome[Any] | BaseException]:
        """Compute a batch in one of the engine's threads; each job fails by itself.

        Args:
            tickets: Jobs; one that is no longer wanted ends at its next step.
            share: Of the processors, in (0, 1].
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._compute, tickets, share)

    async def warm_up(self) -> None:
        """Compute something small, so that nobody waits for compilation, then be ready.

        Processes beside this one join when they have done so too.
        """
        if self._beside:
            self._nursery.start()
        for job in something_small(self._device):
            await self.submit(job)
        gc.collect()
        gc.freeze()  # what is there now stays: a later collection, which holds everyone, is short
        self._is_warm, self._n_defects = True, 0
        _log.info("ready: %s on %s", self.backend, self.device)
        if self._cold:
            await asyncio.to_thread(self._join)

    def _join(self) -> None:
        """Let processes come up; from then on they take jobs, and try again if they have not."""
        while self._cold:
            self._cold[-1].come_up()
            self._free.put(self._cold.pop())

    async def stay_ready(self) -> None:
        """Warm up, and again whenever it is not ready any more, until cancelled."""
        while True:
            for lane in self._beside:
                lane.look(_LOOK_EVERY_S)
            try:
                if not self.is_ready or self._cold:
                    await self.warm_up()
            except Exception:  # noqa: BLE001 - whatever it is, the service is not ready
                _log.exception("the engine does not compute")
            await asyncio.sleep(_LOOK_EVERY_S)

    def room_for(self, n_bytes: int) -> UInt8[np.ndarray, " n"]:
        """Give an array for pixels: one from which they are computed without being sent there."""
        return self._nursery.room.array(n_bytes)

    def memory_bytes(self) -> int:
        """Say how much memory of its own a GPU has given us. Never raises."""
        return torch.cuda.memory_reserved() if self._device.type == "cuda" else 0

    def close(self) -> None:
        """End the threads once the jobs in hand are done, without waiting for that."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._nursery.close()
        for lane in self._beside:
            lane.close()

    def _compute(
        self, tickets: Sequence[Ticket[Job[Any]]], share: float
    ) -> list[Outcome[Any] | BaseException]:
        if self.max_batch_jobs == 1 or len(tickets) == 1:
            return [self._outcome_or_error(ticket, share) for ticket in tickets]
        found: dict[int, Outcome[Any] | BaseException] = {}
        for members in alike(tickets):
            group = [tickets[i] for i in members]
            found.update(zip(members, self._compute_together(group), strict=True))
        return [found[i] for i in range(len(tickets))]

    def _compute_together(
        self, tickets: Sequence[Ticket[Job[Any]]], tries: int = 2
    ) -> list[Outcome[Any] | BaseException]:
        """Compute pictures in one call; in halves where there is no room, then each by itself."""
        if len(tickets) == 1 or not tries:
            return [self._outcome_or_error(ticket) for ticket in tickets]
        try:
            outcomes = run_together(tickets, self._device, self.backend)
        except _NO_ROOM as error:
            self.out_of_memory += 1
            _log.warning("no room for %d jobs on %s: %r", len(tickets), self.device, error)
        except Exception:  # noqa: BLE001 - whose it is shows when each is computed by itself
            return [self._outcome_or_error(ticket) for ticket in tickets]
        else:
            self._n_defects = 0
            return list(outcomes)
        make_room(self._device)
        half = (len(tickets) + 1) // 2
        halves = (tickets[:half], tickets[half:])
        return [found for part in halves for found in self._compute_together(part, tries - 1)]

    def _outcome_or_error(
        self, ticket: Ticket[Job[Any]], share: float = 1.0
    ) -> Outcome[Any] | BaseException:
        """Compute one job; whatever it raises is its own, and the next one's turn comes."""
        try:
            outcome = self._run(ticket, share)
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits
            is_defect = not isinstance(error, (ServiceError, UnwantedError))
            self._n_defects += is_defect or isinstance(error, DeviceUnavailable)
            return error
        self._n_defects = 0
        return outcome

    def _run(self, ticket: Ticket[Job[Result]], share: float) -> Outcome[Result]:
        with self._lane(share) as lane, public_errors():
            started_at = time.perf_counter()
            device, backend, result = self._with_room(lane, ticket, share)
        moved = device != self._device
        return Outcome(
            result=result,
            device=str(device),
            backend=backend,
            warnings=(f"{self.device} had no room: computed on the CPU",) if moved else (),
            queue_ms=1e3 * (started_at - ticket.asked_at),
            kmeans_ms=1e3 * (time.perf_counter() - started_at),
        )

    @contextmanager
    def _lane(self, share: float) -> Iterator[Lane]:
        """Have a lane: a process for what shares the processors, once they are up."""
        if share == 1.0 or self._cold or not self._beside:
            yield OwnLane()
            return
        lane = self._free.get()
        try:
            yield lane
        finally:
            self._free.put(lane)

    def _with_room(
        self, lane: Lane, ticket: Ticket[Job[Result]], share: float
    ) -> tuple[torch.device, str, Result]:
        """Compute; where memory runs out, free what can be and try again, on the CPU."""
        n_threads = max(1, round(share * self._n_processors))

        def run(device: torch.device, backend: str) -> tuple[torch.device, str, Result]:
            found = lane.run(ticket.job, device, backend, n_threads, wanted(ticket))
            return device, backend, found

        try:
            return run(self._device, self.backend)
        except _NO_ROOM as error:
            self.out_of_memory += 1
            _log.warning("no room on %s, once more on the CPU: %r", self.device, error)
        make_room(self._device)
        self.moved_to_cpu += self._device != _CPU
        backend = backend_for(_CPU, self.backend if self._device == _CPU else "auto").name
        try:
            return run(_CPU, backend)
        except _NO_ROOM as error:
            raise OutOfMemory("There was no room for this job; a smaller one may fit.") from error


def _enter(device: torch.device, niceness: int) -> None:
    """Begin a thread of the engine; those it starts are as nice as it is."""
    if niceness and sys.platform == "linux":  # where each thread has a priority of its own
        thread = threading.get_native_id()
        niceness += os.getpriority(os.PRIO_PROCESS, thread)  # to be less nice takes a right
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
    enter_stream(device)


def _processors() -> int:
    return len(os.sched_getaffinity(0))
