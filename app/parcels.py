"""Objects sent between processes of our own: a pickle, and beside it the arrays, not copied.

    number of pieces, length of each ->
    the pickle, each array ->

A number of pieces that is 0 is a word without an object. Both sides must be trusted.
"""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from app.pipes import LENGTH

__all__ = ["WORD", "pack", "unpack"]

WORD = LENGTH.pack(0)
_SMALL = 4096  # bytes that cost less in the pickle than beside it


def pack(content: object) -> Iterator[bytes | memoryview]:
    """Give what to send, piece by piece.

    Raises:
        Exception: Whatever `pickle` raises about what cannot travel, before the first piece.
    """
    arrays: list[memoryview] = []

    def keep_beside(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes <= _SMALL:
            return True  # as pickle spells that it is to take it
        arrays.append(buffer.raw())
        return False

    pickled = pickle.dumps(content, protocol=5, buffer_callback=keep_beside)
    lengths = [len(pickled), *(array.nbytes for array in arrays)]
    head = b"".join(map(LENGTH.pack, [len(lengths), *lengths]))
    return iter([head + pickled, *arrays])


def unpack(receive_into: Callable[[memoryview], None]) -> tuple[bool, Any]:
    """Receive an object; say first whether there is one, as a word has none.

    Args:
        receive_into: Fills what it is given, or raises.
    """

    def receive(n_bytes: int) -> memoryview:
        room = np.empty(n_bytes, np.uint8).data
        receive_into(room)
        return room

    (n_pieces,) = LENGTH.unpack(receive(LENGTH.size))
    if not n_pieces:
        return False, None
    lengths = [LENGTH.unpack(receive(LENGTH.size))[0] for _ in range(n_pieces)]
    pickled, *arrays = [receive(length) for length in lengths]
    return True, pickle.loads(pickled, buffers=arrays)  # noqa: S301 - our own process's
