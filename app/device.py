"""Getting to a device and back: pinned memory, and a stream to each thread.

Each of the engine's threads has a CUDA stream of its own. What one uploads or brings back overlaps
with what another computes; within a thread everything is in order. Copies go through pinned memory,
or they would hold up both sides.
"""

import gc

import numpy as np
import torch


def enter_stream(device: torch.device) -> None:
    """Give this thread a stream of its own on a GPU; the CPU has none. Never raises."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.set_stream(torch.cuda.Stream(device))


def to_device(array: np.ndarray, device: torch.device) -> np.ndarray | torch.Tensor:
    """Leave numpy where it is for the CPU; torch wants writable memory to copy from.

    Raises:
        torch.OutOfMemoryError: The device has no room.
    """
    if device.type == "cpu":
        return array
    tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return tensor.pin_memory().to(device, non_blocking=True)


def to_numpy(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """Bring an array back, once this thread's stream has computed it. Never raises."""
    if not isinstance(array, torch.Tensor):
        return array
    if array.device.type == "cpu":
        return array.numpy()
    host = torch.empty(array.shape, dtype=array.dtype, pin_memory=True)
    host.copy_(array, non_blocking=True)
    torch.cuda.current_stream(array.device).synchronize()
    return host.numpy()


def make_room(device: torch.device) -> None:
    """Give back what nobody needs any more. Never raises."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
