"""The application, put together: `create_app(settings)`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from fastapi.telemetry import TelemetryConfig

from app.access import ApiKeys
from app.admission import Admission, AdmissionLimits
from app.batcher import Batcher
from app.decoder import Decoder, DecoderLimits
from app.drawer import Drawer
from app.engine import Engine
from app.gate import Gate
from app.heaps import give_back_for_ever
from app.jobs import Compute, Job, pixels_of
from app.observability import Metrics, Observed
from app.problems import add_problem_handlers
from app.results import ResultCache
from app.routes import WEB, router
from app.schemas import Health
from app.service import Service
from app.settings import Settings
from app.shared_pixels import new_array
from app.turns import Turns
from gpu_kmeans import __version__

_NICENESS = 5  # of the engine: whoever answers, decodes or encodes comes first
_EXPECTED = 0.9  # of the deadline: an estimate is wrong by some, and an answer has to be written


def create_app(
    settings: Settings | None = None,
    compute: Compute | None = None,
    telemetry: TelemetryConfig | None = None,
) -> FastAPI:
    """Build the service.

    Args:
        settings: From the environment where none are given.
        compute: What computes jobs; an engine of our own where none is given.
        telemetry: OpenTelemetry as FastAPI takes it; the providers that are set globally serve
            otherwise.

    Returns:
        An ASGI application; it is ready once its engine is warm.

    Raises:
        DeviceUnavailable: The backend named in the settings cannot run here.
    """
    settings = settings or Settings()
    admission = Admission(
        AdmissionLimits(
            max_jobs=settings.max_jobs,
            max_client_jobs=settings.max_client_jobs,
            max_pixels=settings.max_pixels_in_flight,
            max_upload_bytes=settings.max_uploads_bytes,
            max_wait_s=_EXPECTED * settings.compute_timeout_s,
        )
    )
    engine = batcher = None
    if compute is None:
        engine = Engine(settings.backend, processes=settings.engine_processes, niceness=_NICENESS)
        batcher = _batcher(engine, settings)
        compute = batcher.submit
    decoder = Decoder(
        DecoderLimits(
            max_pixels=settings.max_pixels,
            max_memory_bytes=settings.decode_memory_bytes,
            timeout_s=settings.decode_timeout_s,
        ),
        processes=settings.codec_threads,
        room=admission.picture,
        has_room=admission.has_room,
        turns=Turns(settings.max_pixels + settings.max_batch_pixels),  # one large, some small
        array=engine.room_for if engine else new_array,
    )
    results = ResultCache(settings.result_cache_bytes, settings.result_ttl_s)
    drawer = Drawer()
    app = FastAPI(
        title="gpu-kmeans",
        version=__version__,
        summary="k-means for colours and points: fewer colours, the colours, or advice on how many",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(decoder, drawer, engine, batcher),
        telemetry=telemetry,
    )
    app.state.service = Service(
        compute=compute,
        decoder=decoder,
        max_points_bytes=settings.max_points_bytes,
        threads=CapacityLimiter(settings.codec_threads),
        drawer=drawer,
        writes_at_once=engine is not None and engine.has_processes,
    )
    app.state.health = Health(
        device=engine.device if engine else "elsewhere",
        backend=engine.backend if engine else "elsewhere",
        version=__version__,
    )
    app.state.admission = admission
    app.state.is_ready = lambda: admission.is_open and (engine is None or engine.is_ready)
    metrics = Metrics(
        partial(
            _read_numbers,
            app,
            admission=admission,
            decoder=decoder,
            results=results,
            engine=engine,
            batcher=batcher,
        )
    )
    if batcher:
        batcher.on_batch = metrics.batch_pixels.observe
    app.state.results, app.state.metrics = results, metrics
    app.state.compute_timeout_s = settings.compute_timeout_s
    add_problem_handlers(app)
    app.add_middleware(Gate, admission=admission, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(ApiKeys, keys=_keys(settings))
    app.add_middleware(Observed, metrics=metrics)
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=WEB))
    return app


def _batcher(engine: Engine, settings: Settings) -> Batcher[Job[Any]]:
    return Batcher(
        engine.compute,
        pixels_of,
        lanes=engine.lanes,
        ahead=engine.ahead,
        max_batch_jobs=engine.max_batch_jobs,
        max_batch_pixels=settings.max_batch_pixels,
        wait_s=settings.batch_wait_timeout_s,
    )


def _lifespan(
    decoder: Decoder, drawer: Drawer, engine: Engine | None, batcher: Batcher[Job[Any]] | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        """Warm up beside the first requests; close after the last."""
        decoder.warm_up()
        beside = [asyncio.create_task(give_back_for_ever())]
        if engine:
            beside.append(asyncio.create_task(engine.stay_ready()))
        yield
        for task in beside:
            task.cancel()
        if batcher:
            batcher.close()
        if engine:
            engine.close()
        decoder.close()
        drawer.close()

    return lifespan


def _keys(settings: Settings) -> list[str]:
    keys = settings.api_keys.get_secret_value().split(",")
    return [key.strip() for key in keys if key.strip()]


def _read_numbers(
    app: FastAPI,
    *,
    admission: Admission,
    decoder: Decoder,
    results: ResultCache,
    engine: Engine | None,
    batcher: Batcher[Job[Any]] | None,
) -> dict[str, float]:
    """Read what the parts have counted, by the names it is published under."""
    shed = {f"shed_{name}_total": float(n) for name, n in admission.shed.items()}
    return shed | {
        "ready": float(app.state.is_ready()),
        "jobs": admission.jobs,
        "queue_depth": batcher.n_waiting if batcher else 0,
        "pixels_in_flight": admission.pixels,
        "uploads_bytes": admission.upload_bytes,
        "decoder_kills_total": decoder.kills,
        "result_cache_bytes": results.n_bytes,
        "result_cache_hits_total": results.hits,
        "result_cache_misses_total": results.misses,
        "device_memory_bytes": engine.memory_bytes() if engine else 0,
        "device_out_of_memory_total": engine.out_of_memory if engine else 0,
        "jobs_moved_to_cpu_total": engine.moved_to_cpu if engine else 0,
        "engine_process_deaths_total": engine.deaths if engine else 0,
    }
