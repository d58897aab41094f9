"""A mask of blue noise: thresholds that are spread evenly, whichever part of them is exceeded.

Void and cluster: of a tenth of the places, the most crowded moves to the emptiest until that is the
same. Then places are taken out, the most crowded first, and the others are filled in, the emptiest
first: their turns are the thresholds. Crowding is a sum of Gaussians on a torus, so that masks side
by side have no seams, and in whole numbers, so that the mask is the same on every machine.

References:
    Ulichney, "The void-and-cluster method for dither array generation", Proc. SPIE 1913, 1993.
        Differs: the last third of the places is filled into voids as the second is (there the voids
        are as good as clusters of what is left, and this is shorter).
"""

from functools import cache

import numpy as np
from jaxtyping import Int

__all__ = ["SIDE", "thresholds"]

SIDE = 64  # of the mask, which is made in 30 ms, once in a process
_WIDTH = 1.5  # of the Gaussian, Ulichney's
_UNIT = 1 << 40  # the height of the Gaussian
_FIRST = SIDE * SIDE // 10  # places to begin with
_TAKEN = 1 << 60  # above every crowding


@cache
def thresholds() -> Int[np.ndarray, "64 64"]:
    """Return the mask: each of 0..4095 once, int64, not to be written to. Never raises.

    Example:
        >>> int(thresholds().min()), int(thresholds().max())
        (0, 4095)
    """
    bumps = _bumps()
    places = np.zeros(SIDE * SIDE, bool)
    places[np.argsort(_scattered(SIDE * SIDE), kind="stable")[:_FIRST]] = True
    crowding = _settle(places, bumps)
    turns = np.empty(SIDE * SIDE, np.int64)
    rest, alone = crowding.copy(), np.where(places, 0, -_TAKEN)
    for turn in reversed(range(_FIRST)):
        place = int((rest + alone).argmax())
        turns[place], alone[place] = turn, -_TAKEN
        rest -= _bump(bumps, place)
    crowding += np.where(places, _TAKEN, 0)
    for turn in range(_FIRST, SIDE * SIDE):
        place = int(crowding.argmin())
        turns[place] = turn
        crowding += _bump(bumps, place)
        crowding[place] += _TAKEN
    turns.flags.writeable = False
    return turns.reshape(SIDE, SIDE)


def _settle(places: np.ndarray, bumps: np.ndarray) -> np.ndarray:
    """Move the most crowded place to the emptiest until it is the same; return the crowding."""
    crowding = np.zeros(SIDE * SIDE, np.int64)
    for place in places.nonzero()[0]:
        crowding += _bump(bumps, int(place))
    while True:
        tightest = int(np.where(places, crowding, -_TAKEN).argmax())
        places[tightest] = False
        crowding -= _bump(bumps, tightest)
        emptiest = int(np.where(places, _TAKEN, crowding).argmin())
        places[emptiest] = True
        crowding += _bump(bumps, emptiest)
        if emptiest == tightest:
            return crowding


def _bumps() -> np.ndarray:
    """Return a Gaussian on the torus, laid out twice in either direction: a window is any of it."""
    off = np.minimum(np.arange(SIDE), SIDE - np.arange(SIDE))
    bump = np.exp(-(off[:, None] ** 2 + off**2) / (2 * _WIDTH**2))
    return np.tile((bump * _UNIT).round().astype(np.int64), (2, 2))


def _bump(bumps: np.ndarray, place: int) -> np.ndarray:
    y, x = divmod(place, SIDE)
    return bumps[SIDE - y : 2 * SIDE - y, SIDE - x : 2 * SIDE - x].reshape(-1)


def _scattered(count: int) -> np.ndarray:
    """Hash 0..count - 1 (splitmix64's last steps), the same in every version of numpy."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(27))
