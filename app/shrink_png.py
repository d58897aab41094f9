"""A program: a PNG on standard input, a smaller one on standard output.

oxipng's bindings hold the interpreter's lock while they work, which would keep a server from
answering anybody; a process of its own costs 10 ms and can be ended. Started by path, so that
nothing else is imported.
"""

import json
import sys


def main() -> None:
    """Shrink the PNG by the options given as JSON: `level`, `keep_order`, `quick`, `zopfli`."""
    import oxipng

    given = json.loads(sys.argv[1])
    options = {"level": given["level"], "palette_reduction": not given["keep_order"]}
    if given["quick"]:
        options["filter"] = [oxipng.RowFilter.NoOp]  # palette pictures seldom gain by another
    if given["zopfli"]:
        options["deflate"] = oxipng.Deflaters.zopfli(given["zopfli"])
    # It stays a palette picture, for whoever reads the palette.
    options |= {"color_type_reduction": False, "grayscale_reduction": False}
    sys.stdout.buffer.write(oxipng.optimize_from_memory(sys.stdin.buffer.read(), **options))


if __name__ == "__main__":
    main()
