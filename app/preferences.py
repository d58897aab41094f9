"""What `prefer` stands for: the space and the dithering where a request names neither.

On evidence: docs/decisions/0007-what-is-preferred.md. The library's own defaults are the exact
answer of the textbook, rgb and no dithering, which `min_psnr` takes too: PSNR is what dithering
costs.
"""

from dataclasses import dataclass
from typing import Any

from app.options import CompressOptions

__all__ = ["PREFERENCES", "Preference", "preferred"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Keywords of `gpu_kmeans.quantize`."""

    space: str
    dither: float


PREFERENCES = {
    "looks": Preference(space="oklab", dither=0.6),
    "bytes": Preference(space="oklab", dither=0.0),
}
_EXACT = Preference(space="rgb", dither=0.0)


def preferred(options: CompressOptions) -> dict[str, Any]:
    """Say in which space to compare colours and how much to dither.

    Never raises.

    Example:
        >>> preferred(CompressOptions(dither=0.25))
        {'space': 'oklab', 'dither': 0.25}
        >>> preferred(CompressOptions(k="auto"))
        {'space': 'rgb', 'dither': 0.0}
    """
    usual = _EXACT if _asks_for_psnr(options) else PREFERENCES[options.prefer]
    return {
        "space": usual.space if options.space is None else options.space,
        "dither": usual.dither if options.dither is None else options.dither,
    }


def _asks_for_psnr(options: CompressOptions) -> bool:
    others = (options.min_quality, options.max_bytes)
    return options.min_psnr is not None or (options.k == "auto" and others == (None, None))
