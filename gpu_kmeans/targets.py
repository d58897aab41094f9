"""What a picture has to reach, and the search for the k that just reaches it, in a few fits.

A search is a generator: it yields the k to try, and is sent by how many octaves of k (doublings)
that try seems to miss what is wanted, at most 0 where it is enough. Whoever drives it decides how a
try is made: here by fitting a palette, elsewhere by weighing files too.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

from gpu_kmeans.checks import check_number

__all__ = ["Targets", "search_k"]

MAX_PSNR = 200.0  # dB: a million pixels that differ in one level are at 108
USUAL_PSNR = 32.0  # dB, of k="auto" alone
_DB_PER_OCTAVE = 2.3  # WCSS falls about as k^-0.75 on photographs
_QUALITY_PER_OCTAVE = 9.0
_FIRST_STRIDE = 1.2  # times what a try misses by, so that the next is likely on the other side


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The least a picture has to reach; None where that does not matter.

    Attributes:
        min_psnr: In dB, from 0 to 200.
        min_quality: Of `gpu_kmeans.quality.picture_quality`, from 0 to 100.
    """

    min_psnr: float | None = None
    min_quality: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            OptionError: Naming the option.
        """
        if self.min_psnr is not None:
            check_number("min_psnr", self.min_psnr, low=0, high=MAX_PSNR)
        if self.min_quality is not None:
            check_number("min_quality", self.min_quality, low=0, high=100)

    @classmethod
    def of(cls, k: object, min_psnr: float | None, min_quality: float | None) -> "Targets":
        """Take what is asked beside k; "auto" alone asks for 32 dB.

        Raises:
            OptionError: Naming the option that is out of range.
        """
        targets = cls(min_psnr=min_psnr, min_quality=min_quality)
        is_bare = isinstance(k, str) and k == "auto" and not targets
        return cls(min_psnr=USUAL_PSNR) if is_bare else targets

    def __bool__(self) -> bool:
        """Say whether anything is asked."""
        return self.min_psnr is not None or self.min_quality is not None

    def lack(self, psnr_db: float | None, quality: float | None) -> float:
        """Estimate how many octaves of k are missing; at most 0 where everything is reached.

        Args:
            psnr_db: What was reached; None for an exact picture.
            quality: Likewise; None where it was not asked.

        Never raises.

        Example:
            >>> Targets(min_psnr=30.0).lack(27.7, None)
            1.0
        """
        lacks = [-math.inf]
        if self.min_psnr is not None and psnr_db is not None:
            lacks.append((self.min_psnr - psnr_db) / _DB_PER_OCTAVE)
        if self.min_quality is not None and quality is not None:
            lacks.append((self.min_quality - quality) / _QUALITY_PER_OCTAVE)
        return max(lacks)

    def reason(self, psnr_db: float | None, quality: float | None) -> str:
        """Name the target that was the hardest to reach. Never raises."""
        if self.min_quality is None:
            return "min_psnr"
        by_psnr = Targets(min_psnr=self.min_psnr).lack(psnr_db, None)
        by_quality = Targets(min_quality=self.min_quality).lack(None, quality)
        return "min_psnr" if by_psnr > by_quality else "min_quality"

    def shortfall(self, k: int, psnr_db: float | None, quality: float | None) -> str:
        """Say in words what k colours do not reach. Never raises.

        Example:
            >>> Targets(min_psnr=30.0).shortfall(256, 27.7, None)
            '256 colours reach 27.7 dB, not min_psnr=30'
        """
        missed = []
        if self.min_psnr is not None and psnr_db is not None and psnr_db < self.min_psnr:
            missed.append(f"{psnr_db:.1f} dB, not min_psnr={self.min_psnr:g}")
        if self.min_quality is not None and quality is not None and quality < self.min_quality:
            missed.append(f"a quality of {quality:.1f}, not min_quality={self.min_quality:g}")
        return f"{k} colours reach {', and '.join(missed)}"


def search_k(low: int, high: int, first: int) -> Generator[int, float, tuple[int, int]]:
    """Look for the smallest k that is enough, where more colours lack less.

    Args:
        low: The smallest k there may be.
        high: The largest.
        first: Where to begin.

    Yields:
        A k to try, each once; wants to be sent what it lacks, in octaves.

    Returns:
        The largest k tried that is not enough, or low - 1; and the smallest that is, or high + 1.
        They are neighbours.

    Example:
        >>> search = search_k(1, 256, 16)
        >>> k = next(search)
        >>> try:
        ...     while True:
        ...         k = search.send(math.log2(100 / k))
        ... except StopIteration as end:
        ...     end.value
        (99, 100)
    """
    below, above = low - 1, high + 1
    lacks: dict[int, float] = {}
    k, last_side, turns = min(max(first, low), high), 0, 0
    while True:
        lacks[k] = lack = yield k
        side = 1 if lack > 0 else -1
        below, above = (k, above) if lack > 0 else (below, k)
        if above - below <= 1:
            return below, above
        turns = turns + 1 if side == last_side else 0
        last_side = side
        k = min(max(_next(lacks, below, above, k, turns), below + 1), above - 1)


def _next(lacks: dict[int, float], below: int, above: int, k: int, turns: int) -> int:
    """Step by what is missing until there is a k on either side, then interpolate or halve."""
    if below not in lacks or above not in lacks:
        stride = lacks[k] * _FIRST_STRIDE * 2**turns
        return int(k * 2.0 ** min(max(stride, -8.0), 8.0) + 0.5)
    left, right = math.log2(below), math.log2(above)
    share = 0.5
    if not turns and math.isfinite(lacks[above]):
        share = lacks[below] / (lacks[below] - lacks[above])
    return int(2.0 ** (left + (right - left) * share) + 0.5)
