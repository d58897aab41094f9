"""What `prefer` stands for: space, dithering and thrift where a request does not name them.

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


PREFERENCES = {
    "looks": Preference(space="oklab", dither=0.6),
    "bytes": Preference(space="oklab", dither=0.0, thrift=0.5),
}
_EXACT = Preference(space="rgb", dither=0.0)


def preferred(options: CompressOptions) -> dict[str, Any]:
    """Say in which space to compare colours, how much to dither, and how thriftily to map.

    Dithering and thrift exclude each other: where one is given, the other is not what is usual.
    Never raises.

    Example:
        >>> preferred(CompressOptions(dither=0.25))
        {'space': 'oklab', 'dither': 0.25, 'thrift': 0.0}
        >>> preferred(CompressOptions(k="auto"))
        {'space': 'rgb', 'dither': 0.0, 'thrift': 0.0}
    """
    usual = _EXACT if _asks_for_psnr(options) else PREFERENCES[options.prefer]
    dither, thrift = options.dither, options.thrift
    if dither is None:
        dither = 0.0 if thrift else usual.dither
    if thrift is None:
        thrift = 0.0 if dither else usual.thrift
    space = usual.space if options.space is None else options.space
    return {"space": space, "dither": dither, "thrift": thrift}


def _asks_for_psnr(options: CompressOptions) -> bool:
    others = (options.min_quality, options.max_bytes)
    return options.min_psnr is not None or (options.k == "auto" and others == (None, None))
