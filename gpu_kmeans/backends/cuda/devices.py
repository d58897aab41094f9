"""What is asked of a device, and small numbers on their way there."""

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

ALIGNMENT = 16  # numbers of 4 bytes or more: above the 16 bytes that Triton asks about


def as_int32(values: Sequence[int] | Tensor, device: torch.device) -> Tensor:
    """Bring whole numbers to the device without waiting for it."""
    return to_device(torch.as_tensor(values, dtype=torch.int32), device)


def stream_of(device: torch.device) -> int:
    """Name the stream that launches go to: what is kept for one is not there yet on another."""
    return int(_raw_stream(device.index)) if device.type == "cuda" else 0


def _raw_stream(index: int) -> int:
    """Ask as Triton does: a tenth of what it takes to make a `torch.cuda.Stream`."""
    ask = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # noqa: SLF001
    return ask(index) if ask else torch.cuda.current_stream(index).cuda_stream


@functools.lru_cache(maxsize=256)
def _known(
    values: tuple[float, ...], dtype: torch.dtype, device: torch.device, _stream: int
) -> Tensor:
    return to_device(torch.tensor(values, dtype=dtype), device)


def known_int32(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Bring numbers to the device that may well be there already: they are not to be written."""
    return _known(values, torch.int32, device, stream_of(device))


def known_int64(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Do as `known_int32`."""
    return _known(values, torch.int64, device, stream_of(device))


def known_float64(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Do as `known_int32`."""
    return _known(values, torch.float64, device, stream_of(device))


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Bring a small tensor to the device without waiting for it."""
    if device.type != "cuda":
        return values
    return values.to(device, non_blocking=True)  # the driver has read it when this returns


def rows_of(
    value: float, count: int, rows: int, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """Return so many tensors of a value from one allocation, each as aligned as a new one.

    Triton compiles a kernel anew for a pointer that is aligned otherwise.
    """
    padded = -(-max(1, rows) // ALIGNMENT) * ALIGNMENT
    filled = torch.full((count, padded), value, dtype=dtype, device=device)
    return [row[:rows] for row in filled]


def on(device: torch.device) -> AbstractContextManager[object]:
    """Launch on this device, whichever is the current one. Triton asks for the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
