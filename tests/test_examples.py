"""Every example runs, is short, and writes its picture."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
COMMAND = Path(sys.executable).with_name("gpu-kmeans")
ALONE = [path for path in EXAMPLES if path.stem != "call_api"]


def name(path):
    return path.stem


def run(path, folder, monkeypatch, *arguments):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("path", ALONE, ids=name)
def test_an_example_writes_the_picture_it_is_named_after(path, tmp_path, monkeypatch, capsys):
    run(path, tmp_path, monkeypatch)

    with Image.open(tmp_path / f"{path.stem}.png") as picture:
        assert min(picture.size) > 200
    assert capsys.readouterr().out


@pytest.mark.parametrize("d", ["1", "2", "40"])
def test_three_blobs_are_found_in_any_dimension(d, tmp_path, monkeypatch, capsys):
    run(ROOT / "examples/three_blobs.py", tmp_path, monkeypatch, d)

    share = float(re.search(r"([\d.]+)% where they came from", capsys.readouterr().out)[1])
    assert share > 95


def test_the_api_is_called_over_http(tmp_path, monkeypatch, capsys):
    arguments = [COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        said = iter(process.stderr.readline, "")
        url = next(m[0] for line in said if (m := re.search(r"http://127\.0\.0\.1:\d+", line)))
        try:
            run(ROOT / "examples/call_api.py", tmp_path, monkeypatch, url)
        finally:
            process.terminate()
            process.stderr.read()

    printed = capsys.readouterr().out
    assert "422 bad-parameter" in printed
    assert "labels: [" in printed
    assert (tmp_path / "call_api.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_an_example_is_under_forty_lines(path):
    assert len(path.read_text().splitlines()) < 40


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_an_example_has_its_picture_in_the_documents(path):
    assert (ROOT / f"docs/images/{path.stem}.png").exists()
