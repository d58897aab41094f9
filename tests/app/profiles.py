"""ICC profiles made for tests: version 2, of matrix and curve, of grey, and of CMYK by a table."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
VERSION = 0x02400000
# Colorants of the primaries, adapted to D50 (columns of the matrices that Lindbloom publishes).
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def srgb_curve(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def rgb_profile(colorants, curve, name="a test"):
    """A profile of three colorants; `curve` is a gamma, or a function of [0, 1]."""
    xyz = {f"{channel}XYZ": _xyz(at) for channel, at in zip("rgb", colorants, strict=True)}
    curves = {f"{channel}TRC": _curve(curve) for channel in "rgb"}
    return _profile(b"RGB ", b"XYZ ", {**xyz, **curves}, name)


def grey_profile(gamma):
    return _profile(b"GRAY", b"XYZ ", {"kTRC": _curve(gamma)}, "grey")


def cmyk_profile(to_lab):
    """A printer whose inks add up to what `to_lab` says of each full one (c, m, y, k in 0, 1)."""
    table = bytearray()
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lightness, a, b = to_lab(c, m, y, k)
        table += bytes([round(lightness * 2.55), round(a + 128), round(b + 128)])
    line = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + line * 4 + bytes(table) + line * 3
    return _profile(b"CMYK", b"Lab ", {"A2B0": lut}, "press", kind=b"prtr")


def _xyz(values):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def _curve(curve):
    if callable(curve):
        levels = (65535 * curve(np.linspace(0, 1, 1024))).round().astype(">u2")
        return b"curv\0\0\0\0" + struct.pack(">I", 1024) + levels.tobytes()
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * curve))


def _profile(space, connection, tags, name, kind=b"mntr"):
    text = name.encode() + b"\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    named = {"desc": description, "wtpt": _xyz(D50), "cprt": b"text\0\0\0\0none\0", **tags}
    at, index, body = 132 + 12 * len(named), b"", b""
    for tag, content in named.items():
        padded = content + bytes(-len(content) % 4)
        index += tag.encode() + struct.pack(">II", at + len(body), len(content))
        body += padded
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"test", VERSION, kind, space, connection)
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(65536 * value) for value in D50))
    return header + bytes(128 - len(header)) + struct.pack(">I", len(named)) + index + body
