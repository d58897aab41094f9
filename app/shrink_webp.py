"""A program: a palette PNG on standard input, a lossless WebP on standard output.

Large ones take minutes, and a thread cannot be ended: a process can. Started by path, like
`app.shrink_png`.
"""

import io
import json
import sys


def main() -> None:
    """Write the WebP by the options given as JSON: `method`, `quality`, `mode`."""
    from PIL import Image

    given = json.loads(sys.argv[1])
    Image.MAX_IMAGE_PIXELS = None  # our own picture, decoded within limits before
    with Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=["PNG"]) as image:
        pixels = image.convert(given["mode"])
    options = {"lossless": True, "exact": True}
    options |= {"method": given["method"], "quality": given["quality"]}
    pixels.save(sys.stdout.buffer, "WEBP", **options)


if __name__ == "__main__":
    main()
