"""What can be seen from outside: metrics, ids, log lines, and who may see it."""

import json
import logging
import re

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pictures import encoded, noise
from servers import answer_to, connected, served, wait_until

from app.cli import main
from app.main import create_app
from app.observability import _Lines
from app.settings import Settings

PICTURE = encoded(noise(6, 6))
KEYS = Settings(api_keys="first-key, second-key")


def number(client, name):
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_an_answer_is_counted_by_route_status_and_stage(client):
    requests = 'gpu_kmeans_requests_total{route="/compress",status="200"}'
    stage = 'gpu_kmeans_stage_seconds_count{stage="kmeans"}'
    before = number(client, requests), number(client, stage)

    client.post("/compress?k=2&seed=123", content=PICTURE)

    assert (number(client, requests), number(client, stage)) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(
    "name",
    [
        "gpu_kmeans_ready",
        "gpu_kmeans_jobs",
        "gpu_kmeans_queue_depth",
        "gpu_kmeans_pixels_in_flight",
        "gpu_kmeans_batch_pixels_bucket",
        "gpu_kmeans_decoder_kills_total",
        "gpu_kmeans_engine_process_deaths_total",
        "gpu_kmeans_result_cache_hits_total",
        "gpu_kmeans_device_memory_bytes",
        "gpu_kmeans_device_out_of_memory_total",
        "gpu_kmeans_jobs_moved_to_cpu_total",
    ],
)
def test_what_an_operator_asks_for_is_there(client, name):
    client.post("/compress?k=2", content=PICTURE)

    assert f"\n{name}" in client.get("/metrics").text


def test_what_is_shed_is_counted():
    application = create_app(Settings(max_uploads_bytes=2**20))
    with TestClient(application) as small:
        assert small.post("/compress", content=bytes(2**20 + 1)).status_code == 429

        assert number(small, "gpu_kmeans_shed_upload_bytes_total") == 1


def test_an_unknown_address_makes_no_new_number(client):
    for i in range(3):
        client.get(f"/nothing-{i}")

    assert "nothing" not in client.get("/metrics").text


def test_a_request_keeps_its_id_or_gets_one(client):
    given = client.get("/healthz", headers={"x-request-id": "abc-123"})
    bad = client.get("/healthz", headers={"x-request-id": "no such id, {'a': 1}"})

    assert given.headers["x-request-id"] == "abc-123"
    assert len(bad.headers["x-request-id"]) == 16


@pytest.mark.parametrize("path", ["/", "/healthz", "/nothing", "/compress"])
def test_every_answer_protects_a_browser(client, path):
    headers = client.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_a_log_line_tells_of_the_request_and_nothing_of_the_picture(client, caplog):
    with caplog.at_level(logging.DEBUG):
        client.post(
            "/compress?k=2",
            files={"file": ("holiday.png", PICTURE)},
            headers={"x-request-id": "of-this-line"},
        )
    (record,) = [record for record in caplog.records if record.name == "app.requests"]

    assert record.facts["status"] == 200
    assert record.facts["route"] == "/compress"
    assert "holiday" not in caplog.text


def test_a_line_for_programs_is_json_with_what_went_wrong():
    went_wrong = (KeyError, KeyError("why"), None)
    record = logging.LogRecord("app", logging.ERROR, "", 0, "a %s", ("defect",), went_wrong)
    line = json.loads(_Lines(as_json=True).format(record))

    assert (line["level"], line["message"]) == ("error", "a defect")
    assert "KeyError" in line["exception"]
    assert "request_id" in line


def test_a_defect_has_an_id_and_is_counted():
    async def broken(_job):
        raise RuntimeError

    with TestClient(create_app(Settings(), broken)) as client:
        response = client.post("/compress", content=PICTURE)

        assert (response.status_code, response.json()["code"]) == (500, "internal-error")
        assert response.headers["x-request-id"]
        assert number(client, 'gpu_kmeans_requests_total{route="/compress",status="500"}') == 1


def test_a_request_is_a_span_of_the_tracer_that_is_set():
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with TestClient(create_app(Settings(), telemetry={"tracer_provider": provider})) as client:
        client.post("/compress?k=2", content=PICTURE)

    assert any("/compress" in span.name for span in spans.get_finished_spans())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"x-api-key": "first-key "}, 200),
        ({"x-api-key": "first-key,second-key"}, 401),
        ({"authorization": "Bearer second-key"}, 200),
        ({"authorization": "Basic second-key"}, 401),
        ({"authorization": "bearer first-key"}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/palette?k=2", "/metrics"])
def test_where_keys_are_set_one_of_them_is_needed(path, headers, status):
    with TestClient(create_app(KEYS)) as client:
        if path == "/metrics":
            response = client.get(path, headers=headers)
        else:
            response = client.post(path, headers=headers, content=PICTURE)

    assert response.status_code == status
    if status == 401:
        assert response.json()["code"] == "unauthorized"
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/nothing", "/static", "/results/0", "/docs/"])
def test_what_is_not_said_to_be_open_is_closed(path):
    with TestClient(create_app(KEYS)) as client:
        assert client.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/openapi.json", "/static/page.js"])
def test_a_head_is_answered_as_a_get_would_be(client, path):
    wait_until(lambda: client.get("/readyz").status_code == 200)
    got, head = client.get(path), client.head(path)

    assert head.status_code == got.status_code
    assert head.headers["content-length"] == got.headers["content-length"]


def test_an_engine_that_only_fails_is_not_ready_until_it_computes_again(monkeypatch):
    def broken(*_arguments, **_options):
        raise RuntimeError("the device is gone")

    with TestClient(create_app(Settings()), raise_server_exceptions=False) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        with monkeypatch.context() as patched:
            patched.setattr("app.jobs.quantize", broken)
            statuses = {client.post("/palette?k=2", content=PICTURE).status_code for _ in range(3)}

            assert statuses == {500}
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
        wait_until(lambda: client.get("/readyz").status_code == 200)


def test_an_answer_given_before_there_is_a_request_is_counted_and_told(caplog):
    app = create_app(Settings())
    with served(app, on_refusal=app.state.metrics.refused) as address:
        with caplog.at_level(logging.INFO), connected(address) as connection:
            connection.sendall(b"what?\r\n\r\n")
            raw = answer_to(connection)
        numbers = app.state.metrics.render().decode()

    request_id = re.search(rb"x-request-id: (\w+)", raw)[1].decode()
    (record,) = [r for r in caplog.records if r.name == "app.requests"]
    assert record.facts == {"request_id": request_id, "route": "connection", "status": 400}
    assert 'gpu_kmeans_requests_total{route="connection",status="400"} 1.0' in numbers


@pytest.mark.parametrize("path", ["/", "/healthz", "/docs", "/openapi.json", "/static/page.js"])
def test_health_and_the_page_need_no_key(path):
    with TestClient(create_app(KEYS)) as client:
        assert client.get(path).status_code == 200


def test_the_settings_in_effect_are_printed_and_keys_are_masked(monkeypatch):
    monkeypatch.setenv("GPU_KMEANS_MAX_PIXELS", "1234")
    monkeypatch.setenv("GPU_KMEANS_API_KEYS", "a-secret")
    output = CliRunner().invoke(main, ["config"]).output

    assert "GPU_KMEANS_MAX_PIXELS=1234\n" in output
    assert len(output.splitlines()) == len(Settings.model_fields)
    assert "a-secret" not in output
