"""The service on Ray: the same answers, no job lost with its engine, 429 where there is no room."""

import asyncio
import io
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ray
from fastapi.testclient import TestClient
from PIL import Image
from ray import serve
from sklearn.datasets import load_sample_image

from app import ray_serve
from app.engine import Engine
from app.errors import BadParameter
from app.jobs import Outcome, QuantizeJob
from app.main import create_app
from app.ray_serve import EngineReplica, compute_on
from app.settings import Settings

NAME = "gpu-kmeans"
PHOTO = np.ascontiguousarray(load_sample_image("china.jpg")[::2, ::2])


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PNG = encoded(PHOTO)
SMALL_PNG = encoded(PHOTO[::8, ::8])


# In one process


@pytest.fixture(autouse=True)
def _without_a_replica_context(monkeypatch):
    """Ray's own local mode has none, and batching asks for one, for a warning only."""
    monkeypatch.setattr(
        "ray.serve.batching._BatchQueue._warn_if_max_batch_size_exceeds_max_ongoing_requests",
        lambda _queue: None,
    )


@pytest.fixture
def engines():
    """Bind an engine replica and run it here, without a cluster."""

    def run(settings=Settings(), replica=EngineReplica):  # noqa: B008 - frozen
        application = serve.deployment(replica).bind(settings, 1)
        return serve.run(application, name="local", _local_testing_mode=True)

    return run


def test_an_engine_replica_computes_what_an_engine_does(engines):
    job = QuantizeJob(pixels=PHOTO, options={"k": 9, "seed": 4})

    async def both():
        return await compute_on(engines())(job), await Engine("auto").submit(job)

    found, expected = asyncio.run(both())
    np.testing.assert_array_equal(found.result.indices, expected.result.indices)
    np.testing.assert_array_equal(found.result.palette, expected.result.palette)
    assert (found.device, found.backend) == (expected.device, expected.backend)


def test_what_an_engine_refuses_comes_back_as_it_was(engines):
    job = QuantizeJob(pixels=PHOTO, options={"k": 999})

    with pytest.raises(BadParameter, match="k=999") as caught:
        asyncio.run(compute_on(engines())(job))

    assert type(caught.value) is BadParameter
    assert caught.value.members["parameter"] == "k"


class Recorder:
    """An engine that takes its time and remembers how jobs came."""

    max_batch_jobs = 64
    batches = tickets = ()

    def __init__(self, backend, processors):
        pass

    async def warm_up(self):
        type(self).batches, type(self).tickets = [], []

    async def compute(self, tickets, _share):
        self.tickets.extend(tickets)
        self.batches.append([ticket.job.pixels.size // 3 for ticket in tickets])
        await asyncio.sleep(0.2)
        return [Outcome(result=None, device="none", backend="none") for _ in tickets]


def test_jobs_gather_by_their_pixels_and_a_large_one_is_alone(engines, monkeypatch):
    monkeypatch.setattr(ray_serve, "Engine", Recorder)
    sizes = [10, 40, 40, 40, 40, 500, 10]

    async def all_at_once():
        compute = compute_on(engines(Settings(max_batch_pixels=100)))
        jobs = [QuantizeJob(pixels=np.zeros((1, n, 3), np.uint8), options={}) for n in sizes]
        await asyncio.gather(*(compute(job) for job in jobs))

    asyncio.run(all_at_once())
    assert sorted(itertools.chain(*Recorder.batches)) == sorted(sizes)
    assert all(sum(batch) <= 100 or batch == [500] for batch in Recorder.batches)
    assert len(Recorder.batches) < len(sizes)


def test_a_deadline_ends_the_waiting_and_the_work(engines, monkeypatch):
    monkeypatch.setattr(ray_serve, "Engine", Recorder)
    compute = compute_on(engines())

    async def too_short():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await compute(QuantizeJob(pixels=PHOTO, options={}))
        await asyncio.sleep(0.2)

    asyncio.run(too_short())
    assert [ticket.is_wanted for ticket in Recorder.tickets] == [False]


class Broken(Recorder):
    """An engine whose device is lost."""

    is_ready = True

    async def compute(self, tickets, _share):
        self.is_ready = False
        return [RuntimeError("the device is lost") for _ in tickets]

    async def warm_up(self):
        if not self.is_ready:
            raise RuntimeError("still lost")


def test_a_replica_that_cannot_compute_any_more_says_so(engines, monkeypatch):
    monkeypatch.setattr(ray_serve, "Engine", Broken)
    handle = engines()
    handle.check_health.remote().result()  # nothing has failed yet

    with pytest.raises(RuntimeError, match="the device is lost"):
        handle.compute.remote(QuantizeJob(pixels=PHOTO, options={})).result()
    with pytest.raises(RuntimeError, match="still lost"):
        handle.check_health.remote().result()


# On a cluster, over HTTP


@pytest.fixture(scope="session")
def plain():
    with TestClient(create_app(Settings())) as client:
        yield client


@pytest.mark.parametrize(
    ("door", "accept"),
    [
        ("/compress?k=16", "image/png"),
        ("/compress?k=40&dither=1&format=webp&seed=3", "image/webp"),
        ("/compress?k=8&format=gif&space=oklab", "image/gif"),
        ("/compress?k=5", "application/json"),
        ("/compress?k=999", "application/json"),
        ("/palette?k=7&format=css", "*/*"),
        ("/elbow?k_max=9", "application/json"),
    ],
)
def test_the_answer_is_that_of_the_plain_server(service, plain, door, accept):
    answers = [
        client.post(door, content=PNG, headers={"Accept": accept}) for client in (service, plain)
    ]

    bodies = [answer.content for answer in answers]
    if answers[0].headers["content-type"].endswith("json"):
        bodies = [json.loads(body) for body in bodies]
        for body in bodies:  # the clock's, all else is ours
            body.pop("timing_ms", None)
            body.pop("fit_ms", None)
            for point in body.get("criteria", {}).values():
                point.pop("fit_ms", None)
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].headers["content-type"] == answers[1].headers["content-type"]
    assert bodies[0] == bodies[1]


def test_points_are_clustered_as_by_the_plain_server(service, plain):
    points = {"points": [[0, 0], [0, 1], [9, 9], [9, 8], [5, 0]], "k": 2}

    one, other = (client.post("/cluster", json=points).json() for client in (service, plain))

    assert one["labels"] == other["labels"]
    assert one["centroids"] == other["centroids"]


def test_it_says_that_it_lives_and_is_ready(service):
    assert service.get("/healthz").json()["status"] == "ok"
    assert service.get("/readyz").status_code == 200
    assert service.get("/-/healthz").text == "success"


def engine_actors():
    names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
    ours = [name for name in names if name.startswith(f"SERVE_REPLICA::{NAME}#engine#")]
    return [ray.get_actor(name, namespace="serve") for name in ours]


def test_an_engine_that_is_killed_under_load_loses_no_request(service):
    def ask(seed):
        return service.post(f"/compress?k=64&seed={seed}", content=PNG).status_code

    victim = engine_actors()[0]
    with ThreadPoolExecutor(2) as clients:
        answers = [clients.submit(ask, seed) for seed in range(100, 124)]
        while sum(answer.done() for answer in answers) < 4:
            time.sleep(0.01)
        ray.kill(victim)
        statuses = [answer.result() for answer in answers]

    assert statuses == [200] * 24


def test_too_much_at_once_is_429_with_a_time_to_wait_and_nothing_else_breaks(service):
    while len(engine_actors()) < 2:  # the one killed above is replaced
        time.sleep(0.1)

    def ask(seed):
        return service.post(f"/compress?k=200&n_init=5&seed={seed}", content=PNG)

    with ThreadPoolExecutor(14) as clients:
        answers = list(clients.map(ask, range(200, 214)))

    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {answer.json()["code"] for answer in refused} == {"queue-full"}


def test_a_request_whose_client_leaves_frees_its_engine(service):
    with pytest.raises(Exception, match="timed out"):
        service.post("/compress?k=256&n_init=100&refine=2&seed=7", content=PNG, timeout=0.5)

    begun = time.monotonic()
    answers = [service.post(f"/palette?k=3&seed={s}", content=SMALL_PNG) for s in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert time.monotonic() - begun < 30  # the other would have taken minutes


def test_an_ingress_replica_that_dies_is_replaced(service):
    names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
    (name,) = [name for name in names if name.startswith(f"SERVE_REPLICA::{NAME}#ingress#")]
    ray.kill(ray.get_actor(name, namespace="serve"))

    end = time.monotonic() + 60
    statuses = []
    while 200 not in statuses and time.monotonic() < end:
        statuses.append(service.post("/palette?k=3&seed=99", content=SMALL_PNG).status_code)
        time.sleep(0.2)

    assert statuses[-1] == 200
