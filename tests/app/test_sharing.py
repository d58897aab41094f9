"""One palette for a folder: counted once, whatever stops the run, whatever lies there."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from pictures import encoded, noise
from PIL import Image

from app.census import Census, load_census
from app.cli import main
from app.palettes import read_palette
from gpu_kmeans import quantize

KILLED_WHILE_COUNTING = """
import functools, os, signal
import app.census, app.cli, app.sharing

def save(census, path):
    app.census.save_census(census, path)
    if census.pictures == 4:
        os.kill(os.getpid(), signal.SIGKILL)

app.sharing.save_census = save
app.sharing.take_census = functools.partial(app.census.take_census, save_every_s=0)
app.cli.main()
"""


@pytest.fixture
def run():
    def run_command(*arguments):
        return CliRunner().invoke(main, [str(each) for each in arguments])

    return run_command


@pytest.fixture
def frames(photo):
    """Opaque pictures of one size, by the names they have in the folder."""
    return {f"{'ab'[i % 2]}/frame{i}.png": photo[i : i + 60, i : i + 80] for i in range(9)}


@pytest.fixture
def folder(tmp_path, frames):
    """Them as files, in subfolders."""
    root = tmp_path / "pictures"
    for name, pixels in frames.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(pixels))
    return root


def palette_of(run, folder, *options):
    result = run("palette", "--shared", folder, "-k", 12, *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


def test_the_palette_is_that_of_one_picture_of_all_pixels(run, folder, frames):
    answer, report = palette_of(run, folder)

    alone = quantize(np.concatenate(list(frames.values())), 12)
    assert [entry["rgb"] for entry in answer["palette"]] == alone.palette.tolist()
    assert [entry["count"] for entry in answer["palette"]] == alone.counts.tolist()
    assert answer["wcss"] == alone.wcss
    assert answer["wcss_bounds"] == [alone.wcss, alone.wcss]
    assert answer["input"] == {
        "pictures": 9,
        "pixels": 9 * 60 * 80,
        "unique_colors": alone.unique_colors,
        "cell_levels": 1,
    }
    assert "9 pictures, 43,200 pixels, 0 files skipped" in report


def test_names_and_folders_change_nothing(run, folder, frames, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for i, pixels in enumerate(reversed(frames.values())):
        (other / f"{i}.bmp").write_bytes(encoded(pixels, "BMP"))

    assert palette_of(run, other)[0] == palette_of(run, folder)[0]


def test_a_run_that_was_killed_goes_on_and_gives_the_same(run, folder, tmp_path):
    state = tmp_path / "state.npz"
    command = ["palette", "--shared", str(folder), "-k", "12", "--state", str(state)]

    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_COUNTING, *command], check=False, timeout=120
    )
    counted = load_census(state).pictures
    resumed, _ = palette_of(run, folder, "--state", state)

    assert killed.returncode == -signal.SIGKILL
    assert counted == 4
    assert resumed == palette_of(run, folder)[0]
    assert load_census(state).pictures == 9


def test_what_is_counted_is_not_decoded_again(run, folder, monkeypatch):
    state = folder / "state.npz"  # among the pictures: it is none of them
    before, _ = palette_of(run, folder, "--state", state)

    monkeypatch.setattr("app.census._count", None)  # calling it would fail
    again, report = palette_of(run, folder, "--state", state)

    assert again == before
    assert "0 files skipped" in report


def test_a_picture_that_came_later_is_added(run, folder, frames, tmp_path):
    state = tmp_path / "state.npz"
    newest = list(frames)[-1]
    moved = tmp_path / "moved.png"
    (folder / newest).rename(moved)
    fewer, _ = palette_of(run, folder, "--state", state)
    moved.rename(folder / newest)

    assert fewer["input"]["pictures"] == 8
    assert palette_of(run, folder, "--state", state)[0] == palette_of(run, folder)[0]


def test_a_picture_that_has_gone_stays_counted_and_is_spoken_of(run, folder, tmp_path):
    state = tmp_path / "state.npz"
    before, _ = palette_of(run, folder, "--state", state)
    next(folder.rglob("*.png")).unlink()

    after, report = palette_of(run, folder, "--state", state)

    assert after["palette"] == before["palette"]
    assert "1 pictures counted earlier are no longer there" in after["warnings"][0]
    assert "warning: 1 pictures" in report


def test_a_picture_that_has_changed_since_ends_the_run(run, folder, tmp_path):
    state = tmp_path / "state.npz"
    palette_of(run, folder, "--state", state)
    os.utime(folder / "a/frame2.png", ns=(1, 1))

    result = run("palette", "--shared", folder, "--state", state)

    assert result.exit_code == 2
    assert "a/frame2.png has changed" in result.stderr


def test_what_does_not_decode_is_said_and_left_out(run, folder):
    expected, _ = palette_of(run, folder)
    (folder / "broken.png").write_bytes((folder / "a/frame0.png").read_bytes()[:300])
    (folder / "notes.txt").write_text("no picture")
    (folder / "empty.png").touch()

    answer, report = palette_of(run, folder)

    assert answer == expected
    assert "skipped: broken.png: The picture is damaged" in report
    assert "skipped: notes.txt: These bytes are no picture" in report
    assert "skipped: empty.png: The picture has no bytes" in report
    assert "3 files skipped" in report


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"nothing of ours"])
def test_a_file_that_is_no_state_is_refused_and_left_alone(run, folder, tmp_path, content):
    state = tmp_path / "state.npz"
    state.write_bytes(content)

    result = run("palette", "--shared", folder, "--state", state)

    assert result.exit_code == 2
    assert "a file that --state has written" in result.stderr
    assert state.read_bytes() == content


def test_a_state_that_cannot_be_written_is_said(run, folder, tmp_path):
    result = run("palette", "--shared", folder, "--state", tmp_path / "nowhere/state.npz")

    assert result.exit_code == 1
    assert "state.npz" in result.stderr


def test_a_folder_without_pictures_is_refused(run, tmp_path):
    result = run("palette", "--shared", tmp_path)

    assert result.exit_code == 2
    assert "a folder with pictures" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--state", "x"], ["-", "--shared", "."]])
def test_one_source_is_wanted(run, arguments):
    result = run("palette", *arguments)

    assert result.exit_code == 2
    assert "one of IN and --shared FOLDER" in result.stderr


def test_no_picture_is_counted_in_an_empty_census():
    assert Census.empty().pictures == Census.empty().tally.pixels == 0


# A palette from a file


@pytest.mark.parametrize("palette_format", ["json", "css", "gpl", "act", "hex"])
def test_compress_takes_the_palette_of_a_file(run, folder, tmp_path, palette_format):
    file, target = tmp_path / "colors", tmp_path / "out.png"
    result = run("palette", "--shared", folder, "-k", 7, "--format", palette_format, "-o", file)
    assert result.exit_code == 0, result.output

    result = run("compress", folder / "a/frame0.png", "-o", target, "--palette", file)

    answer = json.loads(run("palette", "--shared", folder, "-k", 7).stdout)
    colors = [entry["rgb"] for entry in answer["palette"]]
    assert result.exit_code == 0, result.output
    assert np.asarray(Image.open(target).getpalette()).reshape(-1, 3).tolist()[:7] == colors


def test_a_palette_with_alpha_has_the_same_entries_in_an_opaque_picture(run, tmp_path):
    soft, opaque = noise(20, 20, 4), noise(20, 20)
    soft[:5, :5, 3] = 0
    folder, file, target = tmp_path / "in", tmp_path / "colors.hex", tmp_path / "out.png"
    folder.mkdir()
    (folder / "soft.png").write_bytes(encoded(soft))
    (folder / "opaque.png").write_bytes(encoded(opaque))
    run("palette", "--shared", folder, "-k", 9, "--format", "hex", "-o", file)

    palettes = []
    for name in ("soft", "opaque"):
        result = run("compress", folder / f"{name}.png", "-o", target, "--palette", file)
        assert result.exit_code == 0, result.output
        image = Image.open(target)
        palettes.append((image.getpalette(), image.info["transparency"]))

    assert palettes[0] == palettes[1]
    assert len(read_palette(file.read_bytes())) == 9


def test_a_file_without_colors_is_refused(run, folder, tmp_path):
    (tmp_path / "none.css").write_text(":root {}")

    result = run("compress", folder / "a/frame0.png", "-o", "-", "--palette", tmp_path / "none.css")

    assert result.exit_code == 2
    assert "holds no colours" in result.stderr


@pytest.mark.parametrize(
    ("content", "colors"),
    [
        (b"#FF0000\n00ff00", ["#ff0000"]),
        (b"ff0000 00ff00\n0000FF80", ["#ff0000", "#0000ff80"]),
        (b"GIMP Palette\nName: x\n#\n 1 2 3\tblack\n300 0 0", ["#010203", "#ff0000"]),
        (b'{"palette": []}', []),
        (b'{"palette": 3}', []),
        (b"{", []),
        (b"\xff\xfe", []),
        (b"", []),
        (bytes(766) + b"\x00\x02\xff\xff" + b"\x00\x00", ["#000000", "#000000"]),
    ],
)
def test_a_palette_file_is_read_by_its_content(content, colors):
    if len(content) == 772:
        content = content[:768] + b"\x00\x02\xff\xff"
    assert read_palette(content) == colors
