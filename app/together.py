"""Pictures of a batch that want the same, computed in one call: what pays on a GPU."""

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch

from app.batcher import Ticket
from app.device import to_device
from app.jobs import Job, OnProgress, Outcome, QuantizeJob, on_host
from app.lanes import UnwantedError, end_if_unwanted
from gpu_kmeans import QuantizedImage, quantize_batch

__all__ = ["alike", "run_together", "wanted"]


def alike(tickets: Sequence[Ticket[Job[Any]]]) -> list[list[int]]:
    """Group pictures that want the same; every other job is a group by itself. Never raises.

    Returns:
        The places of each group's members.
    """
    groups: dict[object, list[int]] = {}
    for i, ticket in enumerate(tickets):
        job = ticket.job
        key: object = i
        if isinstance(job, QuantizeJob):
            key = tuple(sorted((name, _frozen(value)) for name, value in job.options.items()))
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def run_together(
    tickets: Sequence[Ticket[Job[Any]]], device: torch.device, backend: str
) -> list[Outcome[QuantizedImage]]:
    """Compute pictures that want the same in one call.

    Args:
        tickets: A group of `alike`.
        device: Where.
        backend: By which backend.

    Raises:
        UnwantedError: Nobody wants any of them any more.

    Whatever else the call raises passes through, whosever it is.
    """
    started_at = time.perf_counter()
    jobs = [cast("QuantizeJob", ticket.job) for ticket in tickets]
    hooks = [end_if_unwanted(ticket.job, wanted(ticket)) for ticket in tickets]
    images = quantize_batch(
        [to_device(job.pixels, device) for job in jobs],
        backend=backend,
        on_progress=lambda share: _tell_all(hooks, share),
        **jobs[0].options,
    )
    results = [on_host(image) for image in images]
    ended_at = time.perf_counter()
    return [
        Outcome(
            result=result,
            device=str(device),
            backend=backend,
            queue_ms=1e3 * (started_at - ticket.asked_at),
            kmeans_ms=1e3 * (ended_at - started_at) / len(tickets),
        )
        for ticket, result in zip(tickets, results, strict=True)
    ]


def wanted(ticket: Ticket[Job[Any]]) -> Callable[[], bool]:
    """Ask whether anybody waits for a job. Never raises."""
    return lambda: ticket.is_wanted


def _tell_all(hooks: Sequence[OnProgress], share: float) -> None:
    """Tell everyone who waits; end where nobody does."""
    left = 0
    for hook in hooks:
        try:
            hook(share)
        except UnwantedError:
            left += 1
    if left == len(hooks):
        raise UnwantedError


def _frozen(value: object) -> str:
    """Say an option's value in words that are the same for equal ones only."""
    return repr(value.tolist()) if isinstance(value, np.ndarray) else repr(value)
