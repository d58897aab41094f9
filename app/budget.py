"""As many colours as fit into so many bytes, found in a few fits.

Bytes rise with k, about as its square root. The search weighs files that were written quickly,
corrected by what thorough writing saved on the first of them; what it finds is written thoroughly,
and where that does not fit after all, with a few colours less; where it leaves room, with more.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gpu_kmeans.targets import search_k

__all__ = ["Budget", "Weighed"]

QUICK = 1  # effort of the files that are only weighed
CLOSE = 0.99  # of the bytes allowed: more colours would not show
_BYTES_OCTAVES = 0.5  # of bytes, for one of k
_BITS_PER_OCTAVE = 0.35  # of a pixel, for one of k: where to begin
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed(Generic[T]):
    """A picture in k colours, written.

    Attributes:
        made: Whatever it is.
        n_bytes: Length of its file.
    """

    made: T
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Generic[T]):
    """The bytes there are, and how pictures are made and weighed.

    Attributes:
        max_bytes: How long the file may be.
        effort: With which it is written in the end.
        write: Makes a picture in at most k colours, and writes it with some effort.
    """

    max_bytes: int
    effort: int
    write: Callable[[int, int], Awaitable[Weighed[T]]]

    async def spend(self, least: int, most: int, n_pixels: int) -> Weighed[T]:
        """Find the picture in the most colours that fits.

        Args:
            least: The fewest colours there may be.
            most: The most.
            n_pixels: Of the picture, to guess where to begin.

        Returns:
            The picture; in `least` colours, and too long, where nothing fits.
        """
        k, saving = min(max(self._guess(n_pixels), least), most), 1.0
        if self.effort > QUICK:
            quick, thorough = await self.write(k, QUICK), await self.write(k, self.effort)
            saving = thorough.n_bytes / quick.n_bytes
        k = await self._search(least, most, k, saving)
        found = await self.write(k, self.effort)
        if found.n_bytes <= self.max_bytes:
            return await self._grow(found, k, most)
        while found.n_bytes > self.max_bytes and k > least:
            k = max(least, k - max(1, k // 32))
            found = await self.write(k, self.effort)
        return found

    async def _grow(self, found: Weighed[T], k: int, most: int) -> Weighed[T]:
        """Take more colours for as long as they are likely to fit, and do."""
        while self.effort > QUICK and found.n_bytes < CLOSE * self.max_bytes:
            room = math.log2(self.max_bytes / found.n_bytes) / _BYTES_OCTAVES
            likely = k * 2.0**room
            if k == most or likely < k + 0.5:
                break
            k = min(most, max(k + 1, int(likely)))
            larger = await self.write(k, self.effort)
            if larger.n_bytes > self.max_bytes:
                break
            found = larger
        return found

    async def _search(self, least: int, most: int, first: int, saving: float) -> int:
        """Find about the largest k whose file, written quickly, seems to fit."""
        search = search_k(least, most, first)  # for the smallest k that is too much
        try:
            k = next(search)
            while True:
                n_bytes = saving * (await self.write(k, min(self.effort, QUICK))).n_bytes
                if CLOSE * self.max_bytes <= n_bytes <= self.max_bytes:
                    return k
                k = search.send(math.log2(self.max_bytes / n_bytes) / _BYTES_OCTAVES)
        except StopIteration as end:
            return max(int(end.value[0]), least)

    def _guess(self, n_pixels: int) -> int:
        return int(2.0 ** min(8.0, 8 * self.max_bytes / n_pixels / _BITS_PER_OCTAVE))
