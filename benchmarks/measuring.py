"""Time and peak memory of methods, each in a process of its own.

Every process imports its library and fits a small crop; then memory is what the process grows by at
its peak over the first fit of the whole picture, from what it had just before. Times come in
rounds, in each of which every method has its turn, so that a busy moment of the machine hits all
alike; the first fit counts only where a method is so slow that no other follows.
"""

import gc
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.methods import METHODS, Outcome

CROP = 96  # pixels each way, of the fit before the first
PAUSE_S = 0.2  # before each fit: thread pools of the one before spin a little
STATUS = Path("/proc/self/status")


@dataclass(kw_only=True)
class Measurement:
    """What was measured of one method on one picture.

    Attributes:
        seconds: Of each counted fit.
        outcomes: Of each counted fit.
        memory_bytes: What the process grew by at its peak; None where that says nothing.
    """

    seconds: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    memory_bytes: int | None = None

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    def add(self, seconds: float, outcome: Outcome) -> None:
        self.seconds.append(seconds)
        self.outcomes.append(outcome)


class Worker:
    """A process with one method in it."""

    def __init__(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")  # nothing inherited: no threads, no memory
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def ask(self, *message: Any) -> None:
        self._pipe.send(message)

    def answer(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Workers:
    """A process for each of some methods, for as many pictures as there are."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._workers: dict[str, Worker] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._workers = {name: self._stack.enter_context(Worker(name)) for name in self._names}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(
        self, pixels: np.ndarray, k: int, *, repeat: int, budget_s: float
    ) -> dict[str, Measurement]:
        """Fit one picture by each method, in rounds.

        Args:
            pixels: uint8 (h, w, 3).
            k: Number of colours.
            repeat: The most counted fits of a method; their seeds are 0, 1, ...
            budget_s: No more fits are begun of a method than fit into this, as its first went.

        Returns:
            A measurement by name; memory says something about the first picture alone, for freed
            memory is taken again without the process growing.
        """
        for worker in self._workers.values():
            worker.ask("load", pixels, k)
        for worker in self._workers.values():
            worker.answer()
        found, planned = {}, {}
        for name, worker in self._workers.items():
            seconds, outcome, memory = _fit(worker, k, seed=0)
            method = METHODS[name]
            found[name] = Measurement(memory_bytes=None if method.in_own_process else memory)
            planned[name] = 0 if method.is_slow else min(repeat, int(budget_s / seconds))
            if not planned[name]:
                found[name].add(seconds, outcome)
        for turn in range(repeat):
            for name, worker in self._workers.items():
                if turn < planned[name]:
                    seconds, outcome, _ = _fit(worker, k, seed=turn)
                    found[name].add(seconds, outcome)
        return found


def measure(
    names: Sequence[str], pixels: np.ndarray, k: int, *, repeat: int, budget_s: float
) -> dict[str, Measurement]:
    """Fit one picture by each method, in new processes; see `Workers.measure`."""
    with Workers(names) as workers:
        return workers.measure(pixels, k, repeat=repeat, budget_s=budget_s)


def _fit(worker: Worker, k: int, seed: int) -> tuple[float, Outcome, int]:
    time.sleep(PAUSE_S)
    worker.ask("fit", k, seed)
    return worker.answer()


def _serve(name: str, pipe: Connection) -> None:
    """Answer what the parent asks, until it ends this process."""
    method, data = METHODS[name], None
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # some talk
    while True:
        try:
            request, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            if request == "load":
                pixels, k = arguments
                data = method.prepare(pixels)
                crop = np.ascontiguousarray(pixels[:CROP, :CROP])
                method.read(method.fit(method.prepare(crop), k, 0))
                del pixels, crop, arguments
                pipe.send("ready")
            else:
                pipe.send(_fit_here(method, data, *arguments))
        except Exception as error:  # noqa: BLE001 - it is raised again in the parent
            pipe.send(RuntimeError(f"{name}: {type(error).__name__}: {error}"))


def _fit_here(method: Any, data: Any, k: int, seed: int) -> tuple[float, Outcome, int]:
    gc.collect()  # else what is garbage by now may be freed during the fit, and lessen its growth
    before = _reset_peak()
    start = time.perf_counter()
    answer = method.fit(data, k, seed)
    seconds = time.perf_counter() - start
    grown = max(0, _peak() - before)
    return seconds, method.read(answer), grown


def _reset_peak() -> int:
    """Forget the peak of the resident memory, where the system can; return what is resident now."""
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")
        return _status_bytes("VmRSS")
    return _peak()


def _peak() -> int:
    """Return the most memory that was resident, in bytes.

    Linux keeps getrusage's figure across exec, so that a child starts with its parent's peak; the
    figure in /proc is the process's own.
    """
    if STATUS.exists():
        return _status_bytes("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(key: str) -> int:
    line = next(row for row in STATUS.read_text().splitlines() if row.startswith(key))
    return int(line.split()[1]) * 1024
