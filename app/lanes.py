"""Where one job at a time is computed: in the thread that asks, or in a process beside this one.

Threads of one process take turns at its interpreter: two that compute small pictures, with those
that answer and encode, leave a sixth of two processors idle. So on the CPU jobs that share the
processors are computed in processes; one that has them all, as a large one does, is computed here.

A process that dies under a job is replaced and the job tried again, up to three times in all, since
the death may have had nothing to do with it. One that does not even come up has nothing to do with
the job, which is then computed here. One that goes on with what nobody wants any more is killed.
`app.lane_process` is the other side and says what is spoken; `app.nursery` starts it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from app.errors import DeviceUnavailable
from app.jobs import Job, OnProgress
from app.nursery import Child, Nursery
from app.pipes import ProcessDiedError

__all__ = ["Lane", "LaneProcess", "OwnLane", "UnwantedError", "end_if_unwanted"]

_PATIENCE_S = 10.0  # with a job that nobody wants and that does not end
_TRIES = 3  # to compute a job, as on a cluster

IsWanted = Callable[[], bool]


class UnwantedError(Exception):
    """Nobody waits for the result any more; nobody will see this either."""


class Lane(Protocol):
    """Computes one job at a time; blocks."""

    def run(
        self, job: Job[Any], device: torch.device, backend: str, n_threads: int, is_wanted: IsWanted
    ) -> Any:
        """Compute a job, on the CPU with so many threads.

        Raises:
            UnwantedError: `is_wanted` said no.
            DeviceUnavailable: What computes died, over and over, or is closed.

        Whatever else the job raises passes through.
        """
        ...


def end_if_unwanted(job: Job[Any], is_wanted: IsWanted) -> OnProgress:
    """Make the hook that ends a job nobody waits for, and goes on to the job's own. Never raises.

    What it makes raises UnwantedError.
    """
    on_progress: OnProgress | None = getattr(job, "on_progress", None)

    def hook(share: float) -> None:
        if not is_wanted():
            raise UnwantedError
        if on_progress:
            on_progress(share)

    return hook


class OwnLane:
    """The thread that asks."""

    def run(
        self, job: Job[Any], device: torch.device, backend: str, n_threads: int, is_wanted: IsWanted
    ) -> Any:
        """Compute; the job's own hook is told how far it is."""
        if device.type == "cpu":
            torch.set_num_threads(n_threads)  # of this thread
        watched = replace(job, on_progress=end_if_unwanted(job, is_wanted))  # type: ignore[type-var]
        return watched.run(device, backend)


@dataclass(slots=True)
class LaneProcess:
    """A process beside this one, on the CPU; a job's hook is not told how far it is.

    Attributes:
        nursery: Where it comes from.
        deaths: How many died at work.
    """

    nursery: Nursery
    deaths: int = 0
    _child: Child | None = field(default=None, repr=False)
    _is_closed: bool = False
    _is_wanted: IsWanted | None = None  # of the job in hand
    _unwanted_s: float = 0.0

    def run(
        self, job: Job[Any], device: torch.device, backend: str, n_threads: int, is_wanted: IsWanted
    ) -> Any:
        """Let it compute, again if it dies; compute here if no process comes up."""
        self._is_wanted = is_wanted
        try:
            return self._run(job, device, backend, n_threads, is_wanted)
        finally:
            self._is_wanted, self._unwanted_s = None, 0.0

    def _run(
        self, job: Job[Any], device: torch.device, backend: str, n_threads: int, is_wanted: IsWanted
    ) -> Any:
        travelling = replace(job, on_progress=None)  # type: ignore[type-var] # which stays here
        request = (travelling, str(device), backend, n_threads)
        deaths = 0
        while deaths < _TRIES and (child := self.come_up()):
            try:
                result, error = child.ask(request, is_wanted)
            except ProcessDiedError:
                deaths += 1
                self.deaths += 1
                self._end()
                if not is_wanted():
                    raise UnwantedError from None
                continue
            if error is not None:
                raise error
            return result
        if deaths < _TRIES and not self._is_closed:
            return OwnLane().run(job, device, backend, n_threads, is_wanted)
        raise DeviceUnavailable("What computes has died, again and again, or is stopping.")

    def come_up(self) -> Child | None:
        """Have a process, a new one if it is dead; None if none comes up, or once it is closed."""
        if self._child is not None and self._child.is_dead:
            self._end()
        if self._child is None and not self._is_closed:
            self._child = self.nursery.fork()
            if self._is_closed:  # meanwhile
                self._end()
        return self._child

    def look(self, seconds: float) -> None:
        """Kill a process that has gone on for long with what nobody wants."""
        child, is_wanted = self._child, self._is_wanted
        if child is None or is_wanted is None or is_wanted():
            return
        self._unwanted_s += seconds
        if self._unwanted_s > _PATIENCE_S:
            child.kill()

    def close(self) -> None:
        """End the process, if there is one, and have no other."""
        self._is_closed = True
        self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
