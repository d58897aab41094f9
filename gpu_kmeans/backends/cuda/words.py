"""How much of a block's own memory sums take: see `sources/points.cuh`."""

SUMMED_DIMENSIONS = (3, 4)
BLOCK_TILES = 256  # a block may add up without an overflow
MOST_BLOCKS, FEWEST_TILES = 528, 8  # of a pass: four to a multiprocessor, half a tile to a warp


def row_bytes(d: int, *, detail: bool = False) -> int:
    """Return the bytes of a centroid, ready to be compared, and of its sums. Never raises."""
    return (16 if d == 3 else 32) + sum_bytes(d, detail=detail)  # noqa: PLR2004


def sum_bytes(d: int, *, detail: bool = False) -> int:
    """Return the bytes of a centroid's sums. Never raises."""
    return 4 * (1 + 2 * d + (3 * d + 3 if detail else 0))


def tiles_of_block(count: int) -> int:
    """Return how many of so many tiles a block of a pass takes, at most. Never raises."""
    return min(BLOCK_TILES, max(FEWEST_TILES, -(-count // MOST_BLOCKS)))
