"""Answers kept for a while, so that the same question is not computed twice.

Kept are answers as JSON, the returned picture within them: in memory, up to a number of bytes, for
a time. What was sent is not kept; a key is a hash of it, of the question and of the version, with a
secret of this process, so nobody can ask whether somebody else has sent a certain picture.
"""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

from anyio import to_thread
from pydantic import BaseModel

from app.schemas import EncodedPicture
from gpu_kmeans import __version__

Answer = TypeVar("Answer", bound=BaseModel)
_WRITTEN_AT_ONCE = 1 << 18  # bytes of a picture: a third of a millisecond
_HASHED_AT_ONCE = 1 << 20  # bytes: a millisecond; more than that is hashed beside the event loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept(Generic[Answer]):
    """An answer and its name.

    Attributes:
        key: Of the question.
        model: What kind of answer it is.
        json: As it is sent.
        until: When it is forgotten, on the cache's clock.
        fresh: As it was computed, by this very request.
    """

    key: str
    model: type[Answer]
    json: bytes
    until: float
    fresh: Answer | None = None

    @property
    def answer(self) -> Answer:
        """Read the answer back."""
        return self.fresh or self.model.model_validate_json(self.json)


@dataclass(slots=True)
class ResultCache:
    """The newest answers.

    Attributes:
        max_bytes: Of all answers together; 0 keeps none.
        ttl_s: How long one is kept, in seconds.
        clock: Seconds, monotonic.
        n_bytes: Kept now.
        hits: Questions answered from here.
        misses: Questions computed.
    """

    max_bytes: int
    ttl_s: float
    clock: Callable[[], float] = time.monotonic
    n_bytes: int = 0
    hits: int = 0
    misses: int = 0
    _pending: "dict[str, asyncio.Future[Kept[Any] | None]]" = field(default_factory=dict)
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _kept: OrderedDict[str, Kept[BaseModel]] = field(default_factory=OrderedDict)

    async def answer(
        self,
        question: str,
        body: bytes,
        model: type[Answer],
        compute: Callable[[], Awaitable[Answer]],
    ) -> Kept[Answer]:
        """Give the answer to a question about a body, computed if it is not kept.

        Args:
            question: Everything but the body that the answer depends on.
            body: What the question is about.
            model: What kind of answer comes.
            compute: Answers it; what it raises is not kept.
        """
        key = await self._key(question, body)
        while (kept := self.get(key)) is None and key in self._pending:
            kept = await asyncio.shield(self._pending[key])  # another request asks the same now
            if kept is not None:
                break
        if kept is not None and kept.model is model:
            self.hits += 1
            return cast("Kept[Answer]", kept)
        self.misses += 1
        with self._announced(key) as pending:
            answer = await compute()
            json = await _as_json(answer)
            kept = Kept(key=key, model=model, json=json, until=self.clock() + self.ttl_s)
            self._keep(kept)
            pending.set_result(kept)
        return replace(cast("Kept[Answer]", kept), fresh=answer)

    @contextmanager
    def _announced(self, key: str) -> Iterator["asyncio.Future[Kept[Any] | None]"]:
        """Let requests that ask the same wait for this one; where nothing is kept, none does."""
        pending = asyncio.get_running_loop().create_future()
        if self.max_bytes:
            self._pending[key] = pending
        try:
            yield pending
        finally:
            self._pending.pop(key, None)
            if not pending.done():
                pending.set_result(None)  # the next one has to compute it itself

    def left_s(self, kept: Kept[Any]) -> int:
        """Say for how many more seconds an answer is kept. Never raises."""
        return max(0, int(kept.until - self.clock()))

    def get(self, key: str) -> Kept[BaseModel] | None:
        """Give a kept answer, if it is still there. Never raises."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until < self.clock():
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def _keep(self, fresh: Kept[BaseModel]) -> None:
        if len(fresh.json) > self.max_bytes // 2:
            return
        self._forget(fresh.key)
        self._kept[fresh.key] = fresh
        self.n_bytes += len(fresh.json)
        while self.n_bytes > self.max_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        self.n_bytes -= len(kept.json) if kept else 0

    async def _key(self, question: str, body: bytes) -> str:
        digest = hashlib.blake2b(key=self._secret, digest_size=24)
        digest.update(f"{__version__}\n{question}\n".encode())
        if len(body) > _HASHED_AT_ONCE:
            await to_thread.run_sync(digest.update, body)
        else:
            digest.update(body)
        return digest.hexdigest()


async def _as_json(answer: BaseModel) -> bytes:
    """Write an answer; one with a large picture in it takes longer than the event loop may."""
    image = getattr(answer, "image", None)
    if isinstance(image, EncodedPicture) and image.bytes <= _WRITTEN_AT_ONCE:
        return answer.model_dump_json().encode()
    return await to_thread.run_sync(lambda: answer.model_dump_json().encode())
