"""The command: files in, files out, messages on standard error, exit codes 0, 1 and 2."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from pictures import decoded, encoded, noise

from app.cli import main
from app.options import CompressOptions, ElbowOptions, PaletteOptions

COMMAND = Path(sys.executable).with_name("gpu-kmeans")
HEAVY = {"torch", "numba", "fastapi", "uvicorn", "matplotlib", "numpy", "PIL", "sklearn"}


@pytest.fixture
def run():
    def run_command(*arguments, stdin=None):
        return CliRunner().invoke(main, [str(each) for each in arguments], input=stdin)

    return run_command


@pytest.fixture
def photo_file(tmp_path, photo_png):
    path = tmp_path / "photo.png"
    path.write_bytes(photo_png)
    return path


def test_compress_writes_the_picture_http_answers(run, client, photo_file, photo_png, tmp_path):
    target = tmp_path / "small.png"

    result = run("compress", photo_file, "-o", target, "-k", "12", "--seed", "3")

    answer = client.post("/compress?k=12&seed=3", content=photo_png).json()
    assert result.exit_code == 0, result.output
    assert (decoded(target.read_bytes()) == decoded(answer["image"]["data"])).all()
    assert result.stdout == ""
    assert "12 (asked)" in result.stderr


def test_a_hyphen_is_standard_input_and_output(run, photo_png):
    result = run("compress", "-", "-o", "-", "--k", 4, stdin=photo_png)

    assert result.exit_code == 0
    assert decoded(result.stdout_bytes).shape == decoded(photo_png).shape


def test_elbow_prints_the_curve(run, photo_file):
    result = run("elbow", photo_file, "--k-max", 6)

    lines = result.stdout.splitlines()
    assert lines[0].split() == ["k", "WCSS"]
    assert [line.split()[0] for line in lines[1:7]] == list("123456")
    assert lines[7] == ""


def test_elbow_prints_what_http_answers(run, client, photo_file, photo_png):
    printed = json.loads(run("elbow", photo_file, "--k-max", 4, "--json").stdout)

    answer = client.post("/elbow?k_max=4", content=photo_png).json()
    assert printed["curve"] == answer["curve"]
    assert printed["knee"] == answer["knee"]


def test_elbow_takes_points(run):
    result = run("elbow", "-", stdin=b'{"points": [[0], [1], [9]]}')

    assert [line.split()[0] for line in result.stdout.splitlines()[1:4]] == list("123")


@pytest.mark.parametrize(("name", "begins"), [("c.svg", b"<?xml"), ("c.PNG", b"\x89PNG")])
def test_elbow_draws_the_curve(run, photo_file, tmp_path, name, begins):
    result = run("elbow", photo_file, "--k-max", 4, "--plot", tmp_path / name)

    assert result.exit_code == 0
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize("palette_format", ["css", "gpl", "act", "hex"])
def test_palette_writes_what_http_answers(run, client, photo_file, photo_png, palette_format):
    result = run("palette", photo_file, "-k", 5, "--format", palette_format)

    query = f"/palette?k=5&format={palette_format}"
    assert result.stdout_bytes == client.post(query, content=photo_png).content


def test_palette_is_json_unless_another_format_is_asked_for(run, photo_file):
    assert len(json.loads(run("palette", photo_file, "-k", 5).stdout)["palette"]) == 5


@pytest.mark.parametrize(
    ("command", "options"),
    [("compress", CompressOptions), ("elbow", ElbowOptions), ("palette", PaletteOptions)],
)
def test_a_command_has_the_words_of_its_door(command, options):
    flags = {option for parameter in main.commands[command].params for option in parameter.opts}

    wanted = {f"--{name.replace('_', '-')}" for name in options.model_fields} - {"--curve"}
    assert wanted <= flags


@pytest.mark.parametrize(
    "arguments",
    [
        ["--k", "0"],
        ["-k", "many"],
        ["-k", "3", "-k", "4"],
        ["--dither", "2"],
        ["--colours", "3"],
        ["--format", "tiff"],
        ["--effort", "10"],
    ],
)
def test_a_bad_argument_ends_with_two_and_says_why(run, photo_file, tmp_path, arguments):
    target = tmp_path / "small.png"

    result = run("compress", photo_file, "-o", target, *arguments)

    assert result.exit_code == 2
    assert arguments[0].strip("-").split("=")[0] in result.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    "arguments", [["compress"], ["compress", "nowhere.png", "-o", "x.png"], ["unknown"]]
)
def test_a_missing_argument_or_file_ends_with_two(run, arguments):
    assert run(*arguments).exit_code == 2


def test_a_plot_of_another_format_ends_with_two(run, photo_file, tmp_path):
    assert run("elbow", photo_file, "--plot", tmp_path / "curve.pdf").exit_code == 2


@pytest.mark.parametrize(
    ("command", "stdin", "reason"),
    [
        (["compress", "-", "-o", "{}"], b"", "no bytes"),
        (["compress", "-", "-o", "{}"], b"text", "no picture we take"),
        (["palette", "-", "-o", "{}"], encoded(noise(9, 9))[:99], "damaged"),
        (["elbow", "-"], b'{"points": [[NaN]]}', "finite"),
    ],
)
def test_bad_input_ends_with_one_and_says_why(run, tmp_path, command, stdin, reason):
    target = tmp_path / "out"

    result = run(*(each.format(target) for each in command), stdin=stdin)

    assert result.exit_code == 1
    assert reason in result.stderr
    assert result.stdout == ""
    assert not target.exists()


def test_a_place_that_cannot_be_written_to_ends_with_one(run, photo_file, tmp_path):
    plot = tmp_path / "no such folder" / "curve.svg"

    result = run("elbow", photo_file, "--k-max", 3, "--plot", plot)

    assert result.exit_code == 1
    assert "curve.svg" in result.stderr


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["compress"], "-o"),
        (["palette"], "-o"),
        (["elbow"], "--plot"),
        (["plot", "cube"], "-o"),
        (["cluster"], "-o"),
        (["cluster"], "--centroids"),
    ],
)
@pytest.mark.parametrize(
    ("place", "reason"), [("no/such/x.png", "no such folder"), (".", "is a folder")]
)
def test_a_place_that_cannot_be_written_to_is_found_out_before_anything_is_computed(
    run, photo_file, tmp_path, monkeypatch, *, command, option, place, reason
):
    monkeypatch.setattr("app.cli.run", lambda *_, **__: pytest.fail("computed"))

    result = run(*command, photo_file, option, tmp_path / place)

    assert (result.exit_code, reason in result.stderr) == (1, True)


def test_a_bad_setting_ends_with_two(run, photo_file, monkeypatch):
    monkeypatch.setenv("GPU_KMEANS_MAX_PIXELS", "many")

    result = run("elbow", photo_file)

    assert result.exit_code == 2
    assert "max_pixels" in result.stderr


def test_warnings_go_to_standard_error(run, tmp_path):
    result = run("compress", "-", "-o", tmp_path / "x.png", stdin=encoded(noise(2, 2)))

    assert "warning: " in result.stderr


@pytest.mark.parametrize(
    ("command", "label"), [(["compress"], b"k-means"), (["palette", "--shared"], b"counting")]
)
def test_progress_is_shown_on_a_terminal_only(photo_file, tmp_path, command, label):
    ours, theirs = pty.openpty()
    source, output = (photo_file, "x.png") if label == b"k-means" else (photo_file.parent, "x.hex")
    arguments = [COMMAND, *command, source, "-o", tmp_path / output, "-k", "64"]
    with subprocess.Popen(arguments, stderr=theirs, stdout=subprocess.PIPE) as process:
        process.wait()
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # how a terminal without a writer ends
        pass
    os.close(ours)

    assert process.returncode == 0
    assert label in shown
    assert b"100%" in shown
    silent = subprocess.run(arguments, capture_output=True, check=True)
    assert label not in silent.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["compress", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    script = (
        f"import sys; sys.argv = ['gpu-kmeans', *{arguments}]\n"
        "from app.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"assert not {HEAVY} & sys.modules.keys(), {HEAVY} & sys.modules.keys()\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("command", ["compress", "elbow", "palette", "serve", "health"])
def test_every_command_has_help(run, command):
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_health_of_nobody_ends_with_one(run):
    result = run("health", "--port", 1)

    assert result.exit_code == 1
    assert "does not answer" in result.stderr


def test_serve_serves_until_it_is_told_to_stop(run):
    """The server takes any free port; its first line on standard error says which.

    It is asked seldom: each question is a line there, and nobody reads them meanwhile.
    """
    arguments = [COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        said = iter(process.stderr.readline, "")
        port = next(m[1] for line in said if (m := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
        healthy = run("health", "--port", port)
        try:
            while (ready := run("health", "--ready", "--port", port)).exit_code:
                assert "503" in ready.stderr
                time.sleep(0.25)
        finally:
            process.send_signal(signal.SIGTERM)
        process.stderr.read()

    assert healthy.exit_code == 0
    assert json.loads(healthy.stdout)["status"] == "ok"
    assert ready.stdout == healthy.stdout
    assert process.returncode in {0, -signal.SIGTERM}
