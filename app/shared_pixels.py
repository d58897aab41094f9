"""Room for small pictures that the server shares with the processes that compute.

The server reads a picture from its decoder into a place here, and whoever computes it, forked with
the same memory, is told where. A decoder has no part in it: what it could still change while it is
computed would be read twice, and not be the same.
"""

import mmap
import os
import threading
import weakref
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

__all__ = ["MakeArray", "SharedRoom", "new_array"]

_PLACE = 1 << 22  # bytes of a place: a megapixel with alpha
_NONE = -1  # no file

MakeArray = Callable[[int], UInt8[np.ndarray, " n"]]
"""Gives an array of so many bytes, whatever is in them."""


def new_array(n_bytes: int) -> UInt8[np.ndarray, " n"]:
    """Give one that is shared with nobody. Never raises."""
    return np.empty(n_bytes, np.uint8)


class SharedRoom:
    """Places for pictures, in memory that goes by a file descriptor.

    Args:
        places: How many; more pictures than those have memory of their own.

    Attributes:
        file: Its descriptor, for those it is shared with.
    """

    def __init__(self, places: int) -> None:
        self.file = os.memfd_create("pictures")
        os.ftruncate(self.file, places * _PLACE)
        self._bytes = memoryview(mmap.mmap(self.file, places * _PLACE) if places else b"")
        self._start = _address(self._bytes)
        self._free = list(range(places))
        self._taking = threading.Lock()

    def array(self, n_bytes: int) -> UInt8[np.ndarray, " n"]:
        """Give an array of so many bytes, in a place if one is free, which it has until it dies."""
        with self._taking:
            place = self._free.pop() if self._free and n_bytes <= _PLACE else None
        if place is None:
            return new_array(n_bytes)
        begin = place * _PLACE
        found = np.frombuffer(self._bytes[begin : begin + n_bytes], np.uint8)
        weakref.finalize(found, self._free.append, place)  # views of it keep it
        return found

    def close(self) -> None:
        """Give up the file; what lies in the room stays while it is held."""
        if self.file != _NONE:
            os.close(self.file)
            self.file = _NONE

    def place_of(self, buffer: memoryview) -> int | None:
        """Say where in the room a buffer begins, if it lies there."""
        offset = _address(buffer) - self._start
        return offset if 0 <= offset < len(self._bytes) else None


def _address(buffer: memoryview) -> int:
    return np.frombuffer(buffer, np.uint8).ctypes.data
