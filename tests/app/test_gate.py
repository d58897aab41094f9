"""What is let in to compute, tried with a computation that waits until it is told to go on."""

import asyncio
import itertools
import socket
import threading
import time

import numpy as np
import pytest
from httpx import Client
from pictures import encoded, noise
from servers import connected, one_answer, post, served, status_of, wait_until

from app.jobs import Outcome
from app.main import create_app
from app.settings import Settings
from gpu_kmeans import quantize

PICTURE = encoded(noise(4, 4))
SEEDS = itertools.count()
TIGHT = {"max_jobs": 3, "max_client_jobs": 3}


class Computing:
    """Computes nothing until `go_on` is set, and counts."""

    def __init__(self):
        self.go_on = threading.Event()
        self.begun = self.cancelled = 0

    async def __call__(self, job):
        self.begun += 1
        try:
            while not self.go_on.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        result = quantize(np.asarray(job.pixels), 2, backend="reference")
        return Outcome(result=result, device="cpu", backend="fake")


@pytest.fixture
def computing():
    computing = Computing()
    yield computing
    computing.go_on.set()


@pytest.fixture
def service(computing):
    app = create_app(Settings(**TIGHT), computing)
    with served(app) as address:
        app.address = address
        yield app


def sent(address, n):
    """Open connections with a request each, none like another."""
    connections = [socket.create_connection(address, timeout=20) for _ in range(n)]
    for connection in connections:
        connection.sendall(post(f"/compress?k=2&seed={next(SEEDS)}", PICTURE))
    return connections


def test_a_full_queue_answers_at_once_and_health_goes_on(service, computing):
    waiting = sent(service.address, 3)
    wait_until(lambda: computing.begun == 3)

    with Client(base_url="http://{}:{}".format(*service.address)) as client:
        refused = client.post("/compress", content=PICTURE)
        assert refused.status_code == 429
        assert refused.json()["code"] == "queue-full"
        assert refused.json()["limit_jobs"] == 3
        assert int(refused.headers["retry-after"]) == refused.json()["retry_after_s"] >= 1
        assert client.get("/healthz").status_code == 200
        computing.go_on.set()
        assert [status_of(one_answer(each)) for each in waiting] == [200] * 3
        assert client.post("/compress", content=PICTURE).status_code == 200
    for each in waiting:
        each.close()


def test_a_client_that_leaves_frees_its_place(service, computing):
    for each in sent(service.address, 3):
        wait_until(lambda: computing.begun)
        each.close()

    wait_until(lambda: service.state.admission.jobs == 0)
    assert computing.cancelled == computing.begun
    assert service.state.admission.upload_bytes == 0


def test_a_client_that_leaves_in_the_middle_of_its_body_holds_nothing(service):
    with connected(service.address) as connection:
        connection.sendall(post("/compress", bytes(20_000))[:-10_000])
        wait_until(lambda: service.state.admission.upload_bytes)

    wait_until(lambda: service.state.admission.upload_bytes == 0)


def test_a_body_longer_than_the_room_for_uploads_is_refused(computing):
    settings = Settings(max_uploads_bytes=2**20)
    with served(create_app(settings, computing)) as address, connected(address) as connection:
        connection.sendall(post("/compress", bytes(3 * 2**19)))

        assert status_of(one_answer(connection)) == 429


def test_one_client_cannot_take_the_whole_queue(computing):
    settings = Settings(max_jobs=3, max_client_jobs=1)
    with served(create_app(settings, computing)) as address:
        (first,) = sent(address, 1)
        wait_until(lambda: computing.begun)
        with connected(address) as second:
            second.sendall(post("/compress", PICTURE))

            assert b'"limit":"client_jobs"' in one_answer(second)
        first.close()


def test_a_stopping_service_refuses_and_is_not_ready(service, computing):
    (accepted,) = sent(service.address, 1)
    wait_until(lambda: computing.begun)
    service.state.admission.is_open = False

    with Client(base_url="http://{}:{}".format(*service.address)) as client:
        assert client.post("/compress", content=PICTURE).status_code == 503
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
    computing.go_on.set()
    assert status_of(one_answer(accepted)) == 200
    accepted.close()


def test_many_at_once_are_all_answered(service, computing):
    computing.go_on.set()
    connections = sent(service.address, 15)

    assert {status_of(one_answer(each)) for each in connections} <= {200, 429}
    for each in connections:
        each.close()
    time.sleep(0.05)
    assert service.state.admission.jobs == 0


def test_a_result_that_takes_too_long_is_not_waited_for():
    slow = encoded(noise(300, 300))
    with (
        served(create_app(Settings(compute_timeout_s=0.01))) as address,
        Client(base_url="http://{}:{}".format(*address), timeout=60) as client,
    ):
        late = client.post("/compress?k=200", content=slow)

        assert (late.status_code, late.json()["code"]) == (504, "deadline-exceeded")
        assert late.json()["limit_s"] == 0.01


def test_whatever_keeps_an_answer_the_deadline_holds(computing):
    """Such as others who ask the same: each of them would wait its time, one after the other."""

    class NeverDone:
        async def answer(self, *_question):
            await asyncio.Event().wait()

    app = create_app(Settings(compute_timeout_s=0.01), computing)
    app.state.results = NeverDone()
    with served(app) as address, connected(address) as connection:
        connection.sendall(post("/compress", PICTURE))

        assert status_of(one_answer(connection)) == 504


def test_pictures_for_which_there_is_no_room_are_refused(computing):
    settings = Settings(max_pixels_in_flight=20)
    with served(create_app(settings, computing)) as address:
        (first,) = sent(address, 1)
        wait_until(lambda: computing.begun)
        with connected(address) as second:
            second.sendall(post("/compress", PICTURE))

            assert b'"limit":"pixels"' in one_answer(second)
        computing.go_on.set()
        assert status_of(one_answer(first)) == 200
        first.close()


@pytest.mark.parametrize(
    ("settings", "body", "limit"),
    [
        ({"max_pixels_in_flight": 40}, PICTURE, b'"limit":"client_pixels"'),
        ({"max_uploads_bytes": 2**20}, bytes(2**19 + 1), b'"limit":"client_upload_bytes"'),
    ],
    ids=["pixels", "bytes"],
)
def test_one_client_has_half_of_the_room_at_most(computing, settings, body, limit):
    app = create_app(Settings(**settings), computing)
    with served(app) as address:
        (first,) = sent(address, 1)
        wait_until(lambda: computing.begun)
        with connected(address) as second:
            second.sendall(post("/compress?k=3", body))

            assert limit in one_answer(second)
        first.close()
        wait_until(lambda: not app.state.admission.jobs)
        admission = app.state.admission
        assert not admission._by_client
        assert not admission._pixels_of
        assert not admission._bytes_of


@pytest.mark.parametrize("n_bytes", [len(PICTURE), 100_000], ids=["short", "long"])
@pytest.mark.parametrize("is_busy", [False, True], ids=["at once", "while the first is computed"])
def test_a_client_that_asks_twice_and_leaves_frees_its_place(service, computing, is_busy, n_bytes):
    (connection,) = sent(service.address, 1)
    if is_busy:  # from then on the second request keeps the server from reading
        wait_until(lambda: computing.begun)
    connection.sendall(post("/compress?k=2", PICTURE.ljust(n_bytes)))
    wait_until(lambda: computing.begun)
    connection.close()

    wait_until(lambda: service.state.admission.jobs == 0)
    assert computing.cancelled == computing.begun == 1
