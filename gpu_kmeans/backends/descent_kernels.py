"""Lloyd's iteration on whole numbers, compiled: `gpu_kmeans.descent` defines it.

Sums are exact, so that nothing depends on the order of addition, and the answer has the bits of the
definition. A layout is what `search_kernels` take.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from gpu_kmeans.backends.search_kernels import MASS, WCSS, place_beyond, plain

GOES_ON, RESTS, LONELY = range(3)  # still moving, at its stop, with an empty cluster


@njit(nogil=True, cache=True)
@no_type_check
def descend(layout, centroids, costs, previous, limit, still, over_relaxed):
    """Iterate as often as there is room in costs, in one thread; write the WCSS of each there.

    Returns centroids (4, k), how many iterations were done and how it goes on.
    """
    state, done = GOES_ON, 0
    while state == GOES_ON and done < costs.size:
        table = plain(layout, centroids)
        centroids, costs[done], state = move(table, centroids, previous, limit, still, over_relaxed)
        if state != LONELY:
            previous = costs[done]
            done += 1
    return centroids, done, state


@njit(nogil=True, cache=True)
@no_type_check
def move(table, centroids, previous, limit, still, over_relaxed):
    """Move centroids (4, k) as the table of a pass says, unless one got nothing.

    Returns them, the WCSS before, and how it goes on; `previous` is that of the iteration before.
    """
    wcss, shift, moved = table[:, WCSS].sum(), 0.0, np.empty_like(centroids)
    for c in range(centroids.shape[1]):
        mass = table[c, MASS]
        if mass == 0:
            return centroids, wcss, LONELY
        for j in range(4):
            old, mean = np.float64(centroids[j, c]), table[c, j] / mass
            new = place_beyond(old, mean, True) if over_relaxed else np.floor(mean + 0.5)
            moved[j, c] = new
            shift += (new - old) ** 2
    rests = previous - wcss < still * wcss or shift <= limit
    return moved, wcss, RESTS if rests else GOES_ON
