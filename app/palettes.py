"""The colours of a palette, as entries of an answer and in the formats other programs read."""

import json
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt8

from app.errors import BadParameter
from app.schemas import PaletteEntry

_RGB = 3  # channels before alpha
_OPAQUE = 255
_NAMED_COLORS = {"black": "000000", "white": "ffffff"}
_ACT_ENTRIES = 256
_ACT_SIZES = (768, 772)  # without and with the number of entries
MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "gpl": "text/plain; charset=utf-8",
    "hex": "text/plain; charset=utf-8",
    "act": "application/octet-stream",
}


def palette_entries(
    colors: UInt8[np.ndarray, "m c"], counts: Int64[np.ndarray, " m"]
) -> list[PaletteEntry]:
    """Describe colours, sRGB with straight alpha if any, by how many pixels have them.

    Never raises.

    Example:
        >>> palette_entries(np.array([[255, 0, 0]], np.uint8), np.array([4]))[0].share
        1.0
    """
    n_pixels = int(counts.sum())
    return [
        PaletteEntry(
            hex=f"#{bytes(color[:_RGB]).hex()}",
            rgb=tuple(color[:_RGB]),
            alpha=color[_RGB] if len(color) > _RGB else None,
            count=count,
            share=count / n_pixels,
        )
        for color, count in zip(colors.tolist(), counts.tolist(), strict=True)
    ]


def read_palette(content: bytes) -> list[str]:
    r"""Read the colours of a file that `write_palette`, or `/palette` as JSON, has written.

    Args:
        content: CSS, GPL, ACT, HEX or JSON; the content tells which.

    Returns:
        `#rrggbb` or `#rrggbbaa` of each, in order; none where there are none.

    Never raises.

    Example:
        >>> read_palette(b"000000\nffffff80")
        ['#000000', '#ffffff80']
    """
    if len(content) in _ACT_SIZES:
        n_colors = int.from_bytes(content[-4:-2]) if len(content) > min(_ACT_SIZES) else 0
        triples = [content[i : i + 3] for i in range(0, 3 * (n_colors or _ACT_ENTRIES), 3)]
        return [f"#{triple.hex()}" for triple in triples]
    text = content.decode(errors="replace").strip()
    if text.startswith("{"):
        return _json_colors(text)
    if text.startswith("GIMP Palette"):
        rows = re.findall(r"^\s*(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\b", text, re.MULTILINE)
        return ["#" + "".join(f"{min(255, int(level)):02x}" for level in row) for row in rows]
    hex_color = r"[0-9a-fA-F]{6}(?:[0-9a-fA-F]{2})?\b"
    pattern = rf"#({hex_color})" if "#" in text else rf"^({hex_color})"
    return [f"#{digits.lower()}" for digits in re.findall(pattern, text, re.MULTILINE)]


def _json_colors(text: str) -> list[str]:
    try:
        entries = [PaletteEntry.model_validate(entry) for entry in json.loads(text)["palette"]]
    except (ValueError, KeyError, TypeError):
        return []
    return [_hex(entry) for entry in entries]


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


def read_colors(name: str, colors: str, *, has_alpha: bool) -> np.ndarray:
    """Read colours as a parameter has them, such as `#rrggbb` and `#rrggbbaa`, by commas.

    Args:
        name: Of the parameter.
        colors: Its text.
        has_alpha: Whether the picture has.

    Returns:
        (m, 4) for a picture with alpha, else (m, 3).

    Raises:
        BadParameter: A colour is not opaque, and the picture has no alpha.

    Example:
        >>> read_colors("palette", "#ff0000,white", has_alpha=False).tolist()
        [[255, 0, 0], [255, 255, 255]]
    """
    texts = [_NAMED_COLORS.get(text, text) for text in colors.split(",")]
    rows = [list(bytes.fromhex(text.removeprefix("#")).ljust(4, b"\xff")) for text in texts]
    palette = np.array(rows, np.uint8)
    if has_alpha:
        return palette
    if palette[:, _RGB].min() < _OPAQUE:
        raise BadParameter.of(name, colors, "#rrggbb: this picture has no alpha")
    return palette[:, :_RGB]
