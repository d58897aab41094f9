"""Objects sent between processes of our own: a pickle, and beside it the arrays, not copied.

    number of pieces, length and place of each ->
    the pickle, each array that has no place ->

A number of pieces that is 0 is a word without an object. A place is one in memory that both sides
share, counted from 1: what lies there does not travel. Both sides must be trusted.
"""

import pickle
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from app.pipes import LENGTH

__all__ = ["WORD", "pack", "unpack"]

WORD = LENGTH.pack(0)
_PIECE, _TRAVELS = struct.Struct(">QQ"), 0
_NOTHING = memoryview(b"")
_SMALL = 4096  # bytes that cost less in the pickle than beside it


def pack(
    content: object, place_of: Callable[[memoryview], int | None] = lambda _: None
) -> Iterator[bytes | memoryview]:
    """Give what to send, piece by piece.

    Args:
        content: What is sent.
        place_of: Says where in the memory that both sides share a buffer begins, if it is there.

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
    places = [place_of(array) for array in arrays]
    head = [LENGTH.pack(1 + len(arrays)), _PIECE.pack(len(pickled), _TRAVELS)]
    for array, place in zip(arrays, places, strict=True):
        head.append(_PIECE.pack(array.nbytes, _TRAVELS if place is None else 1 + place))
    travelling = [array for array, place in zip(arrays, places, strict=True) if place is None]
    return iter([b"".join(head) + pickled, *travelling])


def unpack(
    receive_into: Callable[[memoryview], None], shared: memoryview = _NOTHING
) -> tuple[bool, Any]:
    """Receive an object; say first whether there is one, as a word has none.

    Args:
        receive_into: Fills what it is given, or raises.
        shared: The memory that both sides share.
    """

    def receive(n_bytes: int) -> memoryview:
        room = np.empty(n_bytes, np.uint8).data
        receive_into(room)
        return room

    def find(n_bytes: int, place: int) -> memoryview:
        if place == _TRAVELS:
            return receive(n_bytes)
        return shared[place - 1 : place - 1 + n_bytes]

    (n_pieces,) = LENGTH.unpack(receive(LENGTH.size))
    if not n_pieces:
        return False, None
    pieces = list(_PIECE.iter_unpack(receive(n_pieces * _PIECE.size)))
    pickled, *arrays = [find(length, place) for length, place in pieces]
    return True, pickle.loads(pickled, buffers=arrays)  # noqa: S301 - our own process's
