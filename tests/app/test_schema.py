"""The service does what its own description says, whatever is asked: all checks of schemathesis."""

from dataclasses import replace

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pictures import encoded, noise
from schemathesis.specs.openapi.checks import positive_data_acceptance
from servers import QUICK, served, wait_until

from app.codecs import MEDIA_TYPES
from app.main import create_app
from app.settings import Settings

PICTURES = [encoded(noise(5, 4)), encoded(noise(4, 5, 4)), encoded(noise(8, 8), "JPEG"), b"none"]
EXCLUDED = [
    # No schema says which bytes are a picture, nor that k is at most the number of points.
    positive_data_acceptance,
]
for media_type in MEDIA_TYPES.values():
    schemathesis.openapi.media_type(media_type, st.sampled_from(PICTURES))
APP = create_app(Settings(max_client_jobs=64))
schema = schemathesis.openapi.from_dict(APP.openapi())


@pytest.fixture(scope="module")
def base_url():
    with served(APP, replace(QUICK, header_timeout_s=10.0, grace_s=10.0)) as address:
        wait_until(APP.state.is_ready, seconds=120)  # 503 before that is as described
        yield "http://{}:{}".format(*address)


@schema.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.function_scoped_fixture,
    ],
)
def test_every_door_answers_as_it_is_described(case, base_url):
    case.call_and_validate(base_url=base_url, excluded_checks=EXCLUDED, timeout=60)
