"""A palette PNG, with as much effort as is asked for, by trying what may be small.

Three things matter beside the compressor. A filter writes the difference from the pixel beside or
above, which pays where the picture is smooth and the palette is in an order that makes it so
(`app.palette_order`); dots and drawings are smaller without, in any order. So from effort 2 on both
are tried, on a few rows or on all. And sixteen colours or less may be smaller in whole bytes.

The first two efforts do without: one pass of libdeflate in the caller's thread, which takes half a
second at most; what takes longer runs in a process, which can be ended.

What pays was measured: docs/decisions/0009-encoders.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from app.palette_order import smooth_order
from app.palette_png import write_png
from app.shrinking import run

__all__ = ["write_small_png"]

_PROGRAM = Path(__file__).with_name("shrink_png.py")
_QUICK = 6  # libdeflate's level at effort 0
_AT_ONCE = 1 << 22  # pixels that take half a second at most, at effort 1
_OPAQUE = 255
_SMALL_DEPTH = 16  # entries that fit into half a byte
_ZOPFLI_ITERATIONS = {7: 5, 8: 15, 9: 50}
_ZOPFLI_PIXELS = 1 << 22  # beyond, zopfli would take minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effort:
    deflate: int  # of libdeflate's levels, up to 12
    sampled: bool  # choose on a few rows, and write only what is chosen
    given: tuple[str, ...]  # filters tried in the palette's own order,
    smooth: tuple[str, ...]  # and in the one made for filters
    whole: bool = False  # whether sixteen entries or less are tried in whole bytes as well


_PLAIN = ("NoOp",)
_USUAL = ("Sub", "Entropy")
_MORE = ("NoOp", "Sub", "Paeth", "Entropy", "Brute")
_ALL = ("NoOp", "Sub", "Up", "Paeth", "Entropy", "Bigrams", "BigEnt", "Brute")
_EFFORTS = {
    1: _Effort(deflate=10, sampled=True, given=_PLAIN, smooth=()),
    2: _Effort(deflate=11, sampled=True, given=_PLAIN, smooth=_USUAL),
    3: _Effort(deflate=12, sampled=True, given=_PLAIN, smooth=_USUAL),
    4: _Effort(deflate=12, sampled=False, given=_PLAIN, smooth=_USUAL, whole=True),
    5: _Effort(deflate=12, sampled=False, given=("NoOp", "Entropy"), smooth=_MORE, whole=True),
    6: _Effort(deflate=12, sampled=False, given=_ALL, smooth=_ALL, whole=True),
}


def write_small_png(
    indices: UInt8[np.ndarray, "h w"],
    palette: UInt8[np.ndarray, "m c"],
    effort: int,
    is_wanted: Callable[[], bool],
    *,
    keep_order: bool = False,
) -> bytes:
    """Write a small PNG of the smallest bit depth, or of 8 where that is smaller.

    Args:
        indices: Palette entry of each pixel.
        palette: sRGB, with a fourth column for straight alpha.
        effort: How hard to look for fewer bytes, in 0..9.
        is_wanted: Asked now and then; once it says no, the work ends.
        keep_order: Leave the entries where they are.

    Returns:
        The file.

    Raises:
        UnwantedError: `is_wanted` said no.
    """
    if not effort:
        return write_png(indices, palette, _QUICK)
    how, size = _EFFORTS[min(effort, max(_EFFORTS))], len(palette)
    if effort == 1 and indices.size <= _AT_ONCE:
        return write_png(indices, palette, how.deflate)
    rgba = np.full((size, 4), _OPAQUE, np.uint8)
    rgba[:, : palette.shape[1]] = palette
    filters = [how.given + (how.smooth if keep_order else ())]
    orders = [np.arange(size)]
    if how.smooth and not keep_order and size > 2:  # noqa: PLR2004 - of two there is one order
        orders.append(_clear_first(smooth_order(indices, size), rgba))
        filters.append(how.smooth)
    depths = [False, True] if how.whole and size <= _SMALL_DEPTH else [False]
    options = {
        "width": indices.shape[1],
        "palettes": [rgba[order].tolist() for order in orders],
        "places": [order.argsort().tolist() for order in orders],
        "tries": [
            (number, name, is_whole)
            for is_whole in depths
            for number, names in enumerate(filters)
            for name in dict.fromkeys(names)
        ],
        "deflate": how.deflate,
        "sampled": how.sampled,
        "zopfli": _ZOPFLI_ITERATIONS.get(effort, 0) if indices.size <= _ZOPFLI_PIXELS else 0,
    }
    return run(_PROGRAM, options, indices.tobytes(), is_wanted)


def _clear_first(order: np.ndarray, rgba: np.ndarray) -> np.ndarray:
    """Put what is not opaque first, so that tRNS can end with it."""
    return order[np.argsort(rgba[order, 3] == _OPAQUE, kind="stable")]
