"""Several arrays in one allocation, which kernels are told of by address.

Each call of PyTorch takes the host 10 to 20 us beside a GPU. Kernels need no tensors: an address
will do, and what is between two of them is arithmetic. A tensor is made of a part when one is
asked for.

Memory is PyTorch's, and goes back to it with the last who holds it; whoever gets it next on the
same stream does so after what has been launched. So hold it until the last launch that is told of
it has been made, and use it on the stream it was taken on.
"""

import math
import threading

import numpy as np
import torch
from torch import Tensor

from gpu_kmeans.backends.cuda.devices import stream_of

__all__ = ["ALIGNMENT", "Memory", "Part", "cleared"]

ALIGNMENT = 256  # bytes, of every part: as that of a new tensor, of which kernels read vectors
NUMPY = {torch.int32: np.int32, torch.int64: np.int64, torch.float64: np.float64}
Part = tuple[torch.dtype, *tuple[int, ...]]


class Memory:
    """Room for arrays, whatever was in it before.

    Args:
        device: Where.
        parts: Of each its type, and its shape.
    """

    def __init__(self, device: torch.device, **parts: Part) -> None:
        self.device, self._parts = device, parts
        self._begins: dict[str, int] = {}
        self._tensors: dict[str, Tensor] = {}
        size = 0
        for name, (dtype, *shape) in parts.items():
            self._begins[name] = size
            size += -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        self._whole = torch.empty(size, dtype=torch.uint8, device=device)
        self._address = self._whole.data_ptr()

    def put(self, **tensors: Tensor) -> "Memory":
        """Take arrays that are there already. Never raises."""
        self._tensors |= tensors
        for name, tensor in tensors.items():
            self._begins[name] = tensor.data_ptr() - self._address
        return self

    def __getitem__(self, name: str) -> int:
        """Return where a part begins."""
        return self._address + self._begins[name]

    def tensor(self, name: str) -> Tensor:
        """Return a part, the same tensor each time. Never raises."""
        found = self._tensors.get(name)
        if found is None:
            dtype, *shape = self._parts[name]
            begin = self._begins[name]
            end = begin + math.prod(shape) * dtype.itemsize
            found = self._tensors[name] = self._whole[begin:end].view(dtype).view(shape)
        return found

    def fetch(self, first: str, *others: str) -> list[np.ndarray]:
        """Wait for parts, and return them on the host: one copy, of all from the first to the last.

        Parts lie in the order in which they were asked for. Never raises.
        """
        names = (first, *others)
        begin, last = self._begins[first], names[-1]
        sizes = {name: math.prod(self._parts[name][1:]) for name in names}
        end = self._begins[last] + sizes[last] * self._parts[last][0].itemsize
        there = self._whole[begin:end].cpu().numpy()
        found = []
        for name in names:
            dtype, *shape = self._parts[name]
            at, kind = self._begins[name] - begin, NUMPY[dtype]
            found.append(np.frombuffer(there, kind, sizes[name], at).reshape(shape))
        return found


_cleared: dict[tuple[torch.device, int], Tensor] = {}
_lock = threading.Lock()


def cleared(size: int, device: torch.device) -> Tensor:
    """Return so many bytes of zeros, at least, that whoever borrows them leaves as zeros.

    Kept for each stream: kernels on it run one after the other, and each one clears what it has
    used before it ends, so that none sees another's. Hold the tensor until the launch is made: who
    needs a larger one puts it in the place of this.

    Never raises.
    """
    key = device, stream_of(device)
    with _lock:
        found = _cleared.get(key)
        if found is None or len(found) < size:
            found = torch.zeros(max(size, 1 << 16), dtype=torch.uint8, device=device)
            _cleared[key] = found
    return found
