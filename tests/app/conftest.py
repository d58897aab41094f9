"""What the tests of the service share: a running application and pictures to send."""

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pictures import encoded
from sklearn.datasets import load_sample_image

import gpu_kmeans.backends.cpu  # noqa: F401 - here, as two threads must not parse code at once
from app.main import create_app
from app.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def _no_lanes_beside():
    """Compute in threads, but where processes are the subject: each takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPU_KMEANS_ENGINE_PROCESSES", "0")
        yield


@pytest.fixture(scope="session")
def client(_no_lanes_beside):
    """The whole service, with its engine; a defect is an answer here, as it is over the wire."""
    with TestClient(create_app(Settings()), raise_server_exceptions=False) as running:
        yield running


@pytest.fixture(scope="session")
def photo():
    """A photograph of 107 x 160 pixels with thousands of colours, uint8 (h, w, 3)."""
    return np.ascontiguousarray(load_sample_image("china.jpg")[::4, ::4])


@pytest.fixture(scope="session")
def photo_png(photo):
    return encoded(photo)
