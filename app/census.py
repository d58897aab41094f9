"""The colours of a folder of pictures, added up: resumable, in memory that does not grow.

Pictures are decoded and counted a few at a time, and their tallies added to one. Now and then the
sum is saved together with which pictures are in it, in one file that is replaced as a whole, so
that a run that was killed goes on from there and counts no picture twice. Sums do not depend on the
order, so neither does what comes of them.

What does not decode is left out and said; it is tried again the next time. A picture that is in the
sum and has changed since ends the run: a sum cannot be taken apart. What is kept for each picture
are 16 bytes, digests of its name and of its size and time of change.
"""

import asyncio
import hashlib
import io
import os
import time
import zipfile
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from anyio import to_thread
from jaxtyping import UInt64

from app.decoder import Decoder
from app.errors import BadParameter, ServiceError
from gpu_kmeans.tally import Tally

__all__ = [
    "Census",
    "load_census",
    "save_census",
    "take_census",
    "tally_from_bytes",
    "tally_to_bytes",
]

T = TypeVar("T")
SAVE_EVERY_S = 20.0  # a state of two million colours takes a fifth of a second
_FORMAT = 1
_PENDING = 1 << 20  # cells added up at once: sorting is dearer than what is sorted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Census:
    """What has been counted.

    Attributes:
        tally: The colours.
        seen: (pictures, 2), digests of the name and of the version of each; names rise.
        gone: How many of them were no longer there when it was last continued.
    """

    tally: Tally
    seen: UInt64[np.ndarray, "m 2"]
    gone: int = 0

    @classmethod
    def empty(cls, tally: Tally | None = None) -> "Census":
        """Begin with no pictures. Never raises."""
        return cls(tally=tally or Tally.empty(), seen=np.zeros((0, 2), np.uint64))

    @property
    def pictures(self) -> int:
        """How many have been counted."""
        return len(self.seen)


async def take_census(
    folder: Path,
    decoder: Decoder,
    so_far: Census,
    *,
    save: Callable[[Census], None] = lambda _: None,
    save_every_s: float = SAVE_EVERY_S,
    leave_out: Path | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
    on_skip: Callable[[str, ServiceError], None] = lambda _name, _error: None,
) -> Census:
    """Count every picture below a folder that has not been counted yet.

    Args:
        folder: Where to look, in its subfolders too.
        decoder: What decodes; as many pictures are under way as it has processes.
        so_far: What is counted already.
        save: Keeps the census; called now and then, and at the end whatever ends it.
        save_every_s: How often, in seconds.
        leave_out: A file that is none of the pictures.
        on_progress: Told the share of the files done, in [0, 1].
        on_skip: Told of each file that does not decode, and why.

    Returns:
        The census of all.

    Raises:
        BadParameter: A picture has changed since it was counted.
    """
    total = sum(1 for _ in _files(folder, leave_out))
    ledger = _Ledger(so_far)
    saved_at = time.monotonic()
    files = (name for name in _files(folder, leave_out) if ledger.lacks(folder, name))
    counting = _in_turn(
        (partial(_count, folder, name, decoder, so_far.tally.capacity) for name in files),
        decoder.processes,
    )
    try:
        async for name, version, counted in counting:
            if isinstance(counted, ServiceError):
                on_skip(name, counted)
                ledger.skip()
            else:
                await to_thread.run_sync(ledger.add, name, version, counted)
            on_progress(ledger.files / max(1, total))
            if time.monotonic() - saved_at >= save_every_s:
                await to_thread.run_sync(save, ledger.close())
                saved_at = time.monotonic()
    finally:
        save(ledger.close())
    return replace(ledger.close(), gone=so_far.pictures - ledger.met)


class _Ledger:
    """A census being taken."""

    def __init__(self, so_far: Census) -> None:
        self._known, self._pending = so_far, [so_far.tally]
        self._new = array("Q")
        self.files = self.met = 0  # of those known already

    def lacks(self, folder: Path, name: str) -> bool:
        """Say whether a picture is still to be counted."""
        digest, names = _digest(name), self._known.seen[:, 0]
        row = int(np.searchsorted(names, np.uint64(digest)))
        if row == len(names) or int(names[row]) != digest:
            return True
        if int(self._known.seen[row, 1]) != _version(folder / name):
            allowed = f"a state whose pictures are as they were; {name} has changed: begin anew"
            raise BadParameter.of("state", "this file", allowed)
        self.files += 1
        self.met += 1
        return False

    def skip(self) -> None:
        self.files += 1

    def add(self, name: str, version: int, tally: Tally) -> None:
        self._new.extend([_digest(name), version])
        self._pending.append(tally)
        self.files += 1
        if sum(len(each.keys) for each in self._pending[1:]) >= _PENDING:
            self._pending = [Tally.total(self._pending)]

    def close(self) -> Census:
        """Add up what is there."""
        self._pending = [Tally.total(self._pending)]
        new = np.array(self._new, np.uint64).reshape(-1, 2)
        seen = np.concatenate([self._known.seen, new])
        return Census(tally=self._pending[0], seen=seen[seen[:, 0].argsort()])


async def _count(
    folder: Path, name: str, decoder: Decoder, capacity: int
) -> tuple[str, int, Tally | ServiceError]:
    """Count one picture; give what is wrong with it where it does not decode."""
    path = folder / name
    version = _version(path)
    encoded = await to_thread.run_sync(path.read_bytes)
    try:
        async with decoder.decoded(encoded) as picture:
            count = partial(Tally.from_pixels, picture.pixels, capacity=capacity)
            return name, version, await to_thread.run_sync(count)
    except ServiceError as error:
        return name, version, error


async def _in_turn(jobs: Iterator[Callable[[], Awaitable[T]]], at_once: int) -> AsyncIterator[T]:
    """Give the results of jobs as they finish, a few being under way."""
    running: set[asyncio.Future[T]] = set()
    try:
        while True:
            begun = islice(jobs, at_once - len(running))
            running |= {asyncio.ensure_future(job()) for job in begun}
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                yield job.result()
    finally:
        for job in running:
            job.cancel()


def _files(folder: Path, leave_out: Path | None) -> Iterator[str]:
    """Walk through a folder in a defined order; only one folder's names are held at a time."""
    barred = leave_out.resolve() if leave_out else None
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and path.resolve() != barred:
                yield path.relative_to(folder).as_posix()


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(text), digest_size=8).digest())


def _version(path: Path) -> int:
    status = path.stat()
    return _digest(f"{status.st_size} {status.st_mtime_ns}")


def save_census(census: Census, path: Path) -> None:
    """Write a census, in place of an earlier one as a whole.

    Raises:
        OSError: It cannot be written there.
    """
    partly = path.with_name(f"{path.name}.part")
    with partly.open("wb") as file:
        np.savez(file, format=_FORMAT, seen=census.seen, **_arrays(census.tally))
    partly.replace(path)


def load_census(path: Path) -> Census:
    """Read a census; where there is no file yet, begin one.

    Raises:
        BadParameter: The file is none.
        OSError: It cannot be read.
    """
    if not path.exists():
        return Census.empty()
    try:
        with np.load(path, allow_pickle=False) as file:
            known = {name: file[name] for name in file.files}
        is_ours = int(known["format"]) == _FORMAT
        census = Census(tally=_tally(known), seen=known["seen"])
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise _no_state(path) from error
    if not is_ours:
        raise _no_state(path)
    return census


def tally_to_bytes(tally: Tally) -> bytes:
    """Write a tally for another process. Never raises."""
    file = io.BytesIO()
    np.savez(file, **_arrays(tally))
    return file.getvalue()


def tally_from_bytes(content: bytes) -> Tally:
    """Read what `tally_to_bytes` has written; raises what numpy does for anything else.

    Example:
        >>> tally_from_bytes(tally_to_bytes(Tally.empty(256))).capacity
        256
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return _tally(file)


def _arrays(tally: Tally) -> dict[str, Any]:
    return {
        "keys": tally.keys,
        "moments": tally.moments,
        "shift": tally.shift,
        "transparent": tally.transparent,
        "capacity": tally.capacity,
    }


def _tally(arrays: Mapping[str, np.ndarray]) -> Tally:
    return replace(
        Tally.empty(int(arrays["capacity"])),
        keys=arrays["keys"],
        moments=arrays["moments"],
        shift=int(arrays["shift"]),
        transparent=int(arrays["transparent"]),
    )


def _no_state(path: Path) -> BadParameter:
    return BadParameter.of("state", path.name, "a file that --state has written")
