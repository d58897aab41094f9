"""The same service on a Ray cluster: `serve run app.ray_serve:build`.

Two deployments. Ingress replicas are the application of `app.main`, whole: they take requests,
decode, encode and refuse; what they do not do is compute. Engine replicas are the engine of
`app.engine`, one for each GPU or for some processors; Ray Serve finds a free one for each job, adds
some and takes some away. Jobs gather into batches by pixels, as they do in one process.

A job is a pure function of a picture, so one whose engine dies under it is given to another.
Nothing here is needed by one machine: plain `gpu-kmeans serve` is quicker there (docs/scaling.md).
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any, TypeVar, cast

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve import Application
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from app.batcher import Ticket
from app.engine import Engine
from app.errors import NotReady, QueueFull, ServiceError
from app.jobs import Compute, Job, Outcome, pixels_of
from app.main import create_app
from app.settings import Settings

Result = TypeVar("Result")
_TRIES = 3  # of a job, when engines die under it
_HEADROOM = 64  # requests of an ingress replica beyond its jobs: health, pages, and to be refused
_RETRY_AFTER_S = 1
_log = logging.getLogger(__name__)


class Cluster(BaseModel):
    """How much of a cluster to use; the arguments of `build`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ingress_replicas: int = Field(default=1, ge=1)
    """Processes that take requests, decode and encode."""

    ingress_cpus: float = Field(default=1, ge=0)
    """Processors that each of them asks for."""

    min_engines: int = Field(default=1, ge=1)
    """Engines kept ready; a new one takes tens of seconds to start."""

    max_engines: int = Field(default=1, ge=1)
    """Most engines, under load."""

    engine_cpus: int = Field(default=1, ge=1)
    """Processors of an engine, which has one job at a time. More engines of one do more."""

    engine_gpus: float = Field(default=0, ge=0)
    """GPUs of an engine: 1, a part of one, or 0 to compute on the CPU."""

    engine_jobs: int = Field(default=4, ge=1)
    """Jobs an engine may hold: one at work and some to batch. More are kept before it."""

    queued_jobs: int = Field(default=64, ge=0)
    """Jobs an ingress replica keeps for engines that are all full; one more is refused with 429."""


class EngineReplica:
    """An engine and the waiting room in front of it.

    Args:
        settings: Those of the service; the backend, and how jobs gather.
        processors: How many the engine may use.
    """

    async def __init__(self, settings: Settings, processors: int) -> None:  # type: ignore[misc] # Ray's way
        self._engine = Engine(settings.backend, processors=processors)
        batches = self._engine.max_batch_jobs > 1
        self._max_pixels = settings.max_batch_pixels if batches else 1  # else each job by itself

        @serve.batch(  # type: ignore[untyped-decorator]
            max_batch_size=self._max_pixels,
            batch_wait_timeout_s=settings.batch_wait_timeout_s if batches else 0.0,
            batch_size_fn=lambda tickets: sum(ticket.cost for ticket in tickets),
        )
        async def batch(tickets: list[Ticket[Job[Any]]]) -> list[Outcome[Any] | BaseException]:
            return await self._engine.compute(tickets, 1.0)

        self._batch = batch
        await self._engine.warm_up()

    async def compute(self, job: Job[Result]) -> Outcome[Result]:
        """Compute a job in its turn.

        Raises:
            ServiceError: As `Engine.submit`.
        """
        cost = min(pixels_of(job), self._max_pixels)  # a larger one fills a batch
        ticket = Ticket(job, max(1, cost), asyncio.get_running_loop().create_future())
        try:
            outcome = await self._batch(ticket)
        finally:
            ticket.is_wanted = False
        if isinstance(outcome, BaseException):
            raise outcome
        return cast("Outcome[Result]", outcome)

    async def check_health(self) -> None:
        """After failures in a row, compute something; Ray replaces a replica that cannot."""
        if not self._engine.is_ready:
            await self._engine.warm_up()


class IngressReplica:
    """The application, whose jobs go to the engines.

    Args:
        settings: Those of the service.
        engines: Where jobs go.
    """

    def __init__(self, settings: Settings, engines: DeploymentHandle) -> None:
        self._settings, self._engines = settings, engines

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Put the application together, where it runs."""
        return create_app(self._settings, compute_on(self._engines))


def compute_on(engines: DeploymentHandle) -> Compute:
    """Make what computes jobs on a deployment of `EngineReplica`.

    Args:
        engines: The deployment.

    Returns:
        What `create_app` takes. It raises what the engine raised, or:
        QueueFull: All engines are full, and so is the queue before them.
        NotReady: There is no engine, or one after the other died.

    Never raises.
    """

    async def compute(job: Job[Result]) -> Outcome[Result]:
        travelling = replace(job, on_progress=None)  # type: ignore[type-var] # stays here
        work = asyncio.ensure_future(_compute_somewhere(engines, travelling))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is seen
        try:
            # Awaited at a distance: Ray Serve turns a cancellation into an error of its own, which
            # no deadline above would know.
            await asyncio.wait({work})
            return work.result()
        finally:
            work.cancel()  # and with it what an engine does for it

    return compute


async def _compute_somewhere(engines: DeploymentHandle, job: Job[Result]) -> Outcome[Result]:
    for _ in range(_TRIES):
        try:
            return cast("Outcome[Result]", await engines.compute.remote(job))
        except BackPressureError as error:
            raise QueueFull(
                "All engines are at work, and enough is waiting; try again soon.",
                {"retry_after_s": _RETRY_AFTER_S},
            ) from error
        except RayTaskError as error:
            if isinstance(error.cause, ServiceError):  # as it was, not as Ray wraps it
                raise error.cause from error
            raise
        except RayActorError as error:
            _log.warning("an engine died under a job, which is tried again: %s", error)
        except DeploymentUnavailableError as error:
            raise NotReady("There is no engine.") from error
    raise NotReady("One engine after the other died under this job.")


def build(cluster: Cluster) -> Application:
    """Put the deployments together: what `serve run` and `serve deploy` take.

    Args:
        cluster: How much of the cluster to use.

    Returns:
        The application; its settings come from the environment, as those of `gpu-kmeans serve`.

    Raises:
        ValidationError: A setting is out of range.
    """
    settings = Settings()
    autoscaling = {
        "min_replicas": cluster.min_engines,
        "max_replicas": max(cluster.min_engines, cluster.max_engines),
        "target_ongoing_requests": max(1, cluster.engine_jobs // 2),
    }
    engines = serve.deployment(
        name="engine",
        ray_actor_options={"num_cpus": cluster.engine_cpus, "num_gpus": cluster.engine_gpus},
        autoscaling_config=autoscaling,
        max_ongoing_requests=cluster.engine_jobs,
        max_queued_requests=cluster.queued_jobs,
        graceful_shutdown_timeout_s=settings.stop_timeout_s,
    )(EngineReplica).bind(settings, cluster.engine_cpus)
    most = settings.max_jobs + _HEADROOM
    ingress = serve.deployment(
        name="ingress",
        num_replicas=cluster.ingress_replicas,
        ray_actor_options={"num_cpus": cluster.ingress_cpus},
        max_ongoing_requests=most,
        max_queued_requests=most,
        backpressure_config={"status_code": 429, "retry_after_s": _RETRY_AFTER_S},
        graceful_shutdown_timeout_s=settings.stop_timeout_s,
    )(serve.ingress()(IngressReplica))
    return ingress.bind(settings, engines)


def __getattr__(name: str) -> Any:
    """Give `app`, of an unconfigured cluster, to `serve build`, which takes no function."""
    if name == "app":
        return build(Cluster())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
