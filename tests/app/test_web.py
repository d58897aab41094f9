"""The pages and the API's description: from our own files alone, and true."""

import hashlib
import re
import time

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.options import CompressOptions, ElbowOptions, PaletteOptions
from app.routes import WEB
from app.settings import Settings

VENDOR = WEB / "vendor"
SVG_NAMESPACE = "http://www.w3.org/2000/svg"  # a name, not an address
PATIENCE_S = 120  # compiling the kernels takes a while
OWN_FILES = [path for path in WEB.iterdir() if path.is_file()]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_every_file_a_page_asks_for_is_ours_and_there(client, path):
    page = client.get(path)

    links = re.findall(r'(?:src|href|action)="([^"]+)"', page.text)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert links
    assert all(link.startswith(("/", "data:", "#")) and link[:2] != "//" for link in links)
    for link in links:
        assert not link.startswith("/") or client.get(link).status_code == 200


def test_the_page_may_load_nothing_but_ours(client):
    policy = client.get("/").headers["content-security-policy"]

    sources = {source for rule in policy.split("; ") for source in rule.split()[1:]}
    assert policy.startswith("default-src 'none'")
    assert sources == {"'none'", "'self'", "blob:", "data:"}


def test_the_page_and_its_server_agree_about_the_defaults():
    listed = re.search(r"DEFAULTS = {(.*)}", (WEB / "controls.js").read_text())[1]
    shown = dict(re.findall(r'(\w+): "([^"]*)"', listed))
    k = re.search(r'id="k-number".* value="(\d+)"', (WEB / "index.html").read_text())[1]

    ours = {name: getattr(CompressOptions(), name) for name in [*shown, "k"]}
    assert {**shown, "k": k} == {
        name: f"{value:g}" if isinstance(value, float) else str(value).lower()
        for name, value in ours.items()
    }


def test_the_page_stays_small():
    served = [path for path in WEB.rglob("*") if path.is_file() and path.parent != VENDOR]

    assert sum(path.stat().st_size for path in served) < 150_000


@pytest.mark.parametrize("path", OWN_FILES, ids=lambda path: path.name)
def test_no_file_of_ours_reaches_out(path):
    outside = [
        url
        for url in re.findall(r"https?://[^\s'\"<]+", path.read_text())
        if "127.0.0.1" not in url and url != SVG_NAMESPACE
    ]

    assert outside == []


def test_the_description_asks_nobody_to_validate_it():
    assert "validatorUrl: null" in (WEB / "docs.js").read_text()


def test_the_vendored_files_are_those_that_were_published():
    sums = dict(reversed(line.split()) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())

    vendored = {path.name for path in VENDOR.iterdir()} - {"README.md", "SHA256SUMS"}
    assert sums.keys() == vendored
    for name, checksum in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == checksum


def test_every_vendored_licence_is_there():
    assert "Apache License" in (VENDOR / "swagger-ui.LICENSE").read_text()
    assert "LICENSE" in (VENDOR / "README.md").read_text()


@pytest.mark.parametrize(
    ("path", "options"),
    [("/compress", CompressOptions), ("/elbow", ElbowOptions), ("/palette", PaletteOptions)],
)
def test_the_description_has_every_parameter_and_answer_of_a_door(client, path, options):
    operation = client.get("/openapi.json").json()["paths"][path]["post"]

    named = [parameter["name"] for parameter in operation["parameters"]]
    assert named == list(options.model_fields)
    assert {"200", "413", "415", "422", "500", "503"} <= operation["responses"].keys()
    assert "application/problem+json" in operation["responses"]["422"]["content"]
    assert "multipart/form-data" in operation["requestBody"]["content"]


def test_health_says_what_computes(client):
    health = client.get("/healthz").json()

    assert health["status"] == "ok"
    assert health["device"]
    assert health["backend"] in {"reference", "cpu", "cuda"}


def test_a_service_without_an_engine_of_its_own_is_ready_at_once():
    async def nobody(_job):
        raise NotImplementedError

    with TestClient(create_app(Settings(), nobody)) as client:
        assert client.get("/readyz").status_code == 200


def test_a_service_is_not_ready_before_its_engine_is_warm():
    application = create_app(Settings())
    client = TestClient(application)  # not entered: the engine is never started

    response = client.get("/readyz")

    assert (response.status_code, response.json()["code"]) == (503, "not-ready")
    assert client.get("/healthz").status_code == 200


def test_a_service_becomes_ready(client):
    deadline = time.monotonic() + PATIENCE_S
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert client.get("/readyz").json() == client.get("/healthz").json()
