"""The hot loops behind one contract, and the choice of who runs them.

A batch of problems is packed: the points of all of them in one array, `offsets` saying where each
begins; the centroids likewise. There is no padding, and each problem has its own n, k and stop.

| backend | runs on | is |
| --- | --- | --- |
| `reference` | any device | the definition, in plain PyTorch: what the tests believe |
| `cpu` | the CPU, with numba | the same answers, with exact tile pruning |
| `cuda` | CUDA, with Triton | the same again, many problems to a launch |

Pictures are clustered on an integer grid (see `gpu_kmeans.color`), where every distance, sum and
comparison is exact, so all backends give the same bits. For other points they agree to rounding.
"""

import functools
import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from gpu_kmeans.errors import DeviceError, OptionError

__all__ = [
    "Accumulated",
    "Backend",
    "Problems",
    "SearchPlan",
    "available_backends",
    "backend_for",
    "fixed_point",
]

logger = logging.getLogger(__name__)

# What the eye makes of a pixel and its neighbours, twice over, 2 to each side, in 16 x 16 parts: a
# picture and its dithering look alike where their colours, weighted so, do.
BLUR = (1, 4, 6, 4, 1)
DIFFUSION_ROWS = 64  # of a band; errors start anew in each, so that bands go side by side
SHARE_BITS = 16  # after the point of what is passed on of an error
NAMES = ("auto", "reference", "cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problems:
    """Several weighted point sets, packed.

    Attributes:
        points: (n, d) float32 or float64. Integers in floating point where `is_integral`.
        weights: (n,) float64, positive; whole numbers where `is_integral`, as counts are.
        offsets: (b + 1,) problem i owns the rows offsets[i]..offsets[i + 1].
        is_integral: The points are whole numbers whose squared distances stay below 2^24, so that
            float32 arithmetic is exact.
        layout: What the backend that packed them keeps beside them; nobody else's business.
    """

    points: Tensor
    weights: Tensor
    offsets: tuple[int, ...]
    is_integral: bool
    layout: object = None

    @property
    def spans(self) -> list[slice]:
        """The rows of each problem."""
        return [slice(a, b) for a, b in zip(self.offsets, self.offsets[1:], strict=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulated:
    """What one pass over the points finds out about each centroid, all float64.

    Attributes:
        sums: (K, d) weighted sum of the points nearest to each centroid.
        masses: (K,) their weight.
        wcss: (b,) weighted sum of squared distances, per problem.
        labels: (n,) int32, each point's centroid within its problem; empty unless asked for.
        squares: (K, d) weighted sum of squared coordinates; empty unless detail was asked for.
        utilities: (K,) what the WCSS would rise by, at most, without this centroid; likewise.
    """

    sums: Tensor
    masses: Tensor
    wcss: Tensor
    labels: Tensor
    squares: Tensor
    utilities: Tensor


@runtime_checkable
class Backend(Protocol):
    """What every backend does. Ties always go to the lowest index."""

    name: str

    def histogram(
        self, pixels: UInt8[Tensor, "n c"]
    ) -> tuple[UInt8[Tensor, "m c"], Int[Tensor, " m"], Int[Tensor, " n"]]:
        """Count distinct colours: colours in Morton order, counts, each pixel's colour."""
        ...

    def pack(
        self,
        points: Sequence[Float[Tensor, "n d"]],
        weights: Sequence[Float[Tensor, " n"]],
        *,
        is_integral: bool,
    ) -> Problems:
        """Put several point sets into the layout this backend likes."""
        ...

    def assign_accumulate(
        self,
        problems: Problems,
        centroids: Float[Tensor, "K d"],
        k_offsets: tuple[int, ...],
        *,
        active: Sequence[int] | None = None,
        labels: bool = False,
        detail: bool = False,
    ) -> Accumulated:
        """Give each point of the active problems its nearest centroid and add it up there."""
        ...

    def settle(
        self, problem: Problems, centroids: Float[Tensor, "k d"], *, steps: int, still: float
    ) -> tuple[Float[Tensor, "k d"], float]:
        """Run up to `steps` over-relaxed Lloyd iterations on one problem, see `place_beyond`.

        Stop below a fall of `still` x WCSS.
        Returns the last centroids whose WCSS is known, and it: nothing is computed for its own
        sake, so they have moved `steps` - 1 times at most. A centroid that gets nothing stays.
        """
        ...

    def seed(
        self, problems: Problems, ks: Sequence[int], uniforms: Sequence[Float[Tensor, "k trials"]]
    ) -> list[Int[Tensor, " m"]]:
        """Choose rows by greedy k-means++; fewer than k once every distance is 0."""
        ...

    def dither(
        self,
        colors: Float[Tensor, "n d"],
        inverse: Int[Tensor, "h w"],
        palette: Float[Tensor, "k d"],
        *,
        strength: float,
        own: Int[Tensor, " n"],
        sweeps: int,
    ) -> UInt8[Tensor, "h w"]:
        """Map pixels to palette entries: Floyd-Steinberg error diffusion, then second thoughts.

        Errors are diffused in bands of rows. Then each pixel chooses again, `sweeps` times over:
        the entry nearest to its colour less `strength` times what the pixels about it are off by,
        BLUR weighing them, itself with 1: at strength 1 that entry makes the blurred picture most
        like the blurred original, given the others. First the pixels 0, 3, 6, ... of the rows 0, 3,
        6, ..., then those right of them, and so on: none sees another of its turn.

        Targets are clamped to the range of the colours. A colour whose `own` entry is not negative,
        one with which it is the same, takes that and passes no error on. All numbers are whole,
        shares in 2^-SHARE_BITS, ties rounded up.
        """
        ...

    def blurred_moments(
        self,
        colors: Float[Tensor, "n d"],
        inverse: Int[Tensor, "h w"],
        indices: UInt8[Tensor, "h w"],
        k: int,
    ) -> tuple[Int[Tensor, "k k"], Int[Tensor, "k d"]]:
        """Return the normal equations of the palette that shows a picture best from a distance.

        With BLUR for the weight of neighbours: how much of each entry lies about each other one,
        and the sum of the picture's colours about the pixels of each entry. Whole numbers.
        """
        ...

    def economize(
        self,
        colors: Float[Tensor, "n d"],
        inverse: Int[Tensor, "h w"],
        palette: Float[Tensor, "k d"],
        labels: Int[Tensor, " n"],
        *,
        price: float,
        sweeps: int,
    ) -> UInt8[Tensor, "h w"]:
        """Map pixels to palette entries that compress; `gpu_kmeans.backends.thrift` says how.

        `labels` is the entry nearest to each colour. A colour that is just its entry's keeps it.
        `price` is what each pixel beside that has the same entry is worth where the picture is
        flat, as a squared distance.
        """
        ...

    def squared_error(
        self,
        before: Int[Tensor, "n c"],
        inverse: Int[Tensor, "h w"],
        after: Int[Tensor, "m c"],
        indices: UInt8[Tensor, "h w"],
    ) -> int:
        """Add up the squared differences of two pictures: rows of `before`, and of `after`."""
        ...

    def block_moments(
        self,
        before: Float[Tensor, "n 3"],
        inverse: Int[Tensor, "h w"],
        after: Float[Tensor, "m 3"],
        indices: Integer[Tensor, "h w"],
        block: int,
    ) -> tuple[Int[Tensor, "12 _h _w"], Int[Tensor, "12 _hh _hw"]]:
        """Return what means and variances of two pictures are made of, summed over square blocks.

        The rows: the three channels before, and after; then of the first channel, and of the other
        two together, the squares before, the squares after and the products. First of the pictures,
        then of them at half the size, a pixel there being the sum of four here. The edges are
        repeated to whole blocks of the half picture, two at least each way.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What a search for good centroids does: see `gpu_kmeans.refinement`.

    Attributes:
        lanes: Breaths taken side by side from the same centroids.
        first_steps: Of settling the first centroids, before any breath.
        steps_in: Of settling after splitting.
        steps_out: Of settling after dropping.
        still: The relative fall of the WCSS at which settling ends.
        reach: Standard deviations between a cluster's mean and either half of it.
        extra: How many clusters each breath splits and drops.
        luck: (searches x lanes, breaths, k) float64, what the gains of splitting are divided by; of
            the searches of one problem, and the same for the next.
    """

    lanes: int
    first_steps: int
    steps_in: int
    steps_out: int
    still: float
    reach: float
    extra: tuple[int, ...]
    luck: np.ndarray

    def breaths(self, some: slice) -> "SearchPlan":
        """Return the plan of some of the breaths."""
        return replace(self, extra=self.extra[some], luck=self.luck[:, some])

    def lane(self, lane: int) -> "SearchPlan":
        """Return the plan of one lane of a single search."""
        return replace(self, lanes=1, luck=self.luck[lane : lane + 1])


def fixed_point(share: float) -> int:
    """Write a share in [0, 1] in units of 2^-SHARE_BITS, rounded. Never raises.

    Example:
        >>> fixed_point(0.75)
        49152
    """
    return int(share * 2**SHARE_BITS + 0.5)


def available_backends() -> tuple[str, ...]:
    """Name the backends that can run here, best first.

    Never raises.

    Example:
        >>> "reference" in available_backends()
        True
    """
    has_cuda = torch.cuda.is_available() and _why_not_cuda(torch.device("cuda")) is None
    return (*(["cuda"] if has_cuda else []), *(["cpu"] if _has_numba() else []), "reference")


def backend_for(device: torch.device, name: str = "auto") -> Backend:
    """Find the backend to use for tensors on a device.

    Args:
        device: Where the points are.
        name: "auto" for the fastest that runs there, or the name of one.

    Returns:
        The backend.

    Raises:
        OptionError: There is no backend of that name.
        DeviceError: It cannot run on that device, or on this machine.
    """
    if name not in NAMES:
        raise OptionError("backend", name, f"one of {', '.join(NAMES)}")
    if name == "reference":
        return _reference()
    if name == "cuda":
        reason = _why_not_cuda(device)
        if reason is not None:
            raise DeviceError(f"the cuda backend cannot run on {device}: {reason}")
        return _cuda()
    if name == "cpu" and not _has_numba():
        raise DeviceError("the cpu backend needs numba: install it, or use backend='reference'")
    if name == "cpu" and device.type != "cpu":
        raise DeviceError(f"the cpu backend takes no tensors on {device}; use backend='auto'")
    if device.type == "cpu":
        return _cpu() if _has_numba() else _fallback("numba is not installed")
    reason = _why_not_cuda(device)
    return _cuda() if reason is None else _fallback(f"no cuda backend on {device}: {reason}")


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _why_not_cuda(device: torch.device) -> str | None:
    """Say what keeps the cuda backend from running on a device; None if nothing does."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    from gpu_kmeans.backends.cuda.trial import why_not

    return why_not(device)


@functools.cache
def _reference() -> Backend:
    from gpu_kmeans.backends.reference import ReferenceBackend

    return ReferenceBackend()


@functools.cache
def _cpu() -> Backend:
    from gpu_kmeans.backends.cpu import CpuBackend  # numba takes a third of a second to import

    return CpuBackend()


@functools.cache
def _cuda() -> Backend:
    from gpu_kmeans.backends.cuda.backend import CudaBackend  # so does Triton

    return CudaBackend()


@functools.cache
def _fallback(reason: str) -> Backend:
    logger.warning("%s: the reference backend serves, many times slower", reason)
    return _reference()
