"""Where processes compute they write small files too: the answers are those of a server alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from servers import wait_until

from app.codecs import Limits, decode
from app.delivery import deliver, encoding, takes_no_time
from app.encoders import encode
from app.jobs import FileJob, QuantizeJob, pixels_of
from app.main import create_app
from app.options import CompressOptions
from app.settings import Settings

CPU = torch.device("cpu")
WISHES = [
    "effort=0&curve=false",
    "effort=1",
    "effort=1&prefer=bytes&k=16&order=luminance",
    "effort=0&reserve=ff0000,00ff00&curve=false",
    "effort=1&metadata=keep",
    "effort=1&skip_if_larger=true",
    "effort=2&k=4",
    "effort=0&format=webp",
    "effort=1&max_bytes=3000",
    "effort=0&palette=000000,ffffff,ff8800",
]


@pytest.fixture(scope="module")
def beside():
    """A service whose processes are up."""
    app = create_app(Settings(engine_processes=2, result_cache_bytes=0))
    with TestClient(app) as running:
        service = app.state.service
        assert service.writes_at_once
        wait_until(lambda: running.get("/readyz").status_code == 200)
        yield running


@pytest.fixture(scope="module")
def few_colors():
    """A palette picture, which passes through untouched."""
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8) % 5
    palette = np.random.default_rng(0).integers(0, 255, (5, 3)).astype(np.uint8)
    return encode(indices, palette)


def told(answer):
    document = answer.json()
    assert answer.status_code == 200, document
    timing = document.pop("timing_ms")
    assert set(timing) == {"queue", "decode", "kmeans", "encode"}
    assert all(ms >= 0 for ms in timing.values())
    return document


@pytest.mark.parametrize("wish", WISHES)
def test_an_answer_is_the_same_whoever_writes_the_file(client, beside, photo_png, wish):
    path = f"/compress?{wish}"
    with ThreadPoolExecutor(4) as pool:  # so that they share the processors
        several = list(pool.map(lambda _: beside.post(path, content=photo_png), range(4)))

    alone = told(client.post(path, content=photo_png))
    assert [told(each) for each in several] == [alone] * 4


@pytest.mark.parametrize("wish", ["effort=0", "effort=1&k=3", "effort=1&reserve=ff0000"])
def test_few_colours_are_treated_alike_too(client, beside, few_colors, wish):
    one, other = (
        told(each.post(f"/compress?{wish}", content=few_colors)) for each in (client, beside)
    )

    assert one == other


def test_a_plot_that_shows_the_picture_has_it(client, beside, photo_png):
    path = "/plots/before-after?k=4&effort=0"
    one, other = (each.post(path, content=photo_png) for each in (client, beside))

    assert one.status_code == other.status_code == 200
    assert one.content == other.content


def test_a_broken_parameter_is_told_alike(client, beside, photo_png):
    path = "/compress?effort=0&reserve=nonsense"
    one, other = (each.post(path, content=photo_png) for each in (client, beside))

    assert one.status_code == other.status_code == 422
    assert one.json()["detail"] == other.json()["detail"]


def test_a_picture_and_its_file_are_one_job_of_as_many_pixels(photo):
    fit = QuantizeJob(pixels=photo, options={"k": 4})
    job = FileJob(pixels=photo, options={"k": 4}, encoding={"effort": 0})

    written, image = job.run(CPU, "cpu"), fit.run(CPU, "cpu")

    assert pixels_of(job) == pixels_of(fit) == photo.size // 3
    assert written.data == encode(image.indices, image.palette)
    assert written.image.wcss == image.wcss
    assert written.image.indices.size == 0
    assert written.encode_ms > 0


def test_a_written_file_is_delivered_as_it_is(photo, photo_png):
    picture, options = decode(photo_png, Limits(max_pixels=10**6)), CompressOptions(k=4, effort=1)
    image = QuantizeJob(pixels=photo, options={"k": 4}).run(CPU, "cpu")
    data = encode(image.indices, image.palette, **encoding(picture, options))

    assert deliver(picture, image, options, data=data) == deliver(picture, image, options)


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"effort": 1}, True),
        ({"effort": 2}, False),
        ({"format": "webp", "effort": 0}, False),
        ({"format": "gif", "effort": 0}, False),
    ],
)
def test_only_what_is_written_in_a_few_milliseconds_is_written_at_once(photo_png, wish, expected):
    picture = decode(photo_png, Limits(max_pixels=10**6))

    assert takes_no_time(picture, CompressOptions(**wish)) is expected
