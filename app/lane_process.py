"""The nursery, and the lanes forked from it: jobs come in by a pipe, results go out by another.

    parent                                      a lane
    a job and where to run it, in a parcel ->
    a word: nobody wants it any more       ->
                                           <-   the result or the error, in a parcel

The parent is trusted, and so is what it sends: a client's bytes were decoded elsewhere, to numbers.
`app.nursery` and `app.lanes` are the parent. All end when the parent does.
"""

import gc
import logging
import mmap
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from app.first_jobs import something_small
from app.lanes import UnwantedError
from app.parcels import pack, unpack
from app.pipes import LENGTH

_PARENT = 0  # the nursery's socket; a lane's pipe
_LONGEST_NAME = 64  # of a backend
_CPU = torch.device("cpu")
_log = logging.getLogger(__name__)


class _ParentLeftError(Exception):
    """There is nobody to compute for."""


def main(niceness: int) -> None:
    """Fork a lane whenever the parent asks, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when it is over
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setpriority(os.PRIO_PROCESS, 0, niceness)
    is_warm = False
    with socket.socket(fileno=_PARENT) as parent:
        while True:
            backend, files, _flags, _address = socket.recv_fds(parent, _LONGEST_NAME, 3)
            if not backend:
                return
            if not is_warm:
                _warm_up(backend.decode())
                is_warm = True
            _bury_the_dead()
            child = os.fork()
            if not child:
                _live(*files)
            for file in files:
                os.close(file)
            handle = os.pidfd_open(child)
            socket.send_fds(parent, [LENGTH.pack(child)], [handle])
            os.close(handle)


def _warm_up(backend: str) -> None:
    """Load and compile what usual jobs need, with one thread: a fork keeps no other."""
    torch.set_num_threads(1)
    for job in something_small(_CPU):
        job.run(_CPU, backend)
    gc.collect()
    gc.freeze()  # a collection would write to all that is shared


def _bury_the_dead() -> None:
    """Let the system forget children that have ended; those who have a handle know."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


def _live(jobs: int, answers: int, room: int) -> None:
    """Be a lane: compute until nobody asks any more, and end."""
    status = 1
    try:
        os.dup2(jobs, _PARENT)  # which closes the nursery's socket here
        os.close(jobs)
        compute(answers, memoryview(mmap.mmap(room, 0)))
        status = 0
    except Exception:  # noqa: BLE001 - a fork must not go on as its parent
        _log.exception("a lane ends")
    finally:
        os._exit(status)


def compute(answers: int, room: memoryview) -> None:
    """Compute what comes until nobody asks any more.

    Args:
        answers: The pipe to write to.
        room: The memory that we share with our parent.
    """
    try:
        while True:
            is_job, request = unpack(_read_into, room)
            if is_job:  # else what was not wanted any more was done already
                for piece in _answer(*request):
                    _write(answers, piece)
    except (_ParentLeftError, BrokenPipeError):
        return


def _answer(job: Any, device: str, backend: str, n_threads: int) -> Iterator[bytes | memoryview]:
    torch.set_num_threads(n_threads)
    found: tuple[Any, Exception | None]
    try:
        found = replace(job, on_progress=_end_if_told).run(torch.device(device), backend), None
    except Exception as error:  # noqa: BLE001 - the parent's to judge
        if not isinstance(error, UnwantedError):
            _log.info("a job failed", exc_info=True)
        found = None, error
    try:
        return pack(found)
    except Exception:  # noqa: BLE001 - of an error that cannot travel, its words do
        return pack((None, RuntimeError(repr(found[1]))))


def _end_if_told(_share: float) -> None:
    """End the job once there is a word from our parent, who says nothing else meanwhile."""
    if select.select([_PARENT], [], [], 0)[0]:
        raise UnwantedError


def _read_into(view: memoryview) -> None:
    """Read past any buffer, which would hide a word that came."""
    while view:
        n_read = os.readv(_PARENT, [view])
        if not n_read:
            raise _ParentLeftError
        view = view[n_read:]


def _write(pipe: int, piece: bytes | memoryview) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(pipe, view) :]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
