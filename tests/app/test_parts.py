"""The small parts of the service, each by itself."""

import asyncio
import doctest
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import app
from app.accept import preferred
from app.batcher import Ticket
from app.engine import Engine
from app.errors import BadParameter, BadPoints, DeviceUnavailable, OutOfMemory
from app.jobs import ClusterJob, ElbowJob, QuantizeJob
from app.options import CompressOptions, ElbowOptions, PaletteOptions, allowed, parse_options
from app.plots import draw_elbow, elbow_figure
from app.preferences import PREFERENCES
from app.preferences import preferred as preferred_keywords
from app.schemas import CurveEngine, CurvePoint, ElbowAnswer, PointsInput, Timing
from app.settings import Settings
from gpu_kmeans import elbow, quantize, quantize_batch

MODULES = [
    module.name
    for module in pkgutil.iter_modules(app.__path__, "app.")
    if not module.name.startswith("app.ray_")  # they import an extra; make test-ray
]
JSON, SVG, PNG = "application/json", "image/svg+xml", "image/png"


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_are_true(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("image/png", PNG),
        ("image/*", SVG),
        ("image/svg+xml;q=0.5, image/png;q=0.9", PNG),
        ("image/png;q=0.5, */*", JSON),
        ("image/png, application/json", JSON),
        ("application/json;q=0.1, image/png;q=0.2", PNG),
        ("text/html", JSON),
        ("image/png;q=x", JSON),
        ("image/png;q=0", JSON),
        (";;,,", JSON),
    ],
)
def test_the_form_the_caller_would_rather_have_is_chosen(accept, wanted):
    assert preferred(accept, [JSON, SVG, PNG]) == wanted


@pytest.mark.parametrize(
    ("options", "function"),
    [(CompressOptions, quantize), (PaletteOptions, quantize)],
)
def test_options_are_the_keywords_of_python_with_their_defaults(options, function):
    keywords = inspect.signature(function).parameters

    of_the_file = {"format", "effort", "skip_if_larger", "max_bytes", "metadata"}
    preferred = {"prefer", "space", "dither", "thrift", "solid"}
    not_compared = of_the_file | {"curve"} | (preferred if options is CompressOptions else set())
    for name in options.model_fields.keys() - not_compared:
        assert options.model_fields[name].default == keywords[name].default, name


@pytest.mark.parametrize(
    ("given", "space", "dither", "thrift", "solid"),
    [
        ("", "oklab", 0.6, 0.0, True),
        ("prefer=looks", "oklab", 0.6, 0.0, True),
        ("prefer=bytes", "oklab", 0.0, PREFERENCES["bytes"].thrift, True),
        ("dither=0", "oklab", 0.0, 0.0, False),
        ("thrift=0.5", "oklab", 0.0, 0.5, True),
        ("space=rgb", "rgb", 0.6, 0.0, True),
        ("space=rgb dither=0", "rgb", 0.0, 0.0, False),
        ("space=rgb dither=0 solid=true", "rgb", 0.0, 0.0, True),
        ("solid=false", "oklab", 0.6, 0.0, False),
        ("prefer=bytes dither=1", "oklab", 1.0, 0.0, True),
        ("prefer=bytes thrift=0", "oklab", 0.0, 0.0, False),
        ("prefer=bytes thrift=3", "oklab", 0.0, 3.0, True),
        ("k=auto", "rgb", 0.0, 0.0, False),
        ("k=auto prefer=bytes", "rgb", 0.0, 0.0, False),
        ("k=auto dither=0.5", "rgb", 0.5, 0.0, False),
        ("min_psnr=30", "rgb", 0.0, 0.0, False),
        ("k=40 min_psnr=30", "rgb", 0.0, 0.0, False),
        ("min_quality=60", "oklab", 0.6, 0.0, True),
        ("max_bytes=9000", "oklab", 0.6, 0.0, True),
    ],
)
def test_what_is_not_given_is_what_is_preferred(given, space, dither, thrift, solid):
    options = parse_options(CompressOptions, [pair.split("=") for pair in given.split()])

    chosen = preferred_keywords(options)

    assert chosen == {"space": space, "dither": dither, "thrift": thrift, "solid": solid}


@pytest.mark.parametrize(
    ("given", "effort"),
    [
        ("", 1),
        ("prefer=bytes", 2),
        ("prefer=bytes format=png", 2),
        ("prefer=bytes format=webp", 1),
        ("prefer=bytes effort=0", 0),
        ("thrift=1", 1),
    ],
)
def test_who_prefers_bytes_gets_more_effort(given, effort):
    options = parse_options(CompressOptions, [pair.split("=") for pair in given.split()])

    assert options.effort == effort


def test_the_end_of_the_curve_is_that_of_python():
    default = inspect.signature(elbow).parameters["k_max"].default

    assert ElbowOptions().k_max == default


@pytest.mark.parametrize("options", [CompressOptions, ElbowOptions, PaletteOptions])
def test_every_option_says_what_it_means_and_what_it_takes(options):
    for name, field in options.model_fields.items():
        assert field.description, name
        assert allowed(options, name), name


def test_only_what_was_given_counts_as_given():
    assert parse_options(ElbowOptions, [("k_max", "7")]).model_fields_set == {"k_max"}


@pytest.mark.parametrize("init", ["k-means++", "k-means  "])
def test_a_plus_that_arrives_as_a_space_is_a_plus(init):
    assert parse_options(ElbowOptions, [("init", init)]).init == "k-means++"


@pytest.mark.parametrize("setting", [{"port": 70_000}, {"backend": "tpu"}, {"max_pixels": 10**9}])
def test_a_setting_out_of_bounds_is_refused(setting):
    with pytest.raises(ValidationError):
        Settings(**setting)


def test_a_setting_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPU_KMEANS_MAX_PIXELS", "1234")

    assert Settings().max_pixels == 1234


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    engine.close()


def test_an_engine_computes_in_threads_of_its_own(engine, photo):
    threads = set()

    async def many():
        jobs = [
            QuantizeJob(
                pixels=photo,
                options={"k": k},
                on_progress=lambda _share: threads.add(threading.get_ident()),
            )
            for k in (2, 3, 4, 5)
        ]
        return await asyncio.gather(*map(engine.submit, jobs))

    outcomes = asyncio.run(many())

    assert [outcome.result.k for outcome in outcomes] == [2, 3, 4, 5]
    assert all(outcome.kmeans_ms > 0 for outcome in outcomes)
    assert 1 <= len(threads) <= engine.lanes
    assert threading.get_ident() not in threads


def test_who_is_ready_has_compiled_what_is_asked_for_by_default(engine, monkeypatch):
    computed = []
    submit = engine.submit
    monkeypatch.setattr(engine, "submit", lambda job: computed.append(job) or submit(job))

    asyncio.run(engine.warm_up())

    pictures = [job for job in computed if isinstance(job, QuantizeJob)]
    asked = preferred_keywords(CompressOptions()).items()
    channels = {job.pixels.shape[2] for job in pictures if asked <= job.options.items()}
    assert channels == {3, 4}
    assert any(job.options.get("curve") for job in pictures)
    assert any(isinstance(job, ClusterJob) for job in computed)


def test_a_photograph_needs_no_kernel_that_was_not_there_when_ready():
    """In a process of its own, where nothing is loaded yet; each kernel knows what it has."""
    program = """
import asyncio, sys
import numpy as np
from sklearn.datasets import load_sample_image
from app.engine import Engine
from app.jobs import QuantizeJob
from app.options import CompressOptions
from app.preferences import preferred

def there():
    kernels = [vars(m) for name, m in list(sys.modules.items()) if name.startswith("gpu_kmeans.")]
    found = {id(f): f for names in kernels for f in names.values() if hasattr(f, "signatures")}
    return {(f.py_func.__name__, s) for f in found.values() for s in f.signatures}

async def main():
    engine = Engine()
    await engine.warm_up()
    ready = there()
    photo = np.ascontiguousarray(load_sample_image("china.jpg"))
    clear = np.dstack([photo, photo[..., :1]])
    wishes = [{}, preferred(CompressOptions()), preferred(CompressOptions(prefer="bytes"))]
    for pixels in (photo, clear, photo[::8, ::8].copy()):
        for wish in wishes:
            options = {"k": 64, "curve": True, **wish}
            await engine.submit(QuantizeJob(pixels=pixels, options=options))
    print(len(ready) > 20, sorted({name for name, _ in there() - ready}))
    engine.close()

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert done.stdout == "True []\n"


def test_a_result_is_the_same_with_any_share_of_the_processors(engine, photo):
    async def computed(share):
        job = QuantizeJob(pixels=photo, options={"k": 16})
        ticket = Ticket(job, 1, asyncio.get_running_loop().create_future())
        (outcome,) = await engine.compute([ticket], share)
        return outcome.result

    some, every = asyncio.run(computed(0.01)), asyncio.run(computed(1.0))

    assert some.wcss == every.wcss
    assert np.array_equal(some.indices, every.indices)


def test_a_job_that_nobody_wants_ends_at_its_next_step(engine, photo):
    async def computed():
        ticket = Ticket(
            QuantizeJob(pixels=photo, options={"k": 64}),
            1,
            asyncio.get_running_loop().create_future(),
            is_wanted=False,
        )
        (outcome,) = await engine.compute([ticket], 1.0)
        return outcome

    assert type(asyncio.run(computed())).__name__ == "UnwantedError"


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_a_job_that_finds_no_room_is_tried_once_more(engine, photo, monkeypatch, error):
    tries = []

    def run_out_once(*arguments, **options):
        tries.append(1)
        if len(tries) == 1:
            raise error
        return quantize(*arguments, **options)

    monkeypatch.setattr("app.jobs.quantize", run_out_once)
    outcome = asyncio.run(engine.submit(QuantizeJob(pixels=photo, options={"k": 2})))

    assert outcome.result.k == 2
    assert len(tries) == 2


@pytest.fixture
def small_gpu(engine, monkeypatch):
    """An engine that believes in a GPU on which `room[0]` pictures fit; it computes on the CPU."""
    room = [2]

    def fits(count, backend):
        if backend == "cuda" and count > room[0]:
            raise torch.OutOfMemoryError
        return "cpu"

    def one(pixels, *, backend, **options):
        return quantize(pixels, backend=fits(1, backend), **options)

    def many(images, *, backend, **options):
        return quantize_batch(images, backend=fits(len(images), backend), **options)

    monkeypatch.setattr("app.jobs.quantize", one)
    monkeypatch.setattr("app.together.quantize_batch", many)
    for module in ("together", "jobs"):
        monkeypatch.setattr(f"app.{module}.to_device", lambda array, _: array)
    monkeypatch.setattr("app.engine.make_room", lambda _: None)
    engine._device, engine.device, engine.backend = torch.device("cuda"), "cuda", "cuda"
    engine.max_batch_jobs = 8
    return engine, room


async def batch_of(engine, jobs):
    loop = asyncio.get_running_loop()
    return await engine.compute([Ticket(job, 1, loop.create_future()) for job in jobs], 1.0)


def test_a_batch_that_finds_no_room_is_halved_and_stays_on_the_device(small_gpu, photo):
    engine, _ = small_gpu
    jobs = [QuantizeJob(pixels=photo[: 9 + i], options={"k": 3}) for i in range(4)]

    outcomes = asyncio.run(batch_of(engine, jobs))

    assert [outcome.device for outcome in outcomes] == ["cuda"] * 4
    assert [outcome.result.indices.shape[0] for outcome in outcomes] == [9, 10, 11, 12]
    assert (engine.out_of_memory, engine.moved_to_cpu) == (1, 0)


def test_what_fits_in_no_half_is_computed_on_the_cpu_and_says_so(small_gpu, photo):
    engine, room = small_gpu
    room[0] = 0
    jobs = [QuantizeJob(pixels=photo, options={"k": 3}) for _ in range(3)]

    outcomes = asyncio.run(batch_of(engine, jobs))

    assert [(outcome.device, outcome.backend) for outcome in outcomes] == [("cpu", "cpu")] * 3
    assert all("cuda had no room" in outcome.warnings[0] for outcome in outcomes)
    assert engine.moved_to_cpu == 3


def test_only_pictures_that_want_the_same_are_computed_together(small_gpu, photo, monkeypatch):
    engine, _ = small_gpu
    sizes = []

    def many(images, **options):
        sizes.append(len(images))
        return quantize_batch(images, **(options | {"backend": "cpu"}))

    monkeypatch.setattr("app.together.quantize_batch", many)
    wishes = [{"k": 2}, {"k": 3}, {"k": 2}, {"k": 1000}]
    jobs = [QuantizeJob(pixels=photo, options=wish) for wish in wishes]

    outcomes = asyncio.run(batch_of(engine, jobs))

    assert sizes == [2]
    assert [outcome.result.k for outcome in outcomes[:3]] == [2, 3, 2]
    assert isinstance(outcomes[3], BadParameter)


def test_a_batch_goes_on_while_one_of_it_is_wanted(small_gpu, photo):
    engine, _ = small_gpu

    async def with_wanted(*wanted):
        loop = asyncio.get_running_loop()
        job = QuantizeJob(pixels=photo, options={"k": 30})
        tickets = [Ticket(job, 1, loop.create_future(), is_wanted=is_so) for is_so in wanted]
        return await engine.compute(tickets, 1.0)

    assert asyncio.run(with_wanted(False, True))[1].result.k == 30
    nobody = asyncio.run(with_wanted(False, False))
    assert {type(error).__name__ for error in nobody} == {"UnwantedError"}


def test_a_job_that_never_finds_room_is_refused_and_the_engine_goes_on(engine, photo, monkeypatch):
    def run_out(*_arguments, **_options):
        raise MemoryError

    job = QuantizeJob(pixels=photo, options={"k": 2})
    with monkeypatch.context() as patched:
        patched.setattr("app.jobs.quantize", run_out)
        with pytest.raises(OutOfMemory):
            asyncio.run(engine.submit(job))

    assert asyncio.run(engine.submit(job)).result.k == 2


def test_a_job_that_fails_fails_alone(engine, photo):
    async def both():
        jobs = [QuantizeJob(pixels=photo, options={"k": k}) for k in (1000, 3)]
        return await asyncio.gather(*map(engine.submit, jobs), return_exceptions=True)

    bad, good = asyncio.run(both())

    assert isinstance(bad, BadParameter)
    assert bad.members["parameter"] == "k"
    assert good.result.k == 3


def test_points_the_library_refuses_are_the_caller_s_fault(engine):
    job = ElbowJob(points=np.array([[np.nan]]), k_max=2)

    with pytest.raises(BadPoints):
        asyncio.run(engine.submit(job))


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
def test_an_engine_gives_way_to_whoever_answers(photo):
    polite, found = Engine(niceness=5), set()

    def look(_share):
        found.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    asyncio.run(polite.submit(QuantizeJob(pixels=photo, options={"k": 2}, on_progress=look)))

    assert found == {os.getpriority(os.PRIO_PROCESS, 0) + 5}
    polite.close()


def test_a_backend_that_cannot_run_here_is_no_engine(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    with pytest.raises(DeviceUnavailable):
        Engine("cuda")


def test_an_engine_takes_the_backend_it_is_told_to():
    engine = Engine("reference")

    outcome = asyncio.run(engine.submit(ElbowJob(points=np.eye(3), k_max=2)))

    assert (outcome.backend, outcome.device) == ("reference", "cpu")
    engine.close()


def answer_with(knee):
    return ElbowAnswer(
        input=PointsInput(points=9, dimensions=2),
        curve=[CurvePoint(k=k, wcss=100.0 / k) for k in range(1, 8)],
        knee=knee,
        criteria={},
        fit_ms=[float(k) for k in range(1, 8)],
        engine=CurveEngine(device="cpu", backend="cpu", version="0"),
        timing_ms=Timing(queue=0, decode=0, kmeans=0, encode=0),
        warnings=(),
    )


def test_the_knee_is_marked_where_there_is_one():
    texts = [
        [text.get_text() for text in elbow_figure(answer_with(knee)).axes[0].texts]
        for knee in (3, None)
    ]

    assert texts == [["knee at k = 3"], []]


@pytest.mark.parametrize("plot_format", ["svg", "png"])
def test_the_same_curve_gives_the_same_bytes_from_any_thread(plot_format):
    with ThreadPoolExecutor(4) as pool:
        drawings = list(pool.map(lambda _: draw_elbow(answer_with(3), plot_format), range(4)))

    assert len(set(drawings)) == 1
