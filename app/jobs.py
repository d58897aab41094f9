"""What is computed: jobs, which say what, and the outcome of each.

A job is a value; whoever owns a device adds it, the thread and the clock. What the library raises
is translated here, so that nobody above has to know its errors. Knows no web framework.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Num, UInt8

from app.device import to_device, to_numpy
from app.encoders import encode
from app.errors import BadParameter, BadPoints, DeviceUnavailable
from gpu_kmeans import (
    DeviceError,
    ElbowCurve,
    InputError,
    KMeansResult,
    OptionError,
    QuantizedImage,
    elbow,
    kmeans,
    quantize,
)

__all__ = [
    "ClusterJob",
    "Compute",
    "ElbowJob",
    "FileJob",
    "Job",
    "OnProgress",
    "Outcome",
    "QuantizeJob",
    "WrittenImage",
    "on_host",
    "pixels_of",
    "public_errors",
]

OnProgress = Callable[[float], None]
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
_CHANNELS = 3


class Job(Protocol[Result_co]):
    """Something to compute."""

    def run(self, device: torch.device, backend: str) -> Result_co:
        """Compute it there, by that backend, and give back numpy arrays."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeJob:
    """A picture to reduce to its palette.

    Attributes:
        pixels: Three or four channels, sRGB, straight alpha.
        options: Keywords of `gpu_kmeans.quantize`, only those that differ from its defaults.
        on_progress: Told the share of the work done, from the engine's thread.
    """

    pixels: UInt8[np.ndarray, "h w c"]
    options: Mapping[str, Any]
    on_progress: OnProgress | None = None

    def run(self, device: torch.device, backend: str) -> QuantizedImage:
        """Quantize the picture on the device."""
        pixels = to_device(self.pixels, device)
        result = quantize(pixels, backend=backend, on_progress=self.on_progress, **self.options)
        return on_host(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenImage:
    """A picture in few colours, and its file.

    Attributes:
        image: The former, but for its indices, which are in the file.
        data: The file.
        encode_ms: Milliseconds the writing took.
    """

    image: QuantizedImage
    data: bytes
    encode_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileJob:
    """A picture to reduce to its palette, and to write on the spot: for files that take no time.

    Attributes:
        pixels: See `QuantizeJob`.
        options: Likewise.
        encoding: Keywords of `app.encoders.encode`.
        on_progress: Told the share of the work done, from the engine's thread.
    """

    pixels: UInt8[np.ndarray, "h w c"]
    options: Mapping[str, Any]
    encoding: Mapping[str, Any]
    on_progress: OnProgress | None = None

    def run(self, device: torch.device, backend: str) -> WrittenImage:
        """Quantize the picture on the device, and write it."""
        fit = QuantizeJob(pixels=self.pixels, options=self.options, on_progress=self.on_progress)
        image = fit.run(device, backend)
        started_at = time.perf_counter()
        data = encode(np.asarray(image.indices), np.asarray(image.palette), **self.encoding)
        return WrittenImage(
            image=replace(image, indices=image.indices[:0]),
            data=data,
            encode_ms=1e3 * (time.perf_counter() - started_at),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ElbowJob:
    """Points, or a picture, whose elbow curve is wanted.

    Attributes:
        points: (n, d) numbers or (h, w, 3|4) pixels.
        weights: How much each point counts.
        k_max: End of the curve.
        options: More keywords of `gpu_kmeans.elbow`.
        on_progress: Told the share of the work done, from the engine's thread.
    """

    points: Num[np.ndarray, "..."]
    weights: Num[np.ndarray, "n"] | None = None
    k_max: int
    options: Mapping[str, Any] = field(default_factory=dict)
    on_progress: OnProgress | None = None

    def run(self, device: torch.device, backend: str) -> ElbowCurve:
        """Compute the curve on the device."""
        weights = None if self.weights is None else to_device(self.weights, device)
        return elbow(
            to_device(self.points, device),
            self.k_max,
            weights=weights,
            backend=backend,
            on_progress=self.on_progress,
            **self.options,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterJob:
    """Points to cluster.

    Attributes:
        points: (n, d) numbers.
        weights: How much each point counts.
        k: How many clusters; None for the knee of the curve up to `k_max`, or its end.
        k_max: End of that curve.
        options: More keywords of `gpu_kmeans.kmeans`.
        on_progress: Told the share of the work done, from the engine's thread.
    """

    points: Num[np.ndarray, "n d"]
    weights: Num[np.ndarray, "n"] | None = None
    k: int | None
    k_max: int = 20
    options: Mapping[str, Any] = field(default_factory=dict)
    on_progress: OnProgress | None = None

    def run(self, device: torch.device, backend: str) -> KMeansResult:
        """Cluster the points on the device."""
        points = to_device(self.points, device)
        weights = None if self.weights is None else to_device(self.weights, device)
        shared: dict[str, Any] = {
            "weights": weights,
            "backend": backend,
            "on_progress": self.on_progress,
        }
        k = self.k
        if k is None:
            measure = {name: self.options[name] for name in self.options.keys() & {"metric", "p"}}
            curve = elbow(points, self.k_max, **shared, **measure)
            k = curve.knee or curve.ks[-1]
        result = kmeans(points, k, **shared, **self.options)
        return replace(result, centroids=to_numpy(result.centroids), labels=to_numpy(result.labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[Result]):
    """A result, what computed it and how long that took.

    Attributes:
        result: What the job gave.
        device: Such as `cpu` or `cuda:0`.
        backend: Such as `cpu` or `cuda`.
        queue_ms: Time the job waited, in milliseconds.
        kmeans_ms: Time it ran, in milliseconds.
        warnings: What was not as expected about who computed it, in words.
    """

    result: Result
    device: str
    backend: str
    queue_ms: float = 0.0
    kmeans_ms: float = 0.0
    warnings: tuple[str, ...] = ()


class Compute(Protocol):
    """The seam: whatever turns a job into its outcome. An engine, a batcher, a cluster, a test."""

    async def __call__(self, job: Job[Result]) -> Outcome[Result]:
        """Compute the job, some time."""
        ...


def on_host(image: QuantizedImage) -> QuantizedImage:
    """Bring a picture's arrays back from the device. Never raises."""
    return replace(
        image,
        indices=to_numpy(image.indices),
        palette=to_numpy(image.palette),
        counts=to_numpy(image.counts),
        centroids=to_numpy(image.centroids),
    )


def pixels_of(job: Job[Any]) -> int:
    """Say how much work a job is: its pixels, or the coordinates of its points. Never raises."""
    array = (
        job.pixels
        if isinstance(job, QuantizeJob | FileJob)
        else getattr(job, "points", np.empty(0))
    )
    return int(array.size // _CHANNELS)


@contextmanager
def public_errors() -> Iterator[None]:
    """Say the library's errors in the service's words.

    Raises:
        BadParameter: For an `OptionError`.
        BadPoints: For any other `InputError`.
        DeviceUnavailable: For a `DeviceError`.
    """
    try:
        yield
    except OptionError as error:
        raise BadParameter.of(error.name, error.got, error.allowed) from error
    except InputError as error:
        raise BadPoints(f"{error}.") from error
    except DeviceError as error:
        raise DeviceUnavailable(f"{error}.") from error
