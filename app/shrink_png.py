"""A program: indices on standard input, the smallest of several PNGs on standard output.

oxipng's bindings hold the interpreter's lock while they work, which would keep a server from
answering anybody; a process of its own costs 10 ms and can be ended. Started by path, so that
nothing else is imported.
"""

import json
import sys
from typing import Any

BANDS = 4  # of rows in a sample
ENOUGH = 1 << 16  # pixels: of fewer no sample is taken
FILTERS_GAIN = 1.02  # by a sample more than in all of a picture, or somewhat less
PART = 4  # a sample is one in so many rows


def main() -> None:
    """Write a picture as the options say that are given as JSON.

    `width`; `palettes`: entries, red, green, blue, alpha, in one order or in several, the first of
    which the indices are of; `places`: where the entries of the first palette stand in each;
    `tries`: number of a palette, filter of the rows, and whether a pixel takes a byte in any case;
    `deflate`: the level of the compressor; `zopfli`: iterations, or 0; `sampled`: choose among the
    tries on a sample of the rows.
    """
    given = json.loads(sys.argv[1])
    indices = sys.stdin.buffer.read()
    tries, deflate = given["tries"], given["deflate"]
    is_sampled = given["sampled"] or given["zopfli"]
    if len(tries) > 1 and is_sampled:
        part = _sample(indices, given["width"]) if given["sampled"] else indices
        tries = [min(tries, key=lambda one: len(_written(part, given, one, deflate)) * _doubt(one))]
    files = (_written(indices, given, one, deflate, given["zopfli"]) for one in tries)
    sys.stdout.buffer.write(min(files, key=len))


def _doubt(one: list[Any]) -> float:
    """Weigh what a sample says: in all of a picture there is more to repeat than in a part."""
    return 1.0 if one[1] == "NoOp" else FILTERS_GAIN


def _sample(indices: bytes, width: int) -> bytes:
    """Take bands of rows, evenly spread; all of a small picture."""
    height = len(indices) // width
    rows = height // (BANDS * PART)
    if len(indices) < ENOUGH or not rows:
        return indices
    starts = [(height - rows) * i // (BANDS - 1) for i in range(BANDS)]
    return b"".join(indices[start * width : (start + rows) * width] for start in starts)


def _written(
    indices: bytes, given: dict[str, Any], one: list[Any], deflate: int, zopfli: int = 0
) -> bytes:
    import oxipng

    number, row_filter, is_whole = one
    places = bytes(given["places"][number])
    image = oxipng.RawImage(
        indices.translate(places + bytes(256 - len(places))) if number else indices,
        given["width"],
        len(indices) // given["width"],
        color_type=oxipng.ColorType.indexed([tuple(entry) for entry in given["palettes"][number]]),
        bit_depth=8,
    )
    compressor = oxipng.Deflaters
    return image.create_optimized_png(
        filter=[getattr(oxipng.RowFilter, row_filter)],
        deflate=compressor.zopfli(zopfli) if zopfli else compressor.libdeflater(deflate),
        bit_depth_reduction=not is_whole,
        palette_reduction=False,  # its order is ours
        color_type_reduction=False,  # it stays a palette picture, for whoever reads the palette
        grayscale_reduction=False,
    )


if __name__ == "__main__":
    main()
