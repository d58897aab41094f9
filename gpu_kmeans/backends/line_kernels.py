"""Arrays that begin with a cache line: a vector of a whole line is then read from one, not two."""

from typing import no_type_check

import numpy as np
from numba import njit

__all__ = ["LINE", "on_a_line"]

LINE = 64  # bytes


@njit(nogil=True, cache=True)
@no_type_check
def on_a_line(values):
    """Leave a line's worth of values (n,) out, at the front as many as it takes."""
    start = (-np.int64(values.ctypes.data) & LINE - 1) // values.itemsize
    return values[start : start + values.size - LINE // values.itemsize]
