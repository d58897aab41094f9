"""The palette: up to 256 colours, 8-bit sRGB, in a defined order."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gpu_kmeans.color import features_to_srgb, srgb8_to_features

__all__ = ["MAX_COLORS", "ORDERS", "Palette"]

MAX_COLORS = 256  # what a byte can index, in PNG and GIF alike
ORDERS = ("given", "luminance", "popularity")
# Of a sort key, 8 bits alpha, 18 of luma (ITU-R BT.601, x 1000), 24 of levels.
_ALPHA, _RED, _GREEN, _BLUE = 1 << 42, 299 << 24 | 1 << 16, 587 << 24 | 1 << 8, 114 << 24 | 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Colours to choose from.

    Attributes:
        colors: (m, 3) or (m, 4) uint8, all different, in the order of `sort_key`.
        centroids: (m, 3) or (m, 4) float64, what each was rounded from, sRGB 0..255.
    """

    colors: Tensor
    centroids: Tensor
    _placed: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_colors(cls, colors: UInt8[Tensor, "m c"]) -> "Palette":
        """Take colours as they are; equal ones are merged, the order is the caller's."""
        distinct, inverse = torch.unique(colors, dim=0, return_inverse=True)
        first = torch.full((len(distinct),), len(colors), device=colors.device)
        rows = torch.arange(len(colors), device=colors.device)
        kept = first.scatter_reduce_(0, inverse, rows, "amin").sort().values
        return cls(colors=colors[kept], centroids=colors[kept].double())

    @classmethod
    def from_features(cls, features: Float[Tensor, "k c"], space: str) -> "Palette":
        """Round centroids to 8 bits; equal ones are merged, in order of alpha, then lightness."""
        return cls.all_from_features(features[None], space)[0]

    @classmethod
    def all_from_features(cls, features: Float[Tensor, "b k c"], space: str) -> list["Palette"]:
        """Do so for several palettes of as many centroids, whatever the device to the same bits."""
        (b, k, c), device = features.shape, features.device
        # numpy: PyTorch takes longer to be called than this takes to be done.
        centroids = features_to_srgb(features.cpu().reshape(-1, c), space).numpy()
        colors = np.floor(centroids + 0.5).astype(np.uint8)
        key = _key(colors.T.astype(np.int64)).reshape(b, k)
        order = key.argsort(axis=1, kind="stable")
        key = np.take_along_axis(key, order, axis=1)
        new = np.ones((b, k), bool)
        new[:, 1:] = key[:, 1:] != key[:, :-1]
        rows, sizes = (order + k * np.arange(b)[:, None])[new], new.sum(axis=1).tolist()
        kept = (torch.from_numpy(of[rows]).to(device).split(sizes) for of in (colors, centroids))
        return [cls(colors=one, centroids=other) for one, other in zip(*kept, strict=True)]

    def sorted(self, kept: int = 0) -> "Palette":
        """Put all after the first `kept` in order of alpha, then lightness; equals are merged."""
        if kept:
            first = torch.arange(len(self.colors), device=self.colors.device) < kept
            return self.keep(first).joined(self.keep(~first).sorted())
        order = sort_key(self.colors).argsort(stable=True)
        colors, centroids = self.colors[order], self.centroids[order]
        new = torch.ones(len(colors), dtype=torch.bool, device=colors.device)
        new[1:] = (colors[1:] != colors[:-1]).any(dim=1)
        return Palette(colors=colors[new], centroids=centroids[new])

    @property
    def is_opaque(self) -> Tensor:
        """(m,) bool."""
        return opaque_colors(self.colors)

    def to_features(self, space: str) -> Float[Tensor, "m c"]:
        """Place the colours on the grid of a space, once for all who ask."""
        placed = self._placed.get(space)
        if placed is None:
            placed = self._placed[space] = srgb8_to_features(self.colors, space)
        return placed

    def with_transparent(self) -> "Palette":
        """Put a fully transparent entry first."""
        clear = torch.zeros_like(self.colors[:1])
        return Palette(
            colors=torch.cat([clear, self.colors]),
            centroids=torch.cat([clear.double(), self.centroids]),
        )

    def with_channels(self, channels: int) -> "Palette":
        """Add opaque alpha where four channels are wanted and there are three."""
        if self.colors.shape[1] == channels:
            return self
        alpha = torch.full_like(self.colors[:, :1], 255)
        return Palette(
            colors=torch.cat([self.colors, alpha], dim=1),
            centroids=torch.cat([self.centroids, alpha.double()], dim=1),
        )

    def keep(self, used: Tensor) -> "Palette":
        """Return the entries that a mask (m,) names."""
        return Palette(colors=self.colors[used], centroids=self.centroids[used])

    def joined(self, other: "Palette") -> "Palette":
        """Append another palette's entries, those that are here already left out."""
        if not len(self.colors):
            return other
        new = ~torch.isin(sort_key(other.colors), sort_key(self.colors))
        return Palette(
            colors=torch.cat([self.colors, other.colors[new]]),
            centroids=torch.cat([self.centroids, other.centroids[new]]),
        )


def opaque_colors(colors: UInt8[Tensor, "m c"]) -> Tensor:
    """Say which colours are opaque: (m,) bool. Never raises.

    Example:
        >>> opaque_colors(torch.tensor([[0, 0, 0, 255], [9, 9, 9, 254]], dtype=torch.uint8))
        tensor([ True, False])
    """
    if colors.shape[1] == 3:  # noqa: PLR2004
        return torch.ones(len(colors), dtype=torch.bool, device=colors.device)
    return colors[:, 3] == 255  # noqa: PLR2004


def sort_key(colors: UInt8[Tensor, "m c"]) -> Tensor:
    """Order colours by alpha, then luma, then their levels: (m,) int64, equal for equal colours.

    Transparent entries come first, so that PNG's tRNS chunk can end early; neighbours in lightness
    are neighbours in index, which compresses better than order of popularity. Never raises.

    Example:
        >>> sort_key(torch.tensor([[255, 255, 255], [0, 0, 0]], dtype=torch.uint8)).argsort()
        tensor([1, 0])
    """
    key: Tensor = _key(colors.long().unbind(1))
    return key


def _key(levels: Any) -> Any:
    """Add up what each channel's levels mean for `sort_key`: no field runs over into the next."""
    red, green, blue, *alpha = levels
    return _RED * red + _GREEN * green + _BLUE * blue + _ALPHA * (alpha[0] if alpha else 255)
