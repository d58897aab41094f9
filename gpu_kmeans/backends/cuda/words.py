"""How much of a block's own memory sums take: see `sources/points.cuh`."""

SUMMED_DIMENSIONS = (3, 4)
BLOCK_TILES = 256  # a block may add up without an overflow
MOST_COPIES = 8  # of the words: fewer lanes of a warp add to the same one at once


def words(d: int, *, detail: bool = False) -> int:
    """Return how many words of 32 bits a centroid's sums take; an odd number. Never raises."""
    return (1 + 2 * d + (3 * d + 3 if detail else 0)) | 1


def copies_for(room_bytes: int, k: int, d: int, *, detail: bool = False) -> int:
    """Return how many copies of the words of k centroids fit, a power of two. Never raises."""
    copies = MOST_COPIES
    while copies > 1 and 4 * copies * k * words(d, detail=detail) > room_bytes:
        copies //= 2
    return copies
