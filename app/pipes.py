"""A process of our own at the other end of two pipes: what is sent, what comes back, and its end.

Methods block: they are for threads.
"""

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

__all__ = ["LENGTH", "PipedProcess", "ProcessDiedError"]

LENGTH = struct.Struct(">Q")
_PIPE_BYTES = 1 << 20  # where the system lets us: a picture in two pieces, not twenty
# What is freed goes back to the system at once, and is got anew for the next picture, which takes
# two fifths of the time to decode a small one: glibc keeps 16 MB, but no array of more than 8.
_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(16 << 20), "MALLOC_MMAP_THRESHOLD_": str(8 << 20)}
_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # as limits count threads
_ROOT = Path(__file__).parents[1]


class ProcessDiedError(Exception):
    """It ended at its work: killed, crashed, or out of processor time."""


class PipedProcess:
    """A module run by an interpreter of its own, started by exec.

    Args:
        module: Its full name.
        arguments: Of its command line.
        kept: Variables of our environment it needs; it has nothing else of ours, so no secret.
    """

    def __init__(self, module: str, *arguments: object, kept: tuple[str, ...] = ()) -> None:
        self._popen = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pipesize=_PIPE_BYTES,
            env=_environment(kept),
            start_new_session=True,  # a terminal's interrupt is for the parent
        )
        assert self._popen.stdin  # noqa: S101 - tells the type checker what PIPE says
        assert self._popen.stdout  # noqa: S101 - likewise
        self._to, self._from = self._popen.stdin, self._popen.stdout
        self._talking = threading.Lock()

    def close(self) -> None:
        """End it at once; whoever waits for it in another thread learns that it died."""
        self._popen.kill()
        self._popen.wait()
        with self._talking:  # which ends now that the other end of the pipes is closed
            self._to.close()
            self._from.close()

    def _send(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            while view:
                view = view[self._to.write(view) :]
        except OSError as error:
            raise ProcessDiedError from error

    def _receive(self, n_bytes: int) -> bytearray:
        content = bytearray(n_bytes)
        view = memoryview(content)
        while view:
            n_read = self._from.readinto(view)  # type: ignore[attr-defined]
            if not n_read:
                raise ProcessDiedError
            view = view[n_read:]
        return content


def _environment(kept: tuple[str, ...]) -> dict[str, str]:
    """Little of our own."""
    names = ("PATH", "LANG", "TZ", *kept)
    ours = {name: os.environ[name] for name in names if name in os.environ}
    return ours | _THREADS | _HEAP | {"PYTHONPATH": str(_ROOT)}
