"""A process of our own at the other end of two pipes: what is sent, what comes back, and its end.

Methods block: they are for threads.
"""

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

__all__ = [
    "LENGTH",
    "PipedProcess",
    "Pipes",
    "ProcessDiedError",
    "enlarge",
    "start_module",
]

LENGTH = struct.Struct(">Q")
_PIPE_BYTES = 1 << 20  # where the system lets us: a picture in two pieces, not twenty
# What is freed goes back to the system at once, and is got anew for the next picture, which takes
# two fifths of the time to decode a small one: glibc keeps 16 MB, but no array of more than 8.
_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(16 << 20), "MALLOC_MMAP_THRESHOLD_": str(8 << 20)}
_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # as limits count threads
_ROOT = Path(__file__).parents[1]


class ProcessDiedError(Exception):
    """It ended at its work: killed, crashed, or out of processor time."""


class Pipes:
    """Our ends of the two pipes.

    Args:
        to: Where we write, unbuffered.
        from_: Where we read, likewise.
    """

    def __init__(self, to: IO[bytes], from_: IO[bytes]) -> None:
        self._to, self._from = to, from_
        self._talking = threading.Lock()

    def _send(self, content: bytes | memoryview) -> None:
        view = memoryview(content)
        try:
            while view:
                view = view[self._to.write(view) :]
        except OSError as error:
            raise ProcessDiedError from error

    def _receive(self, n_bytes: int) -> bytearray:
        content = bytearray(n_bytes)
        self._receive_into(memoryview(content))
        return content

    def _receive_into(self, view: memoryview) -> None:
        while view:
            n_read = self._from.readinto(view)  # type: ignore[attr-defined]
            if not n_read:
                raise ProcessDiedError
            view = view[n_read:]

    def _close_pipes(self) -> None:
        """Close our ends, once the process has ended."""
        with self._talking:  # which ends now that the other ends are closed
            self._to.close()
            self._from.close()


class PipedProcess(Pipes):
    """A module run by an interpreter of its own, started by exec.

    Args:
        module: Its full name.
        arguments: Of its command line.
        kept: Variables of our environment it needs; it has nothing else of ours, so no secret.
    """

    def __init__(self, module: str, *arguments: object, kept: tuple[str, ...] = ()) -> None:
        self._popen = start_module(
            module, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, kept=kept
        )
        assert self._popen.stdin  # noqa: S101 - tells the type checker what PIPE says
        assert self._popen.stdout  # noqa: S101 - likewise
        for pipe in (self._popen.stdin, self._popen.stdout):
            enlarge(pipe.fileno())
        super().__init__(self._popen.stdin, self._popen.stdout)

    def close(self) -> None:
        """End it at once; whoever waits for it in another thread learns that it died."""
        self._popen.kill()
        self._popen.wait()
        self._close_pipes()


def start_module(
    module: str,
    *arguments: object,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int,
    kept: tuple[str, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a module by exec.

    Args:
        module: Its full name.
        arguments: Of its command line.
        stdin: Where it reads, as for `subprocess.Popen`.
        stdout: Where it writes, likewise.
        kept: Variables of our environment it needs; it has nothing else of ours, so no secret.
    """
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", "-m", module, *map(str, arguments)],
        stdin=stdin,
        stdout=stdout,
        bufsize=0,
        env=_environment(kept),
        start_new_session=True,  # a terminal's interrupt is for the parent
    )


def enlarge(pipe: int) -> None:
    """Let a pipe hold more, where the system lets us; who may use little memory gets no more."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _environment(kept: tuple[str, ...]) -> dict[str, str]:
    """Little of our own."""
    names = ("PATH", "LANG", "TZ", *kept)
    ours = {name: os.environ[name] for name in names if name in os.environ}
    return ours | _THREADS | _HEAP | {"PYTHONPATH": str(_ROOT)}
