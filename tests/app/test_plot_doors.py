"""POST /plots/...: the plots of the command over HTTP, with the limits of every other door."""

import time
import weakref
from contextlib import asynccontextmanager

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pictures import encoded, noise
from servers import wait_until

import app.codecs
import app.decoder
import app.plot_jobs
import app.plots
import app.sketches
from app.main import create_app
from app.settings import Settings

POINTS = [[float(x), float(y)] for x in (0, 1, 9, 10) for y in (0, 1, 9, 10)]
PLANE = {"points": POINTS}
PICTURES = ["/plots/before-after", "/plots/cube"]
TABLES = ["/plots/steps", "/plots/trap"]
BEGINS = {"image/png": b"\x89PNG", "image/svg+xml": b"<?xml"}


def asked(path, photo_png):
    """What to send to a door, and little of it."""
    if path == "/plots/trap":
        return {"json": PLANE, "params": {"starts": 5}}
    return {"content": photo_png} if path in PICTURES else {"json": PLANE}


def assert_problem(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code


def svg(client, path, **request):
    response = client.post(path, headers={"Accept": "image/svg+xml"}, **request)
    assert response.status_code == 200, response.text
    return response.text


@pytest.mark.parametrize("path", [*PICTURES, *TABLES])
@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("*/*", "image/png"), ("image/svg+xml", "image/svg+xml"), ("text/html", "image/png")],
)
def test_every_plot_comes_as_the_kind_that_is_preferred(
    client, photo_png, path, accept, media_type
):
    response = client.post(path, headers={"Accept": accept}, **asked(path, photo_png))

    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == media_type
    assert response.headers["vary"] == "Accept"
    assert "kmeans;dur=" in response.headers["server-timing"]
    assert response.content.startswith(BEGINS[media_type])


def test_before_and_after_takes_the_words_of_compress(client, photo_png):
    params = {"k": 5, "format": "gif", "dither": 0, "space": "rgb"}
    answer = client.post("/compress", params=params, content=photo_png).json()

    drawing = svg(client, "/plots/before-after", params=params, content=photo_png)

    assert f"5 colours, {answer['image']['bytes']:,} bytes" in drawing
    assert f"{answer['input']['unique_colors']:,} colours, {len(photo_png):,} bytes" in drawing


def test_an_original_that_is_kept_is_said_to_be(client, photo):
    jpeg = encoded(photo, "JPEG")

    drawing = svg(client, "/plots/before-after?skip_if_larger=true&k=200", content=jpeg)

    assert f"the original is kept, {len(jpeg):,} bytes" in drawing


def test_a_form_serves_as_well_as_a_body(client, photo_png):
    drawing = svg(client, "/plots/cube", data={"k": "6"}, files={"file": photo_png})

    assert "6 centroids" in drawing


def test_members_of_the_points_are_parameters(client):
    in_body = svg(client, "/plots/steps", json={"points": POINTS, "k": 2, "metric": "cityblock"})
    in_query = svg(client, "/plots/steps?k=2&metric=cityblock", json={"points": POINTS})

    assert in_body == in_query
    assert "iteration 1" in in_body


def test_a_point_without_weight_starts_nothing(client):
    body = {"points": [[50, 50], *POINTS], "weights": [0] + [1] * 16, "k": 16}

    drawing = svg(client, "/plots/steps", json=body)

    assert "start: 0" in drawing


def test_the_trap_is_of_points_or_of_a_picture(client, photo_png):
    for request in ({"json": {"points": POINTS}}, {"content": photo_png}):
        assert "Where 7 starts" in svg(client, "/plots/trap?k=3&starts=7", **request)


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("/plots/before-after", "k=0", "k"),
        ("/plots/before-after", "starts=3", "starts"),
        ("/plots/cube", "k=257", "k"),
        ("/plots/cube", "metric=cosine", "metric"),
        ("/plots/cube", "k=3&k=4", "k"),
        ("/plots/steps", "starts=3", "starts"),
        ("/plots/steps", "metric=far", "metric"),
        ("/plots/steps", "p=3", "p"),
        ("/plots/steps", "k=17", "k"),
        ("/plots/trap", "starts=501", "starts"),
        ("/plots/trap", "seed=1", "seed"),
    ],
)
def test_what_a_plot_does_not_take_is_refused(client, photo_png, path, query, parameter):
    body = asked(path, photo_png) | {"params": None}

    response = client.post(f"{path}?{query}", **body)

    assert_problem(response, 422, "bad-parameter")
    assert response.json()["parameter"] == parameter


@pytest.mark.parametrize("path", PICTURES)
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (encoded(noise(60, 60))[:900], 422, "corrupt-image"),
        (b"GIF but no more", 415, "unsupported-format"),
        (b'{"points": [[1, 2]]}', 415, "unsupported-format"),
        (b"", 422, "missing-image"),
    ],
)
def test_what_is_no_picture_is_refused(client, path, body, status, code):
    assert_problem(client.post(path, content=body), status, code)


@pytest.mark.parametrize(
    "body",
    [
        encoded(noise(4, 4)),
        b'{"points": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "k": 2}',
        b'{"points": [[1, 2], [3]]}',
        b'{"points": [[1, 2], [3, 4]], "weights": [0, 0]}',
    ],
    ids=["a picture", "solid", "ragged", "weightless"],
)
def test_steps_are_of_points_in_the_plane(client, body):
    response = client.post(
        "/plots/steps?k=1" if b'"k"' not in body else "/plots/steps", content=body
    )

    assert response.status_code == 422
    assert response.json()["code"] in {"bad-points", "bad-parameter"}


def test_a_trap_of_nothing_visible_is_refused(client):
    nothing = encoded(np.zeros((4, 4, 4), np.uint8))

    assert_problem(client.post("/plots/trap", content=nothing), 422, "bad-points")


@pytest.mark.parametrize("path", [*PICTURES, "/plots/trap"])
def test_no_picture_is_decoded_in_the_process_of_the_server(client, photo_png, path, monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("decoded here")

    for module in (app.codecs, app.codecs.Image):
        monkeypatch.setattr(module, "decode" if module is app.codecs else "open", refuse)

    query = {"k": 2} | ({"starts": 2} if path == "/plots/trap" else {})
    response = client.post(path, params=query, content=photo_png)

    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", ["/plots/cube", "/plots/steps", "/elbow", "/cluster"])
def test_nothing_is_drawn_in_the_server(client, photo_png, path, monkeypatch):
    def refuse(*_arguments):
        raise AssertionError

    for module in (app.plots, app.plots.elbow, app.plots.drawing):
        monkeypatch.setattr(module, "write_figure", refuse)

    svg(client, path, **asked(path, photo_png))


def test_points_that_are_too_many_and_pictures_too_large_are_refused():
    settings = Settings(max_points_bytes=1024, max_pixels=100, max_body_bytes=20_000)
    with TestClient(create_app(settings)) as small:
        for path in TABLES:
            assert_problem(small.post(path, json={"points": POINTS * 20}), 413, "too-large")
        for path in PICTURES:
            picture = encoded(noise(11, 10))
            assert_problem(small.post(path, content=picture), 422, "too-many-pixels")
            assert_problem(small.post(path, content=bytes(20_001)), 413, "too-large")


def test_a_plot_that_takes_too_long_ends_and_frees_its_place():
    app_ = create_app(Settings(compute_timeout_s=0.6))
    rng = np.random.default_rng(0)
    body = {"points": rng.normal(size=(20_000, 2)).round(3).tolist()}
    with TestClient(app_) as hasty:
        assert_problem(
            hasty.post("/plots/trap?k=200&starts=500", json=body), 504, "deadline-exceeded"
        )
        began = time.monotonic()
        while app_.state.admission.jobs and time.monotonic() - began < 30:
            time.sleep(0.05)

        assert app_.state.admission.jobs == 0


def test_a_trap_keeps_no_picture_beyond_the_room_held_for_it(photo_png, monkeypatch):
    application = create_app(Settings())
    admission, decode = application.state.admission, application.state.service.decoder.decoded
    kept, seen = [], []

    @asynccontextmanager
    async def watched(encoded):
        async with decode(encoded) as picture:
            kept.append(weakref.ref(picture.pixels))
            yield picture

    def look(*_arguments, **_keywords):
        wait_until(lambda: all(each() is None for each in kept))  # a thread may still have it
        seen.append((admission.pixels, len(kept)))
        return app.sketches.Starts(k=2, random=np.ones(2), plus=np.ones(2))

    monkeypatch.setattr(app.decoder.Decoder, "decoded", lambda _self, encoded: watched(encoded))
    monkeypatch.setattr(app.plot_jobs, "try_starts", look)
    with TestClient(application) as client:
        assert client.post("/plots/trap?k=2", content=photo_png).status_code == 200

    assert seen == [(0, 1)]


def test_a_get_says_how_to_ask(client):
    response = client.get("/plots/cube")

    assert_problem(response, 405, "method-not-allowed")
    assert "curl -F file=@photo.jpg" in response.json()["detail"]
