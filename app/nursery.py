"""Processes that compute, forked from one that is warm: there at once, sharing its memory.

`app.lane_process` is the other side. Whoever starts by exec takes seconds to import and to warm up,
and holds all that by itself; a fork takes milliseconds and holds what it writes to. Only a process
without threads may be forked, so this one is not: the nursery is a process that does nothing else.

    parent                              nursery
    a backend, two ends of pipes,
    and the room for pictures    ->
                                    <-   the child's number, and a handle of it

Methods block: they are for threads.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

from app.parcels import WORD, pack, unpack
from app.pipes import LENGTH, Pipes, ProcessDiedError, enlarge, start_module
from app.shared_pixels import SharedRoom

__all__ = ["Child", "Nursery"]

MODULE = "app.lane_process"
_KEPT = ("HOME", "NUMBA_CACHE_DIR", "NUMBA_CPU_FEATURES", "NUMBA_CPU_NAME")  # of kernels
_TRIES = 3
_LOOK_EVERY_MS = 50
_NONE = -1  # no handle
_log = logging.getLogger(__name__)


class Child(Pipes):
    """A process that the nursery forked, and our ends of its pipes.

    Args:
        pid: Its number.
        handle: A descriptor that means this process for ever, as its number may not.
        to: See `Pipes`.
        from_: Likewise.
        room: What lies there is not sent.
    """

    def __init__(
        self, pid: int, handle: int, to: IO[bytes], from_: IO[bytes], room: SharedRoom
    ) -> None:
        super().__init__(to, from_)
        self._room = room
        self.pid, self._handle = pid, handle
        self._ending = threading.Lock()  # a handle that is closed may soon be another's

    @property
    def is_dead(self) -> bool:
        """It has ended, whoever ended it."""
        with self._ending:
            return self._handle == _NONE or _has_ended(self._handle, wait_ms=0)

    def kill(self) -> None:
        """Kill it; whoever waits for it learns that it died."""
        with self._ending:
            self._kill()

    def close(self) -> None:
        """End it at once; whoever waits for it in another thread learns that it died."""
        with self._ending:
            if self._handle == _NONE:
                return
            self._kill()
            _has_ended(self._handle, wait_ms=None)
            os.close(self._handle)
            self._handle = _NONE
        self._close_pipes()

    def ask(self, content: object, is_wanted: Callable[[], bool]) -> Any:
        """Send an object and wait for another; tell once that nobody wants it.

        Raises:
            ProcessDiedError: The process has ended.
        """
        with self._talking:
            for piece in pack(content, self._room.place_of):
                self._send(piece)
            answers, is_told = select.poll(), False
            answers.register(self._from, select.POLLIN)
            while not answers.poll(_LOOK_EVERY_MS):
                if not is_told and not is_wanted():
                    self._send(WORD)
                    is_told = True
            return unpack(self._receive_into)[1]

    def _kill(self) -> None:
        if self._handle != _NONE:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)


class Nursery:
    """A process to fork from; it is started, and started again if it dies, when it is needed.

    Where none has come up in three tries there will be none, as on a system without handles of
    processes.

    Args:
        niceness: Of the process and of its children.
        backend: What it warms up.
        places: How many small pictures the memory holds that its children share with us.

    Attributes:
        room: That memory.
    """

    def __init__(self, niceness: int = 0, backend: str = "auto", places: int = 4) -> None:
        self.room = SharedRoom(places)
        self._niceness, self._backend = niceness, backend
        self._process: subprocess.Popen[bytes] | None = None
        self._talk: socket.socket | None = None
        self._one_by_one = threading.Lock()
        self._is_closed = self._has_forked = False

    def start(self) -> None:
        """Start the process, if there is none; returns at once. Not once it is closed."""
        with self._one_by_one:
            self._start()

    def fork(self) -> Child | None:
        """Give a process that computes; None if none comes up, or if this is closed."""
        with self._one_by_one:
            for _ in range(_TRIES):
                self._start()
                if self._talk is None:
                    return None
                try:
                    child = _ask_for_one(self._talk, self._backend, self.room)
                except (OSError, ProcessDiedError):
                    self._end()
                else:
                    self._has_forked = True
                    return child
            if not self._has_forked and not self._is_closed:
                _log.warning("no process comes up to compute: the server computes by itself")
                self._is_closed = True
        return None

    def close(self) -> None:
        """End the process; its children are their owners' to end."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()  # whoever waits for it learns it
        with self._one_by_one:
            self._end()
            self.room.close()

    def _start(self) -> None:
        if self._is_closed or self._process is not None:
            return
        self._talk, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = start_module(
                MODULE, self._niceness, stdin=theirs.fileno(), stdout=_stderr(), kept=_KEPT
            )

    def _end(self) -> None:
        if self._process is None or self._talk is None:
            return
        self._process.kill()
        self._process.wait()
        self._talk.close()
        self._process = self._talk = None


def _ask_for_one(talk: socket.socket, backend: str, room: SharedRoom) -> Child:
    """Ask the nursery for a child.

    Raises:
        ProcessDiedError: The nursery has died.
        OSError: Likewise, or there are no more files.
    """
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        (jobs, to), (from_, answers) = os.pipe(), os.pipe()
        for end in (jobs, answers):
            theirs.callback(os.close, end)
        writer = ours.enter_context(os.fdopen(to, "wb", buffering=0))
        reader = ours.enter_context(os.fdopen(from_, "rb", buffering=0))
        for end in (to, from_):
            enlarge(end)
        socket.send_fds(talk, [backend.encode()], [jobs, answers, room.file])
        number, handles, _flags, _address = socket.recv_fds(talk, LENGTH.size, 1)
        if number:
            ours.pop_all()  # the child's from now on
            return Child(LENGTH.unpack(number)[0], handles[0], writer, reader, room)
    raise ProcessDiedError


def _has_ended(handle: int, wait_ms: int | None) -> bool:
    """Say whether a process has ended, or wait until it has."""
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    return bool(waiting.poll(wait_ms))


def _stderr() -> int:
    return sys.__stderr__.fileno() if sys.__stderr__ else subprocess.DEVNULL
