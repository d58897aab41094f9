"""Something small to compute first, so that nobody waits for compilation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from app.jobs import ClusterJob, Job, QuantizeJob

__all__ = ["something_small"]

_WIDTHS = (20, 40, 80, 160, 256)  # with what a search adds: up to 32, 64, 128, 256, 512
_USUAL: tuple[dict[str, Any], ...] = (  # each with kernels of its own, 4 to 14 s to compile
    {"curve": True},
    {"space": "oklab", "dither": 0.6, "thrift": 0.0, "solid": True},
    {"space": "oklab", "thrift": 0.5, "solid": True},
    {"min_quality": 50.0},
)


def something_small(device: torch.device) -> Iterator[Job[Any]]:
    """Give jobs that need every kernel which a usual request on the device does. Never raises.

    The pictures have as many colours as a photograph: they are merged for the search, and threads
    share them. One has few, for those that one thread iterates on by itself.
    """
    noise = np.random.default_rng(0).integers(0, 255, (192, 192, 4)).astype(np.uint8)
    for picture in (noise[..., :3].copy(), noise):
        for options in _USUAL:
            yield QuantizeJob(pixels=picture, options={"k": 8, **options})
        if device.type == "cuda":  # a kernel is compiled for each width of palettes
            for k in _WIDTHS:
                yield QuantizeJob(pixels=picture, options={"k": k})
    yield QuantizeJob(pixels=noise[:32, :32, :3].copy(), options={"k": 8})
    yield ClusterJob(points=noise[0, :9, :3] / 2, k=2)
    yield ClusterJob(points=noise[:9, :2].reshape(9, 8) / 2, k=2)
