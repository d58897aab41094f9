"""The documents tell the truth: their code runs, their commands exist, their pictures are there."""

import argparse
import doctest
import itertools
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from PIL import Image
from sklearn.datasets import load_sample_image

from app.cli import main
from app.errors import TABLE
from app.main import create_app
from app.options import ClusterOptions, CompressOptions, ElbowOptions, PaletteOptions
from app.schemas import (
    ClusterAnswer,
    CompressAnswer,
    CountedPictureInput,
    CurveCriterion,
    ElbowAnswer,
    EncodedPicture,
    FitEngine,
    PaletteEntry,
    Timing,
)
from app.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
HTTP_API = (ROOT / "docs/http-api.md").read_text()
SETTINGS = (ROOT / "docs/settings.md").read_text()
PROMISES = (ROOT / "docs/promises.md").read_text()
FOLDERS = [".ci", "app", "benchmarks", "deploy", "docs", "examples", "gpu_kmeans", "tests"]
NESTED = [EncodedPicture, CountedPictureInput, PaletteEntry, FitEngine, Timing]
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
LINK = re.compile(r"(?:\]\(|src=\")(?!https?:|#)([^)\"#]+)")


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def canonical(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def blocks(language: str) -> list:
    """Every fenced block of a language, with the document and the line it stands on as its id."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        for match in FENCE.finditer(text):
            if match["language"] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(match["code"], id=f"{short(path)}:{line}"))
    return found


def shell_lines(beginning: str) -> list[str]:
    """Every line of a shell block that begins so, once."""
    lines = [line for block in blocks("sh") for line in block.values[0].splitlines()]
    return sorted({line for line in lines if line.startswith(beginning)})


def curl(arguments: list[str]):
    """Send what curl would send; no server is needed for that."""
    parser = argparse.ArgumentParser()
    for flag in ("-F", "--data-binary", "--json", "-H", "-o"):
        parser.add_argument(flag)
    parser.add_argument("url")
    given = parser.parse_args(arguments)
    headers = dict([given.H.split(": ")]) if given.H else {}
    url = given.url.removeprefix("http://127.0.0.1:8000")
    name, _, source = (given.F or given.data_binary or "").rpartition("@")
    body = Path(source).read_bytes() if source else (given.json or "").encode()
    content = {"files": {name.removesuffix("="): body}} if given.F else {"content": body}
    with TestClient(create_app()) as client:
        return client.post(url, headers=headers, **content)


def our_text() -> dict[str, str]:
    """Every text file of our own, by its path; vendored files are others' words."""
    paths = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    paths += [path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*") if path.is_file()]
    ours = [path for path in paths if not {"vendor", "__pycache__"} & set(path.parts)]
    return {
        short(path): path.read_text(errors="replace")
        for path in ours
        if b"\0" not in path.read_bytes()[:8192]
    }


@pytest.fixture
def folder_with_a_photo(tmp_path, monkeypatch):
    """The working directory of a reader: photo.jpg, a folder of pictures, a palette, points."""
    photo = Image.fromarray(load_sample_image("china.jpg"))
    photo.resize((320, 214)).save(tmp_path / "photo.jpg", quality=92)
    (tmp_path / "pictures").mkdir()
    photo.resize((32, 21)).save(tmp_path / "pictures" / "photo.png")
    (tmp_path / "points.csv").write_text("x,y\n0,0\n1,0\n9,9\n8,9\n-7,5\n")
    (tmp_path / "shared.hex").write_text("000000\nffffff\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("code", blocks("python"))
@pytest.mark.usefixtures("folder_with_a_photo")
def test_python_in_a_document_runs(code):
    exec(compile(code, "document", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own documents


@pytest.mark.parametrize("path", DOCUMENTS, ids=short)
@pytest.mark.usefixtures("folder_with_a_photo")
def test_a_session_in_a_document_answers_as_it_says(path):
    blocks = [match["code"] for match in FENCE.finditer(path.read_text())]
    session = "\n".join(code for code in blocks if code.startswith(">>>"))
    example = doctest.DocTestParser().get_doctest(session, {}, path.name, str(path), 0)
    complaints: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=complaints.append)

    assert not complaints, "".join(complaints)


@pytest.mark.parametrize("line", shell_lines(".venv/bin/gpu-kmeans "))
@pytest.mark.usefixtures("folder_with_a_photo")
def test_a_command_in_a_document_works(line):
    result = CliRunner().invoke(main, shlex.split(line)[1:])

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("line", shell_lines("curl "))
@pytest.mark.usefixtures("folder_with_a_photo")
def test_a_curl_in_a_document_is_answered(line):
    response = curl(shlex.split(line)[1:])

    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", DOCUMENTS, ids=short)
def test_every_make_target_a_document_names_exists(path):
    named = set(re.findall(r"`make ([a-z-]+)", path.read_text()))
    named |= set(re.findall(r"^make ([a-z-]+)", path.read_text(), re.MULTILINE))

    assert named <= TARGETS


@pytest.mark.parametrize("path", DOCUMENTS, ids=short)
def test_every_relative_link_of_a_document_leads_somewhere(path):
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]

    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=short)
def test_every_file_of_ours_a_document_names_exists(path):
    named = set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w/.-]+)`", path.read_text()))

    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_test_that_holds_a_promise_exists():
    promises = re.findall(r"^\|(.+)\|(.+)\|$", PROMISES, re.MULTILINE)
    rows = [row for row in promises if row[1].strip() not in {"held by", "---"}]

    assert rows
    for promise, held_by in rows:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", held_by)
        assert named, promise
        for path, test in named:
            assert f"\ndef {test}(" in (ROOT / "tests" / path).read_text(), test


def test_the_readme_has_the_two_commands_that_do_all_the_set_up():
    lines = (ROOT / "README.md").read_text().splitlines()

    assert "make run" in lines
    assert "make test" in lines


def test_the_change_check_runs_the_readme_s_test_command():
    assert re.search(r"^stage .* make test$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_readme_s_map_names_only_what_is_there():
    (tree,) = (code.values[0] for code in blocks("text") if "gpu_kmeans/  " in code.values[0])
    paths = [line.split()[0] for line in tree.splitlines() if line.strip()]

    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_setting_is_documented_and_no_other():
    documented = set(re.findall(r"^\| `(GPU_KMEANS_\w+)` \|", SETTINGS, re.MULTILINE))

    assert documented == {f"GPU_KMEANS_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize(
    "name", Settings.model_fields.keys() - {"codec_threads", "engine_processes"}
)
def test_the_default_of_a_setting_is_the_documented_one(name):
    default = Settings.model_fields[name].default

    assert f"| `GPU_KMEANS_{name.upper()}` | `{default}` |" in SETTINGS


@pytest.mark.parametrize("name", Settings.model_fields.keys())
def test_the_bounds_of_a_setting_are_the_documented_ones(name):
    row = next(line for line in SETTINGS.splitlines() if f"_KMEANS_{name.upper()}`" in line)
    schema = Settings.model_json_schema()["properties"][name]
    low = schema.get("minimum", f"above {schema.get('exclusiveMinimum', 0):g}")
    bounds = f"{low} to {schema['maximum']}" if "maximum" in schema else ""

    assert row.split(" |")[2].strip() == bounds.replace(".0", "")


@pytest.mark.parametrize("options", [ClusterOptions, CompressOptions, ElbowOptions, PaletteOptions])
def test_every_parameter_of_the_http_api_is_documented(options):
    documented = set(re.findall(r"`(\w+)`", HTTP_API.split("## Parameters")[1].split("\n## ")[0]))

    assert options.model_fields.keys() <= documented


def test_every_error_of_the_http_api_is_documented():
    documented = set(re.findall(r"^\| (\d+) \| `([a-z-]+)` \|", HTTP_API, re.MULTILINE))

    ours = {(str(status), code) for status, code, _title in TABLE.values()}
    assert documented == ours | {("404", "not-found"), ("405", "method-not-allowed")}


@pytest.mark.parametrize("answer", [CompressAnswer, *NESTED], ids=lambda model: model.__name__)
def test_every_member_of_the_answer_of_compress_is_documented(answer):
    documented = set(re.findall(r"`(\w+)`", HTTP_API.split("## The answer")[1].split("\n## ")[0]))

    assert answer.model_fields.keys() <= documented


@pytest.mark.parametrize(
    ("door", "answer"),
    [("cluster", ClusterAnswer), ("elbow", ElbowAnswer), ("elbow", CurveCriterion)],
)
def test_every_member_of_the_answer_about_points_is_documented(door, answer):
    section = HTTP_API.split(f"## The answer of `/{door}`")[1].split("\n## ")[0]

    assert answer.model_fields.keys() <= set(re.findall(r"`(\w+)`", section))


def test_every_package_is_pinned_and_torch_has_no_local_version():
    pins = (ROOT / "constraints.txt").read_text().splitlines()

    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins


def test_the_pins_hold_every_package_the_project_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    named = {canonical(re.match(r"[\w.-]+", each)[0]) for each in itertools.chain(*lists)}
    pins = (ROOT / "constraints.txt").read_text().splitlines()

    assert named <= {canonical(pin.split("==")[0]) for pin in pins}


def test_no_file_names_a_machine_s_path_or_a_registry():
    barred = re.compile(
        r"(?<![\w.])/(?:home|Users|root|work|opt/wheels|opt/pypi)/"
        r"|https?://(?:pypi\.org|files\.pythonhosted\.org|registry\.|test\.pypi)"
    )
    found = {name: barred.findall(text) for name, text in our_text().items()}

    assert {
        name: hits for name, hits in found.items() if hits and name != "tests/test_docs.py"
    } == {}


def test_only_one_index_is_named_and_only_where_a_reader_chooses_it():
    hosts = re.compile(r"https?://[\w.-]*(?:index|download|simple)[\w./-]*")
    named = {
        name: set(hosts.findall(text)) for name, text in our_text().items() if hosts.search(text)
    }

    assert set().union(*named.values()) <= {"https://download.pytorch.org/whl/cpu"}
