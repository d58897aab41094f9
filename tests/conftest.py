"""What every test shares: the devices there are, and how Hypothesis searches."""

import os

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings

# Time limits belong in benchmarks: the first call of a compiled kernel takes seconds.
settings.register_profile(
    "gpu-kmeans",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gpu-kmeans")

# Without a GPU, Triton's kernels run on the CPU, in an interpreter it must be told of.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request):
    """Every device there is here: the CPU always, CUDA where there is one."""
    return torch.device(request.param)


@pytest.fixture
def unchecked_annotations():
    """Call the library as it is installed: bad input meets its own checks, not the test's."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
