"""The process of a lane: jobs come in by a pipe, results go out by another.

    parent                                      this process
                                               <-   length 0: it is up
    length, a job and where to run it, pickled ->
    length 0: nobody wants it any more         ->
                                               <-   length, the result or the error, pickled

The parent is trusted, and so is what it sends: a client's bytes were decoded elsewhere, to numbers.
`app.lanes` is the parent. The process ends when the parent does.
"""

import logging
import os
import pickle
import resource
import select
import sys
from dataclasses import replace
from typing import IO, Any

import torch

from app.lanes import UnwantedError
from app.pipes import LENGTH

_IN = 0  # the pipe from our parent
_log = logging.getLogger(__name__)


def main(niceness: int) -> None:
    """Compute until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setpriority(os.PRIO_PROCESS, 0, niceness)
    answers.write(LENGTH.pack(0))
    answers.flush()
    while head := _read(LENGTH.size):
        (length,) = LENGTH.unpack(head)
        if length:  # else what was not wanted any more was done already
            _answer(pickle.loads(_read(length)), answers)  # noqa: S301 - our parent's


def _answer(request: tuple[Any, str, str, int], answers: IO[bytes]) -> None:
    job, device, backend, n_threads = request
    torch.set_num_threads(n_threads)
    found: tuple[Any, Exception | None]
    try:
        found = replace(job, on_progress=_end_if_told).run(torch.device(device), backend), None
    except Exception as error:  # noqa: BLE001 - the parent's to judge
        if not isinstance(error, UnwantedError):
            _log.info("a job failed", exc_info=True)
        found = None, error
    content = _pickled(found)
    answers.write(LENGTH.pack(len(content)))
    answers.write(content)
    answers.flush()


def _pickled(found: tuple[Any, Exception | None]) -> bytes:
    try:
        return pickle.dumps(found, protocol=5)
    except Exception:  # noqa: BLE001 - of an error that cannot travel, its words do
        return pickle.dumps((None, RuntimeError(repr(found[1]))))


def _end_if_told(_share: float) -> None:
    """End the job once there is a word from our parent, who says nothing else meanwhile."""
    if select.select([_IN], [], [], 0)[0]:
        raise UnwantedError


def _read(n_bytes: int) -> bytes:
    """Read so many bytes past any buffer, which would hide a word that came; b"" at the end."""
    content = bytearray(n_bytes)
    view = memoryview(content)
    while view:
        n_read = os.readv(_IN, [view])
        if not n_read:
            return b""
        view = view[n_read:]
    return bytes(content)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
