"""Who is let in: a bounded number of jobs, pixels and bytes, and a share of it for each client.

Whatever is full is said at once, with the time until there should be room; nobody waits to be
refused. What is let in holds its place until it is answered or its client has left.
Knows no web framework and waits for nothing: plain numbers and a clock.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from app.errors import NotReady, QueueFull

CLIENT: ContextVar[str] = ContextVar("client", default="")  # whose request this is
_LONGEST_WAIT_S = 60
_CLIENT_SHARE = 0.5  # of pixels and of bytes; of jobs the limits say it
_MEMORY = 0.2  # weight of the newest job in the mean time a job takes
_PIXEL_MEMORY = 0.03  # likewise of pixels: pictures end two by two, one long after the last
_PIXELS_OF_ANY = 50_000  # whose work a picture is however small
_LEARNERS = 20  # pictures, before which any mean is a guess
_BLOCK = 8  # pictures whose time is compared with the mean: those computed side by side even out
_BLOCK_MEMORY = 0.05  # weight of the newest block in the mean of squared differences
_MARGIN = 3.5  # standard deviations, of what is skewed and only estimated: 99 of 100 take less


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """How much may be under way.

    Attributes:
        max_jobs: Requests computing or waiting to.
        max_client_jobs: Those of one client.
        max_pixels: Of pictures decoded and not yet answered; one client has at most half.
        max_upload_bytes: Of bodies received and not yet answered; likewise.
        max_wait_s: Of the pictures under way, by what the last ones took and how much that varied:
            one that would not be answered in time only keeps others from it.
    """

    max_jobs: int = 64
    max_client_jobs: int = 16
    max_pixels: int = 200_000_000
    max_upload_bytes: int = 256 * 2**20
    max_wait_s: float = 60.0


@dataclass(slots=True)
class _Place:
    """One job's; one that is refused has not been worked for, and tells nothing of time."""

    is_refused: bool = False


_PLACE: ContextVar[_Place | None] = ContextVar("place", default=None)  # of this request


@dataclass(slots=True)
class Admission:
    """What is under way, counted.

    Attributes:
        limits: How much may be.
        clock: Seconds, monotonic.
        jobs: Requests let in.
        pixels: Of their pictures.
        upload_bytes: Of their bodies, and of those still coming.
        is_open: False once the service is stopping.
        shed: How often each limit refused a request, by its name.
    """

    limits: AdmissionLimits = field(default_factory=AdmissionLimits)
    clock: Callable[[], float] = time.monotonic
    jobs: int = 0
    pixels: int = 0
    upload_bytes: int = 0
    is_open: bool = True
    shed: Counter[str] = field(default_factory=Counter)
    _by_client: Counter[str] = field(default_factory=Counter)
    _pixels_of: Counter[str] = field(default_factory=Counter)
    _bytes_of: Counter[str] = field(default_factory=Counter)
    _job_s: float = 0.5  # of wall time between two answers while there is work
    _work: int = 0  # pixels, and what a picture takes however small
    _pixel_s: float = 1e-7  # likewise, of a pixel; a guess that refuses nobody
    _n_pictures: int = 0  # that have told how long one takes
    _block: list[tuple[float, int]] = field(default_factory=list)  # seconds and work of the last
    _variance: float = 0.0  # of the seconds, of a pixel
    _last_answer_at: float = 0.0
    _last_picture_at: float = 0.0

    def check(self, client: str) -> None:
        """Refuse a job that could not be let in now.

        Raises:
            NotReady: The service is stopping.
            QueueFull: It is full, or this client's share is.
        """
        if not self.is_open:
            raise NotReady("The service is stopping; another one takes this request.")
        if self.jobs >= self.limits.max_jobs:
            raise self._full("jobs", self.limits.max_jobs, "jobs are under way")
        if self._by_client[client] >= self.limits.max_client_jobs:
            most = self.limits.max_client_jobs
            raise self._full("client_jobs", most, "jobs of this client are under way")

    @contextmanager
    def job(self, client: str) -> Iterator[None]:
        """Hold a place in the queue.

        Raises:
            NotReady: The service is stopping.
            QueueFull: It is full, or this client's share is.
        """
        self.check(client)
        entered_at, place = self.clock(), _Place()
        _PLACE.set(place)
        self.jobs += 1
        self._by_client[client] += 1
        try:
            yield
        finally:
            self.jobs -= 1
            _take(self._by_client, client, 1)
            if not place.is_refused:
                self._learn(entered_at)

    @contextmanager
    def picture(self, n_pixels: int) -> Iterator[None]:
        """Hold room for a decoded picture of `CLIENT`; there is always some for its first.

        Raises:
            QueueFull: The pictures under way leave no room for it.
        """
        if (refusal := self._refusal(n_pixels)) is not None:
            raise self._full(*refusal)
        client, work = CLIENT.get(), n_pixels + _PIXELS_OF_ANY
        entered_at, is_answered = self.clock(), False
        self.pixels += n_pixels
        self._work += work
        self._pixels_of[client] += n_pixels
        try:
            yield
            is_answered = True
        finally:
            self.pixels -= n_pixels
            self._work -= work
            _take(self._pixels_of, client, n_pixels)
            self._learn_pixels(work, entered_at, is_answered=is_answered)

    def has_room(self, n_pixels: int) -> bool:
        """Say whether a picture of `CLIENT` would be let in now. Never raises."""
        return self._refusal(n_pixels) is None

    def receive(self, n_bytes: int) -> None:
        """Count a part of a body; `forget` it once the request is answered.

        Raises:
            QueueFull: The bodies under way leave no room for it.
        """
        client, most = CLIENT.get(), self.limits.max_upload_bytes
        if self.upload_bytes + n_bytes > most:
            raise self._full("upload_bytes", most, "bytes of uploads are under way")
        share = int(_CLIENT_SHARE * most)
        if self._bytes_of[client] + n_bytes > share:
            raise self._full("client_upload_bytes", share, "bytes of this client are under way")
        self.upload_bytes += n_bytes
        self._bytes_of[client] += n_bytes

    def forget(self, n_bytes: int) -> None:
        """Give back what `receive` counted. Never raises."""
        self.upload_bytes -= n_bytes
        _take(self._bytes_of, CLIENT.get(), n_bytes)

    def retry_after_s(self) -> int:
        """Estimate when what is under way now will be answered, in whole seconds. Never raises."""
        wait_s = max(self.jobs * self._job_s, self._work * self._pixel_s)
        return max(1, min(_LONGEST_WAIT_S, math.ceil(wait_s)))

    def _refusal(self, n_pixels: int) -> tuple[str, int, str] | None:
        """Say which limit a picture meets: its name, what it is, and in words what is full."""
        most, of_client = self.limits.max_pixels, self._pixels_of[CLIENT.get()]
        if self.pixels and self.pixels + n_pixels > most:
            return "pixels", most, "pixels are under way"
        share = int(_CLIENT_SHARE * most)
        if of_client and of_client + n_pixels > share:
            return "client_pixels", share, "pixels of this client are under way"
        work, limit_s = self._work + n_pixels + _PIXELS_OF_ANY, self.limits.max_wait_s
        if self.pixels and self._longest_s(work) > limit_s:
            return "seconds", round(limit_s), "seconds of work are waiting"
        return None

    def _full(self, name: str, limit: int, what: str) -> QueueFull:
        self.shed[name] += 1
        if (place := _PLACE.get()) is not None:
            place.is_refused = True
        wait_s = self.retry_after_s()
        return QueueFull(
            f"{limit:,} {what}, which is the limit; ask again in {wait_s} s.",
            {"limit": name, f"limit_{name}": limit, "retry_after_s": wait_s},
        )

    def _learn(self, entered_at: float) -> None:
        """Remember the time an answer took since the one before, or since it was asked for."""
        now = self.clock()
        took_s = now - max(entered_at, self._last_answer_at)
        self._job_s += _MEMORY * (took_s - self._job_s)
        self._last_answer_at = now

    def _learn_pixels(self, work: int, entered_at: float, *, is_answered: bool) -> None:
        """Likewise for a pixel; a picture that was given up only says that it takes longer."""
        now = self.clock()
        took_s = now - max(entered_at, self._last_picture_at)
        pixel_s = took_s / work
        if is_answered or pixel_s > self._pixel_s:
            self._n_pictures += 1
            memory = _MEMORY if self._n_pictures <= _LEARNERS else _PIXEL_MEMORY
            self._pixel_s += memory * (pixel_s - self._pixel_s)
            self._last_picture_at = now
            self._learn_spread(took_s, work)

    def _learn_spread(self, took_s: float, work: int) -> None:
        """Remember by how much pictures differ from the mean: one of two takes longer than it."""
        self._block.append((took_s, work))
        if len(self._block) < _BLOCK:
            return
        seconds, works = map(sum, zip(*self._block, strict=True))
        self._block.clear()
        if self._n_pictures > _LEARNERS:
            variance = (seconds - self._pixel_s * works) ** 2 / works
            self._variance += _BLOCK_MEMORY * (variance - self._variance)

    def _longest_s(self, work: int) -> float:
        """Estimate the time so much work takes at most, but for one time in a hundred."""
        return self._pixel_s * work + _MARGIN * math.sqrt(self._variance * work)


def _take(counts: Counter[str], client: str, n: int) -> None:
    """Give back, and forget a client that holds nothing."""
    counts[client] -= n
    if not counts[client]:
        del counts[client]
