"""The small parts of the service, each by itself."""

import asyncio
import doctest
import importlib
import inspect
import pkgutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pydantic import ValidationError

import app
from app.accept import preferred
from app.engine import ElbowJob, Engine, QuantizeJob
from app.errors import BadParameter, BadPoints, DeviceUnavailable
from app.options import CompressOptions, ElbowOptions, PaletteOptions, allowed, parse_options
from app.plots import draw_elbow, elbow_figure
from app.schemas import CurveEngine, CurvePoint, ElbowAnswer, PointsInput, Timing
from app.settings import Settings
from gpu_kmeans import elbow, quantize

MODULES = [module.name for module in pkgutil.iter_modules(app.__path__, "app.")]
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

    of_the_file = {"format", "effort", "skip_if_larger"}
    for name in options.model_fields.keys() - of_the_file - {"curve"}:
        assert options.model_fields[name].default == keywords[name].default, name


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


def test_an_engine_computes_in_one_thread_that_is_not_the_caller_s(engine, photo):
    threads = set()

    async def both():
        jobs = [
            QuantizeJob(
                pixels=photo,
                options={"k": k},
                on_progress=lambda _share: threads.add(threading.get_ident()),
            )
            for k in (2, 3)
        ]
        return await asyncio.gather(*map(engine.submit, jobs))

    outcomes = asyncio.run(both())

    assert [outcome.result.k for outcome in outcomes] == [2, 3]
    assert all(outcome.kmeans_ms > 0 for outcome in outcomes)
    assert outcomes[1].queue_ms >= outcomes[0].kmeans_ms * 0.5  # it waited for the first
    assert len(threads) == 1
    assert threading.get_ident() not in threads


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
