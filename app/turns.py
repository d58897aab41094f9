"""Whose picture is in memory: so many decoded pixels at once, first come first served.

Admission says who may wait; this says who has pixels meanwhile. A picture takes some 20 bytes a
pixel at its worst from decoding to encoding, and waiting needs none of them: two of the largest
pictures take the memory of one, one after the other, and no longer, since such a picture is
computed on all processors anyway.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Turns:
    """Pixels that are held, and who waits to hold some.

    Attributes:
        max_pixels: Held at once; a picture with more is held alone.
        pixels: Held now.
    """

    max_pixels: int
    pixels: int = 0
    _waiting: "deque[tuple[int, asyncio.Future[None]]]" = field(default_factory=deque)

    def take(self, n_pixels: int) -> bool:
        """Hold so many pixels if nobody is before us; say whether they are held. Never raises.

        Example:
            >>> turns = Turns(max_pixels=10)
            >>> turns.take(8), turns.take(3), turns.take(2)
            (True, False, True)
        """
        is_free = self.are_free(n_pixels)
        self.pixels += n_pixels if is_free else 0
        return is_free

    def are_free(self, n_pixels: int) -> bool:
        """Say whether so many pixels could be held now. Never raises."""
        return not self._waiting and self._has_room(n_pixels)

    async def wait(self, n_pixels: int) -> None:
        """Hold so many pixels once it is our turn; `give_back` ends that."""
        if self.take(n_pixels):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((n_pixels, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(n_pixels)  # it came at the moment we left
            else:
                self._waiting = deque(each for each in self._waiting if each[1] is not turn)
                self._call()  # whoever was behind us may fit
            raise

    def give_back(self, n_pixels: int) -> None:
        """Hold them no longer, and let the next ones in. Never raises."""
        self.pixels -= n_pixels
        self._call()

    def _call(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][0]):
            n_pixels, turn = self._waiting.popleft()
            if not turn.done():
                self.pixels += n_pixels
                turn.set_result(None)

    def _has_room(self, n_pixels: int) -> bool:
        return not self.pixels or self.pixels + n_pixels <= self.max_pixels
