"""A picture in few colours, as a file: fitted once, or as often as a limit on its bytes wants."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from app.budget import Budget, Weighed
from app.codecs import DecodedPicture
from app.delivery import Delivery, deliver, encoding
from app.errors import BadParameter
from app.jobs import Compute, ElbowJob, FileJob, Outcome, QuantizeJob, WrittenImage
from app.options import CompressOptions
from gpu_kmeans import QuantizedImage
from gpu_kmeans.elbow import curve_ks
from gpu_kmeans.palette import MAX_COLORS

__all__ = ["Compression", "Made"]

Deliver = Callable[[QuantizedImage, int], Awaitable[tuple[Delivery, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A picture in few colours.

    Attributes:
        outcome: It, and what computed it; the times are of all fits. Its indices may be left out,
            see `Service.reduce`.
        file: What goes back.
        encode_ms: Milliseconds all writing took.
    """

    outcome: Outcome[QuantizedImage]
    file: Delivery
    encode_ms: float


@dataclass(slots=True, kw_only=True)
class Compression:
    """One request to compress.

    Attributes:
        picture: What came.
        options: What is asked.
        job: The fit that was asked for.
        compute: See `Service`.
        deliver: Writes a quantized picture with some effort, and says how long that took.
        is_written_at_once: Whoever computes the fit writes its file too.
    """

    picture: DecodedPicture
    options: CompressOptions
    job: QuantizeJob
    compute: Compute
    deliver: Deliver
    is_written_at_once: bool = False
    _fits: dict[int, Outcome[QuantizedImage]] = field(default_factory=dict)
    _files: dict[tuple[int, int], Delivery] = field(default_factory=dict)
    _queue_ms: float = 0.0
    _kmeans_ms: float = 0.0
    _encode_ms: float = 0.0

    async def run(self) -> Made:
        """Fit and write the picture, in fewer colours where `max_bytes` wants it.

        Raises:
            BadParameter: The bytes do not go with another option, or are too few for one colour.
        """
        if self.options.max_bytes is None:
            if self.is_written_at_once:
                return await self._at_once()
            outcome = await self._fit(self.job)
            return self._made(outcome, await self._write(outcome.result, self.options.effort))
        self._check()
        return await self._within(self.options.max_bytes)

    async def _at_once(self) -> Made:
        job = FileJob(
            pixels=self.job.pixels,
            options=self.job.options,
            encoding=encoding(self.picture, self.options),
            on_progress=self.job.on_progress,
        )
        outcome: Outcome[Any] = await self.compute(job)
        written: WrittenImage = outcome.result
        self._queue_ms, self._encode_ms = outcome.queue_ms, written.encode_ms
        self._kmeans_ms = outcome.kmeans_ms - written.encode_ms
        file = deliver(self.picture, written.image, self.options, data=written.data)
        return self._made(replace(outcome, result=written.image), file)

    def _check(self) -> None:
        got = self.options.max_bytes
        if self.options.palette is not None:
            raise BadParameter.of("max_bytes", got, "none beside palette, which is what it is")
        if self.options.k == "elbow":
            raise BadParameter.of("max_bytes", got, "none beside k=elbow, another choice")

    async def _within(self, max_bytes: int) -> Made:
        with_curve = bool(self.job.options["curve"])
        most, notes = MAX_COLORS, tuple[str, ...]()
        if self.options.k != "auto" or self._has_floor():
            outcome = await self._fit(self._job(curve=False))
            file = await self._write(outcome.result, self.options.effort)
            if len(file.data) <= max_bytes:
                return self._made(await self._with_curve(outcome, with_curve), file)
            most = max(1, outcome.result.k - 1)
            notes = self._missed(outcome.result, len(file.data))
        least = min(most, 1 if self.options.reserve is None else self._reserved())
        budget: Budget[tuple[int, Delivery]] = Budget(
            max_bytes=max_bytes, effort=self.options.effort, write=self._weigh
        )
        found = await budget.spend(least, most, self.picture.width * self.picture.height)
        k, file = found.made
        if found.n_bytes > max_bytes:
            n_colors = f"{least} colour{'s' if least > 1 else ''}"
            allowed = f"{found.n_bytes:,} or more: so long is this picture in {n_colors}"
            raise BadParameter.of("max_bytes", max_bytes, allowed)
        outcome = self._fits[k]
        result = outcome.result
        reason = "max_bytes" if result.k_reason == "asked" else result.k_reason
        warnings = (*result.warnings, *notes)
        outcome = replace(outcome, result=replace(result, k_reason=reason, warnings=warnings))
        return self._made(await self._with_curve(outcome, with_curve), file)

    def _has_floor(self) -> bool:
        return self.options.min_psnr is not None or self.options.min_quality is not None

    def _reserved(self) -> int:
        """Count the entries that are reserved, and one for transparency."""
        return len(self.job.options["reserve"]) + int(self.job.pixels.shape[2] > 3)  # noqa: PLR2004

    def _missed(self, wanted: QuantizedImage, n_bytes: int) -> tuple[str, ...]:
        floors = ("min_psnr", "min_quality")
        given = [(name, getattr(self.options, name)) for name in floors]
        asked = " and ".join(f"{name}={value:g}" for name, value in given if value is not None)
        if not asked:
            return ()
        return (f"max_bytes leaves too few colours: {asked} took {wanted.k}, {n_bytes:,} bytes",)

    def _job(self, **options: Any) -> QuantizeJob:
        return replace(self.job, options={**self.job.options, **options})

    async def _weigh(self, k: int, effort: int) -> Weighed[tuple[int, Delivery]]:
        """Write the picture in k colours; nothing is fitted or written twice."""
        if k not in self._fits:
            free = {name: None for name in ("min_psnr", "min_quality") if name in self.job.options}
            self._fits[k] = await self._fit(self._job(k=k, curve=False, **free))
        if (k, effort) not in self._files:
            self._files[k, effort] = await self._write(self._fits[k].result, effort)
        file = self._files[k, effort]
        return Weighed(made=(k, file), n_bytes=len(file.data))

    async def _fit(self, job: QuantizeJob) -> Outcome[QuantizedImage]:
        outcome = await self.compute(job)
        self._queue_ms += outcome.queue_ms
        self._kmeans_ms += outcome.kmeans_ms
        return outcome

    async def _write(self, quantized: QuantizedImage, effort: int) -> Delivery:
        file, encode_ms = await self.deliver(quantized, effort)
        self._encode_ms += encode_ms
        return file

    async def _with_curve(
        self,
        outcome: Outcome[QuantizedImage],
        with_curve: bool,  # noqa: FBT001 - as it was asked
    ) -> Outcome[QuantizedImage]:
        """Compute the curve to the k that was found."""
        if not with_curve:
            return outcome
        ks = curve_ks(outcome.result.k)
        job = ElbowJob(points=self.job.pixels, k_max=max(2, ks[-1]), options={"ks": ks})
        curve = await self.compute(job)
        self._kmeans_ms += curve.kmeans_ms
        return replace(outcome, result=replace(outcome.result, curve=curve.result))

    def _made(self, outcome: Outcome[QuantizedImage], file: Delivery) -> Made:
        outcome = replace(outcome, queue_ms=self._queue_ms, kmeans_ms=self._kmeans_ms)
        return Made(outcome=outcome, file=file, encode_ms=self._encode_ms)
