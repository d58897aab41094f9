"""The order of a palette in which indices that lie side by side are close, for PNG's filters.

A filter writes the difference from the pixels beside or above, so it pays where those differences
are small, and which they are is a matter of numbering: of where the entries stand in the palette.
Wanted is the order of least sum, over all pairs of pixels side by side, of the distance of their
places (the minimum linear arrangement, which nobody computes exactly). It is begun greedily, then
every entry goes to where it is best, again and again.

Without filters the order matters little: deflate sees runs and repetitions, whatever their names.

References:
    Zeng, Li, Lei, "An efficient color re-indexing scheme for palette-based compression", Proc. ICIP
        2000; Pinho, Neves, "A note on Zeng's technique", IEEE Signal Process. Lett. 11(2), 2004.
    Petit, "Experiments on the minimum linear arrangement problem", ACM J. Exp. Algorithmics 8,
        2003 (local search from a greedy beginning).
"""

import numpy as np
from jaxtyping import Int, UInt8

__all__ = ["smooth_order"]

ENOUGH = 1 << 20  # pixels to look at
SWEEPS = 6  # more move hardly anything


def smooth_order(indices: UInt8[np.ndarray, "h w"], size: int) -> Int[np.ndarray, " m"]:
    """Order entries such that pixels side by side have indices close to one another.

    Args:
        indices: Entry of each pixel.
        size: Number m of entries.

    Returns:
        The entries, as they should stand. Never raises.

    Example:
        >>> smooth_order(np.array([[0, 2, 1, 2, 0]], np.uint8), 3).tolist()
        [1, 2, 0]
    """
    meetings = _count_meetings(indices, size)
    order = _grow(meetings)
    for _ in range(SWEEPS):
        before = order.copy()
        _move_each(meetings, order)
        if (order == before).all():
            break
    return order


def _count_meetings(indices: np.ndarray, size: int) -> np.ndarray:
    """Count how often two entries are side by side: (m, m) int64, symmetric, 0 on the diagonal."""
    step = 1 + indices.size // ENOUGH
    rows, counts = indices[::step], np.zeros(size * size, np.int64)
    for one, other in ((indices[:-1:step], indices[1::step]), (rows[:, 1:], rows[:, :-1])):
        pairs = one.astype(np.uint16) * size + other
        counts += np.bincount(pairs.ravel(), minlength=size * size)
    meetings = counts.reshape(size, size)
    meetings = meetings + meetings.T
    np.fill_diagonal(meetings, 0)
    return meetings


def _grow(meetings: np.ndarray) -> np.ndarray:
    """Put whichever entry meets those in the row most at the end that suits it, and so on."""
    size = len(meetings)
    first = int(meetings.sum(axis=1).argmax())
    row, bonds = [first], meetings[first].copy()  # of every entry with those in the row
    lean = np.zeros(size, np.int64)  # sum of bonds times place, that of the first entry being 0
    is_in = np.zeros(size, bool)
    is_in[first] = True
    low, high = 0, 0
    for _ in range(size - 1):
        entry = int(np.where(is_in, -1, bonds).argmax())
        if 2 * lean[entry] < (low + high) * bonds[entry]:  # its mean place is left of the middle
            low = place = low - 1
            row.insert(0, entry)
        else:
            high = place = high + 1
            row.append(entry)
        is_in[entry] = True
        bonds += meetings[entry]
        lean += meetings[entry] * place
    return np.array(row)


def _move_each(meetings: np.ndarray, order: np.ndarray) -> None:
    """Take out one entry after the other, and put it where the sum of distances is least.

    An entry lengthens what meets across it, and has distances of its own; `across` has, for each
    gap of the row, how many meetings there are of what is before it with what is behind it.
    """
    table = meetings[np.ix_(order, order)]
    later = np.triu(table).sum(axis=1)
    across = _summed(later - (table.sum(axis=1) - later))
    for entry in order.copy():
        place = int((order == entry).argmax())
        bonds = np.delete(meetings[entry, order], place)
        before = _summed(bonds)  # of the entry with what is before each gap, it being taken out
        behind = before[-1] - before
        rest = np.concatenate(
            [across[: place + 1] - before[: place + 1], across[place + 2 :] - behind[place + 1 :]]
        )
        own = _summed(before[:-1] - behind[1:])  # more than at the first gap
        gap = int((own + rest).argmin())
        if gap != place:
            order[:] = np.insert(np.delete(order, place), gap, entry)
        across = np.concatenate([rest[: gap + 1] + before[: gap + 1], rest[gap:] + behind[gap:]])


def _summed(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(values)])
