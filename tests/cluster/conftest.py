"""What the tests on Ray share: one cluster of this machine, two processors, over real HTTP."""

import os
import socket

import httpx
import pytest

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}

import ray
from ray import serve

from app.ray_serve import Cluster, build

SMALL = Cluster(ingress_cpus=0, min_engines=2, max_engines=2, engine_jobs=1, queued_jobs=2)
NAME = "gpu-kmeans"


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="session")
def cluster():
    """A cluster of this machine, without a dashboard."""
    ray.init(
        num_cpus=8,  # as Ray counts: two for the engines, two for counters, some to read and add
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def service(cluster):  # noqa: ARG001 - it has to be there
    """The service on it, with two engines of one processor each: its address."""
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build(SMALL), name=NAME)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    serve.shutdown()
