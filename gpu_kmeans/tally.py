"""The colours of many pictures, added up.

The palette that is best for a million pictures together is the k-means of the sum of their
histograms. A `Tally` is such a sum, of bounded size: it holds every colour apart while they fit,
and beyond that merges the cells of an octree, all of one size, the smallest that fits.

The size depends on the pictures alone: the whole has at least the cells of any part, so no part is
ever merged further than the whole. All sums are of whole numbers. Adding is therefore associative
and commutative to the last bit: the order, the number of parts and who adds them change nothing.

What merging costs is known exactly, the `scatter`: the WCSS of the pictures against their merged
colours. By the triangle inequality, for every palette, the roots of its WCSS over the pictures and
of its WCSS over the merged colours differ by at most the root of the scatter.

Alpha is never merged, nor is what is fully transparent: an opaque colour stays opaque.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8, UInt32
from torch import Tensor

from gpu_kmeans.backends import backend_for
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.checks import check_integer, check_pixels
from gpu_kmeans.errors import InputError
from gpu_kmeans.histogram import Histogram

__all__ = ["CAPACITY", "Tally"]

CAPACITY = 1 << 21  # 92 MB; ten photographs have fewer colours, and all there are at 7 bits fit
LEAST_CAPACITY = 256  # one cell for each alpha is the coarsest there is
_COUNT, _SUMS, _SQUARES = 0, slice(1, 4), 4  # columns of the moments


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """Colours and how many pixels of some pictures have them.

    Attributes:
        keys: (n,) uint32, rising: alpha, then the Morton code of red, green and blue, whose last
            3 x shift bits are 0. One for each cell.
        moments: (n, 5) int64 of the pixels of a cell: their number, the sums of their levels of
            red, green and blue, the sum of the squares of all these levels.
        shift: A cell is 2^shift levels wide in each of red, green and blue; 0 is exact.
        transparent: How many pixels are fully transparent.
        capacity: The most cells there may be.
    """

    keys: UInt32[np.ndarray, " n"]
    moments: Int64[np.ndarray, "n 5"]
    shift: int
    transparent: int
    capacity: int

    @classmethod
    def empty(cls, capacity: int = CAPACITY) -> "Tally":
        """Begin with no pictures.

        Raises:
            OptionError: capacity is below 256.

        Example:
            >>> Tally.empty().pixels
            0
        """
        check_integer("capacity", capacity, low=LEAST_CAPACITY)
        nothing = np.zeros(0, np.uint32), np.zeros((0, 5), np.int64)
        return cls(
            keys=nothing[0], moments=nothing[1], shift=0, transparent=0, capacity=int(capacity)
        )

    @classmethod
    def from_pixels(
        cls,
        pixels: UInt8[Tensor, "_h _w _c"] | UInt8[np.ndarray, "_h _w _c"],
        *,
        capacity: int = CAPACITY,
        backend: str = "auto",
    ) -> "Tally":
        """Count the colours of one picture.

        Args:
            pixels: 8-bit sRGB (h, w, 3), or (h, w, 4) with straight alpha.
            capacity: The most cells to hold, 256 or more, 44 bytes each; beyond, colours merge.
            backend: See `quantize`.

        Returns:
            Its tally.

        Raises:
            ShapeError: pixels are not of a shape or type named above.
            OptionError: capacity is below 256.
            DeviceError: The backend cannot run here.

        Example:
            >>> Tally.from_pixels(np.zeros((2, 3, 3), np.uint8)).pixels
            6
        """
        tensor = check_pixels(pixels)
        histogram = Histogram.from_pixels(tensor, backend_for(tensor.device, backend))
        visible = slice(int(histogram.has_transparent), None)
        colors = histogram.with_channels(4).colors[visible].cpu()
        counts = histogram.counts[visible].cpu().numpy()
        levels = colors[:, :3].numpy().astype(np.int64)
        moments = np.concatenate(
            [np.ones((len(levels), 1), np.int64), levels, (levels**2).sum(axis=1, keepdims=True)],
            axis=1,
        )
        keys = colors[:, 3].long() << 24 | morton_codes(colors[:, :3])
        transparent = int(histogram.counts[0]) if histogram.has_transparent else 0
        part = cls(
            keys=keys.numpy().astype(np.uint32),
            moments=moments * counts[:, None],
            shift=0,
            transparent=transparent,
            capacity=cls.empty(capacity).capacity,
        )
        return cls.total([part])

    @classmethod
    def total(cls, tallies: "Iterable[Tally]") -> "Tally":
        """Add up tallies, in any order.

        Args:
            tallies: One or more, all of one capacity.

        Returns:
            Their sum: the tally of all their pictures.

        Raises:
            InputError: There are none, or their capacities differ.

        Example:
            >>> dot = Tally.from_pixels(np.zeros((1, 1, 3), np.uint8))
            >>> Tally.total([dot, dot, dot]).pixels
            3
        """
        tallies = list(tallies)
        capacities = sorted({tally.capacity for tally in tallies})
        if len(capacities) != 1:
            raise InputError(f"tallies of one capacity are wanted, got {capacities or 'none'}")
        keys = np.concatenate([tally.keys for tally in tallies])
        order = np.argsort(keys, kind="stable")  # merges what is sorted already
        keys = keys[order]
        shift = max(tally.shift for tally in tallies)
        while np.count_nonzero(_begins(keys, shift)) > capacities[0]:
            shift += 1
        starts = np.flatnonzero(_begins(keys, shift))
        moments = np.concatenate([tally.moments for tally in tallies])[order]
        return cls(
            keys=keys[starts] & _mask(shift),
            moments=np.add.reduceat(moments, starts, axis=0) if len(starts) else moments,
            shift=shift,
            transparent=sum(tally.transparent for tally in tallies),
            capacity=capacities[0],
        )

    def __add__(self, other: "Tally") -> "Tally":
        """Add another tally; see `total`."""
        if not isinstance(other, Tally):
            return NotImplemented
        return Tally.total([self, other])

    @property
    def pixels(self) -> int:
        """Of all pictures."""
        return int(self.moments[:, _COUNT].sum()) + self.transparent

    @property
    def is_exact(self) -> bool:
        """Every colour is held apart: nothing was merged."""
        return self.shift == 0

    @property
    def scatter(self) -> float:
        """The WCSS of the pictures against their merged colours, in RGB units; 0 where exact."""
        means, moments = self._means(), self.moments
        from_means = (
            moments[:, _SQUARES]
            - 2 * (means * moments[:, _SUMS]).sum(axis=1)
            + moments[:, _COUNT] * (means**2).sum(axis=1)
        )
        return float((from_means * ((self.keys >> 24) / 255.0) ** 2).sum())

    def to_histogram(self, device: torch.device | str = "cpu") -> Histogram:
        """Give the colours as those of a picture that has each in one pixel, counted as it is.

        Args:
            device: Where the tensors are wanted.

        Returns:
            Colours in Morton order, merged ones by their mean, rounded to 8 bits; with alpha where
            any pixel is not opaque. Never raises for a tally of at least one pixel.
        """
        alphas = (self.keys >> 24).astype(np.int64)[:, None]
        colors = np.concatenate([self._means(), alphas], axis=1).astype(np.uint8)
        counts = self.moments[:, _COUNT]
        if self.transparent:
            colors = np.concatenate([np.zeros((1, 4), np.uint8), colors])
            counts = np.concatenate([[self.transparent], counts])
        if colors[:, 3].min() == 255:  # noqa: PLR2004
            colors = colors[:, :3]
        sorted_colors = torch.from_numpy(np.ascontiguousarray(colors))
        order = morton_codes(sorted_colors).argsort()
        return Histogram(
            colors=sorted_colors[order].to(device),
            counts=torch.from_numpy(counts)[order].to(device),
            inverse=torch.arange(len(order), dtype=torch.int32, device=device),
            shape=(1, len(order), colors.shape[1]),
            pixels=self.pixels,
        )

    def _means(self) -> np.ndarray:
        """Of each cell, rounded to whole levels, which lie in the cell again: (n, 3) int64."""
        counts = self.moments[:, :1]
        means: np.ndarray = (2 * self.moments[:, _SUMS] + counts) // (2 * counts)
        return means


def _mask(shift: int) -> np.uint32:
    return np.uint32(0xFFFFFFFF >> (3 * shift) << (3 * shift))


def _begins(keys: np.ndarray, shift: int) -> np.ndarray:
    """Say which of the sorted keys are the first of their cell."""
    cells = keys & _mask(shift)
    first = np.ones(len(keys), bool)
    first[1:] = cells[1:] != cells[:-1]
    return first
