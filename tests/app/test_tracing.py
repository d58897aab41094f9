"""The command of the documents that sends traces, run as it stands there."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from pictures import encoded, noise

DOCUMENT = (Path(__file__).parents[2] / "docs/http-api.md").read_text()
COMMAND = re.search(r"^OTEL_.*opentelemetry-instrument .*$", DOCUMENT, re.MULTILINE)[0]


def spans_in(text):
    """Every object that the console exporter wrote."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while (at := text.find("{", at)) >= 0:
        span, at = decoder.raw_decode(text, at)
        found.append(span)
    return found


def test_the_documented_command_traces_a_request():
    words = shlex.split(COMMAND)
    settings = dict(word.split("=") for word in words if "=" in word)
    _launcher, *command = [word for word in words if "=" not in word]
    folder = Path(sys.executable).parent
    process = subprocess.Popen(
        [folder / "opentelemetry-instrument", *command],
        env=os.environ
        | settings
        | {"GPU_KMEANS_PORT": "0", "GPU_KMEANS_BACKEND": "reference"}
        | {"PATH": f"{folder}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        log = ""
        while not (match := re.search(r"running on (http://[\d.:]+)", log)):
            line = process.stderr.readline()
            assert line, log
            log += line
        answer = httpx.post(f"{match[1]}/compress?k=2", content=encoded(noise(4, 4)), timeout=60)
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)

    assert answer.status_code == 200
    spans = {span["name"]: span for span in spans_in(output)}
    request, endpoint = spans["POST /compress"], spans["fastapi.endpoint"]
    assert request["kind"] == "SpanKind.SERVER"
    assert request["attributes"]["http.response.status_code"] == 200
    assert request["resource"]["attributes"]["service.name"] == "gpu-kmeans"
    assert endpoint["parent_id"] == request["context"]["span_id"]
    assert process.returncode == 0
