"""Programs of ours that make a file smaller: a process each, which ends once nobody waits for it.

A thread cannot be ended, and libraries may hold the interpreter's lock for as long as they work.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

__all__ = ["UnwantedError", "run"]

_LOOK_EVERY_S = 0.1  # whether the result is still wanted


class UnwantedError(Exception):
    """Nobody waits for the file any more."""


def run(
    program: Path, options: dict[str, Any], content: bytes, is_wanted: Callable[[], bool]
) -> bytes:
    """Run a program, and end it once its output is not wanted.

    Args:
        program: Of ours; it is started by its path, so that it imports nothing else.
        options: Its only argument, as JSON.
        content: Its standard input.
        is_wanted: Asked ten times a second.

    Returns:
        Its standard output.

    Raises:
        UnwantedError: `is_wanted` said no.
        CalledProcessError: It failed.
    """
    command = [sys.executable, "-I", str(program), json.dumps(options)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own program
        try:
            output = _output_of(process, content, is_wanted)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return output


def _output_of(
    process: subprocess.Popen[bytes], content: bytes, is_wanted: Callable[[], bool]
) -> bytes:
    # Sent by a thread: after a timeout communicate() goes on reading, but sends nothing any more.
    pipe, process.stdin = process.stdin, None
    threading.Thread(target=_send, args=(pipe, content), daemon=True).start()
    while True:
        try:
            return process.communicate(timeout=_LOOK_EVERY_S)[0]
        except subprocess.TimeoutExpired:
            if not is_wanted():
                raise UnwantedError from None


def _send(pipe: IO[bytes], content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:  # the program may end first
        pipe.write(content)
