"""Where one job at a time is computed: in the thread that asks, or in a process beside this one.

Threads of one process take turns at its interpreter: two that compute small pictures, with those
that answer and encode, leave a sixth of two processors idle. So on the CPU every lane but the first
is a process; the first, which large pictures get, has its memory here.

A process that dies under a job is replaced and the job tried again, up to three times in all, since
the death may have had nothing to do with it. One that does not even come up has nothing to do with
the job, which is then computed here. One that goes on with what nobody wants any more is killed.
`app.lane_process` is the other side and says what is spoken.
"""

import pickle
import select
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from app.errors import DeviceUnavailable
from app.jobs import Job, OnProgress
from app.pipes import LENGTH, PipedProcess, ProcessDiedError

__all__ = ["Lane", "LaneProcess", "OwnLane", "UnwantedError", "end_if_unwanted"]

MODULE = "app.lane_process"
_KEPT = ("HOME", "NUMBA_CACHE_DIR", "NUMBA_CPU_FEATURES", "NUMBA_CPU_NAME")  # of kernels
_LOOK_EVERY_MS = 50
_PATIENCE_S = 10.0  # with a job that nobody wants and that does not end
_TRIES = 3  # to compute a job, as on a cluster, and to start a process

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
        niceness: Its own.
        deaths: How many died at work.
    """

    niceness: int = 0
    deaths: int = 0
    _process: "_Process | None" = field(default=None, repr=False)
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
        content = pickle.dumps((travelling, str(device), backend, n_threads), protocol=5)
        deaths = 0
        while deaths < _TRIES and (process := self._come_up()):
            try:
                result, error = process.ask(content, is_wanted)
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

    def _come_up(self) -> "_Process | None":
        """Start the process where there is none, and wait for it; None if it does not come up."""
        for _ in range(_TRIES):
            if self._process is not None and self._process.is_dead:
                self._end()
            self.start()
            if self._process is None:
                return None
            try:
                self._process.wait()
            except ProcessDiedError:
                self._end()
            else:
                return self._process
        return None

    def start(self) -> None:
        """Start the process, if there is none, and the lane is not closed."""
        if not self._is_closed:
            self._process = self._process or _Process(self.niceness)

    def look(self, seconds: float) -> None:
        """Kill a process that has gone on for long with what nobody wants."""
        process, is_wanted = self._process, self._is_wanted
        if process is None or is_wanted is None or is_wanted():
            return
        self._unwanted_s += seconds
        if self._unwanted_s > _PATIENCE_S:
            process.kill()

    def close(self) -> None:
        """End the process, if there is one, and start no other."""
        self._is_closed = True
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


class _Process(PipedProcess):
    def __init__(self, niceness: int) -> None:
        super().__init__(MODULE, niceness, kept=_KEPT)
        self._is_up = False

    def kill(self) -> None:
        """Kill it; whoever waits for it learns that it died."""
        self._popen.kill()

    @property
    def is_dead(self) -> bool:
        """It has ended, whoever ended it."""
        return self._popen.poll() is not None

    def wait(self) -> None:
        """Wait for its first word, that it can be sent a job."""
        with self._talking:
            self._is_up = self._is_up or bool(self._receive(LENGTH.size))

    def ask(self, content: bytes, is_wanted: IsWanted) -> tuple[Any, Exception | None]:
        """Send a job and wait for its result, or its error; tell once that nobody wants it."""
        with self._talking:
            self._send(LENGTH.pack(len(content)))
            self._send(content)
            answers, is_told = select.poll(), False
            answers.register(self._from, select.POLLIN)
            while not answers.poll(_LOOK_EVERY_MS):
                if not is_told and not is_wanted():
                    self._send(LENGTH.pack(0))
                    is_told = True
            (n_bytes,) = LENGTH.unpack(self._receive(LENGTH.size))
            found: tuple[Any, Exception | None] = pickle.loads(self._receive(n_bytes))  # noqa: S301 - our own process's
        return found
