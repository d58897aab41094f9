"""The process that decodes: hostile bytes come in by a pipe, pixels or an error go out by another.

It takes limits on itself that it cannot lift: memory, processor time for each picture, files. What
it sends is JSON and raw pixels, never a pickle, so whoever breaks the decoder has broken only this.

    parent                                  this process
    "p", length, bytes of a picture ->
                                   <-       {"size": [w, h]}   or {"error": ...}
    "y" (or "n": there is no room) ->
                                   <-       {"shape": ...} and the pixels, or {"error": ...}

    "t", length, a table as JSON   ->
                                   <-       {"shape": ...} and the numbers, or {"error": ...}

Tables come here too because reading a large one holds the interpreter of whoever reads it.
`app.decoder` is the parent.
"""

import json
import math
import os
import resource
import signal
import struct
import sys
from typing import IO

from app.codecs import DecodedPicture, Limits, decode
from app.errors import BadPoints, QueueFull, ServiceError
from app.pipes import LENGTH

HEAD = struct.Struct(">cQ")
PICTURE, TABLE = b"p", b"t"
GO_ON = b"y"
_FILES = 16  # the pipes, and what a library may open to read


def main(max_pixels: int, max_memory_bytes: int, cpu_s: int) -> None:
    """Decode pictures until nobody sends any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when it is over
    for limit, value in (
        (resource.RLIMIT_AS, max_memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    while head := sys.stdin.buffer.read(HEAD.size):
        kind, length = HEAD.unpack(head)
        encoded = sys.stdin.buffer.read(length)
        _allow_cpu(cpu_s)
        try:
            if kind == TABLE:
                _read_table(encoded, answers)
            else:
                _decode(encoded, Limits(max_pixels=max_pixels), answers)
        except ServiceError as error:
            _send_error(answers, error)


def _read_table(encoded: bytes, answers: IO[bytes]) -> None:
    from app.points import parse_points  # what it needs is for tables only

    try:
        table = parse_points(encoded)
    except MemoryError as error:
        raise BadPoints("The table is more than can be read.") from error
    has_weights = table.weights is not None
    shape = {"shape": table.points.shape, "has_weights": has_weights}
    _send(answers, shape | {"parameters": table.parameters})
    answers.write(table.points.tobytes())
    answers.write(table.weights.tobytes() if table.weights is not None else b"")
    answers.flush()


def _decode(encoded: bytes, limits: Limits, answers: IO[bytes]) -> None:
    def ask_for_room(width: int, height: int) -> None:
        _send(answers, {"size": [width, height]})
        if sys.stdin.buffer.read(1) != GO_ON:
            raise QueueFull("There is no room for this picture.")

    picture = decode(encoded, limits, ask_for_room)
    _send(answers, _describe(picture))
    answers.write(
        picture.pixels.data if picture.pixels.flags.c_contiguous else picture.pixels.tobytes()
    )
    answers.write(picture.exif + picture.xmp)
    answers.flush()


def _describe(picture: DecodedPicture) -> dict[str, object]:
    return {
        "shape": picture.pixels.shape,
        "media_type": picture.media_type,
        "is_palette": picture.is_palette,
        "metadata": [len(picture.exif), len(picture.xmp)],
        "warnings": picture.warnings,
    }


def _send_error(answers: IO[bytes], error: ServiceError) -> None:
    """Tell what went wrong; of its cause the class only, as a message may quote the bytes."""
    why = type(error.__cause__).__name__ if error.__cause__ else ""
    message = {"error": type(error).__name__, "detail": error.detail, "why": why}
    _send(answers, message | {"members": error.members})


def _send(answers: IO[bytes], message: dict[str, object]) -> None:
    text = json.dumps(message).encode()
    answers.write(LENGTH.pack(len(text)) + text)
    answers.flush()


def _allow_cpu(seconds: int) -> None:
    """Let the process compute that much longer; beyond, the system ends it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = usage.ru_utime + usage.ru_stime
    _soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(spent) + seconds, hard))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
