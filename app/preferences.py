"""What `prefer` stands for: space, dither, thrift and solid where a request does not name them.

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
    thrift: float = 0.0
    solid: bool = False


PREFERENCES = {
    "looks": Preference(space="oklab", dither=0.6, solid=True),
    "bytes": Preference(space="oklab", dither=0.0, thrift=0.5, solid=True),
}
_EXACT = Preference(space="rgb", dither=0.0)


def preferred(options: CompressOptions) -> dict[str, Any]:
    """Say in which space to compare colours, how to map pixels, and whether areas keep theirs.

    Dithering and thrift exclude each other: where one is given, the other is not what is usual.
    Without either the answer is the textbook's, whose areas count as any other pixels.
    Never raises.

    Example:
        >>> preferred(CompressOptions(dither=0.25))
        {'space': 'oklab', 'dither': 0.25, 'thrift': 0.0, 'solid': True}
        >>> preferred(CompressOptions(k="auto"))
        {'space': 'rgb', 'dither': 0.0, 'thrift': 0.0, 'solid': False}
    """
    usual = _EXACT if _asks_for_psnr(options) else PREFERENCES[options.prefer]
    dither, thrift, solid = options.dither, options.thrift, options.solid
    if dither is None:
        dither = 0.0 if thrift else usual.dither
    if thrift is None:
        thrift = 0.0 if dither else usual.thrift
    if solid is None:
        solid = usual.solid and bool(dither or thrift)
    space = usual.space if options.space is None else options.space
    return {"space": space, "dither": dither, "thrift": thrift, "solid": solid}


def _asks_for_psnr(options: CompressOptions) -> bool:
    others = (options.min_quality, options.max_bytes)
    return options.min_psnr is not None or (options.k == "auto" and others == (None, None))
