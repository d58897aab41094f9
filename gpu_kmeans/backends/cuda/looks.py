"""Looking at how a walk stands while it goes on."""

import torch
from torch import Tensor

from gpu_kmeans.backends.cuda import steps

LOOK_EVERY = 4  # launches between two looks at who rests


class Look:
    """The states of a moment, on their way to the host while the device goes on."""

    def __init__(self, status: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if status.device.type != "cuda":
            self._seen = status.clone()
            return
        self._seen = torch.empty(status.shape, dtype=status.dtype, pin_memory=True)
        self._seen.copy_(status, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(status.device))  # else of another device

    def shows_rest(self) -> bool:
        """Wait for the copy, not for what was launched after it; say whether nobody goes on."""
        if self._event is not None:
            self._event.synchronize()
        return steps.GOES_ON.value not in self._seen.tolist()
