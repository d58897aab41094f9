"""Sharing work that releases the interpreter lock among threads.

The caller works too, and everyone takes the next piece when done with one: nothing waits for a
thread that has not woken, or for a core that has other work. Which thread did what is not part of
any answer: the results come in the order of the pieces. A piece does not share its own work again:
the others have theirs.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

from gpu_kmeans.backends import Backend
from gpu_kmeans.backends.abilities import runs_ahead

__all__ = ["beside", "consume", "may_share", "parallel", "sharers"]

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def parallel(
    run: Callable[[Piece], Result], pieces: Sequence[Piece], *, is_shared: bool = True
) -> list[Result]:
    """Run a function on each piece, on as many threads as torch may use.

    Args:
        run: What to do; worth it where most of it is compiled and takes 0.1 ms or more.
        pieces: What to do it on.
        is_shared: Whether threads may share it, see `may_share`; else the caller does it all.

    Returns:
        The results, in order. What `run` raises passes through, once nobody works any more.
    """
    threads = min(sharers(), len(pieces)) if is_shared else 1
    if threads <= 1:
        return [run(piece) for piece in pieces]
    results: dict[int, Result] = {}
    waiting = iter(range(len(pieces)))  # taking the next one is atomic

    def work() -> None:
        with _ALONE:
            for i in waiting:
                results[i] = run(pieces[i])

    pool = _pool(torch.get_num_threads())
    others = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for other in others:
            if not other.cancel():  # it has begun
                other.exception()
    for other in others:
        if not other.cancelled():
            other.result()
    return [results[i] for i in range(len(pieces))]


def consume(
    run: Callable[[Piece], Result], pieces: Iterable[Piece], *, is_shared: bool = True
) -> list[Result]:
    """Run a function on each piece as it comes, while the caller makes the next one.

    Args:
        run: What to do, likewise.
        pieces: An iterator that has work of its own.
        is_shared: Likewise.

    Returns:
        The results, in order. What either raises passes through, once nobody works any more.
    """
    if not is_shared or sharers() == 1:
        return [run(piece) for piece in pieces]

    def run_alone(piece: Piece) -> Result:
        with _ALONE:
            return run(piece)

    pool, begun = _pool(torch.get_num_threads()), list[tuple[Future[Result], Piece]]()
    try:
        for piece in pieces:
            begun.append((pool.submit(run_alone, piece), piece))
        return [run_alone(piece) if one.cancel() else one.result() for one, piece in begun]
    finally:
        wait([one for one, _ in begun if not one.cancel()])


def sharers() -> int:
    """Return how many threads would share work begun here and now. Never raises."""
    if _ALONE.depth:
        return 1
    threads, is_done = torch.get_num_threads(), _ALONE.is_done
    return threads if is_done is None or is_done() else max(1, threads // 2)


@contextmanager
def beside(is_done: Callable[[], bool]) -> Iterator[None]:
    """Leave half of the threads to other work until that is done.

    Args:
        is_done: Whether it is.
    """
    before, _ALONE.is_done = _ALONE.is_done, is_done
    try:
        yield
    finally:
        _ALONE.is_done = before


def may_share(engine: Backend, device: torch.device) -> bool:
    """Say whether several threads may use an engine on tensors that are on a device.

    Beside the CPU another thread would not be on the caller's stream, and Triton's interpreter,
    which takes tensors on the CPU, is for one thread. Never raises.
    """
    return device.type == "cpu" and not runs_ahead(engine)


class _Alone(threading.local):
    """While this thread works on one of several pieces."""

    depth = 0
    is_done: Callable[[], bool] | None = None

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


_ALONE = _Alone()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="gpu-kmeans")


# A forked child has none of its parent's threads: let it start its own.
os.register_at_fork(after_in_child=_pool.cache_clear)
