"""The colours of a palette in the formats other programs read."""

from collections.abc import Sequence

from app.schemas import PaletteEntry

_ACT_ENTRIES = 256
MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "gpl": "text/plain; charset=utf-8",
    "hex": "text/plain; charset=utf-8",
    "act": "application/octet-stream",
}


def write_palette(entries: Sequence[PaletteEntry], palette_format: str) -> bytes:
    """Write a palette for a style sheet, GIMP, Photoshop or a list of hex colours.

    Args:
        entries: One to 256 colours, in order.
        palette_format: `css`, `gpl`, `act` or `hex`.

    Returns:
        The file. GPL and ACT know no alpha.

    Example:
        >>> red = PaletteEntry(hex="#ff0000", rgb=(255, 0, 0), count=1, share=1.0)
        >>> write_palette([red], "css").decode().split()
        [':root', '{', '--color-1:', '#ff0000;', '}']
    """
    return _WRITERS[palette_format](entries)


def _css(entries: Sequence[PaletteEntry]) -> bytes:
    """Custom properties, usable as `var(--color-1)`."""
    lines = [f"  --color-{i}: {_hex(entry)};" for i, entry in enumerate(entries, start=1)]
    return "\n".join([":root {", *lines, "}", ""]).encode()


def _hex_lines(entries: Sequence[PaletteEntry]) -> bytes:
    """One colour a line, without the number sign, as pixel-art programs read it."""
    return "".join(f"{_hex(entry)[1:]}\n" for entry in entries).encode()


def _gpl(entries: Sequence[PaletteEntry]) -> bytes:
    """GIMP, Inkscape and Krita."""
    header = ["GIMP Palette", "Name: gpu-kmeans", "Columns: 16", "#"]
    rows = [f"{' '.join(f'{level:3d}' for level in entry.rgb)}\t{entry.hex}" for entry in entries]
    return "\n".join([*header, *rows, ""]).encode()


def _act(entries: Sequence[PaletteEntry]) -> bytes:
    """Adobe color table: 256 triples, how many count, which is transparent (none); big-endian."""
    colors = b"".join(bytes(entry.rgb) for entry in entries)
    padded = colors.ljust(3 * _ACT_ENTRIES, b"\0")
    return padded + len(entries).to_bytes(2) + b"\xff\xff"


def _hex(entry: PaletteEntry) -> str:
    return entry.hex if entry.alpha is None else f"{entry.hex}{entry.alpha:02x}"


_WRITERS = {"css": _css, "gpl": _gpl, "act": _act, "hex": _hex_lines}
