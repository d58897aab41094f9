"""Counting on a cluster: the same palette as on one machine, whatever the number of workers."""

import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_sample_image

from app.cli import main as command
from app.errors import BadParameter
from app.ray_palette import count_on_cluster
from app.ray_palette import main as cluster_command
from gpu_kmeans import Tally


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty pictures, one of them with alpha, and two files that are none."""
    root = tmp_path_factory.mktemp("pictures")
    photo = load_sample_image("flower.jpg")
    for i in range(39):
        path = root / f"{i % 3}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photo[i : i + 40, 5 * i : 5 * i + 60]).save(path)
    soft = np.dstack([photo[:30, :30], np.add.outer(np.arange(30), np.arange(30))])
    Image.fromarray(soft.astype(np.uint8)).save(root / "soft.png")
    (root / "notes.txt").write_text("none")
    (root / "broken.png").write_bytes((root / "soft.png").read_bytes()[:200])
    return root


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("cluster")
def test_any_number_of_workers_counts_the_same(folder, workers):
    counted = count_on_cluster(str(folder), workers=workers, max_pixels=10**6, capacity=2000)

    pictures = [np.asarray(Image.open(path)) for path in folder.glob("*/*.png")]
    pictures.append(np.asarray(Image.open(folder / "soft.png")))
    expected = Tally.total([Tally.from_pixels(each, capacity=2000) for each in pictures])
    assert counted.pictures == len(pictures) == 40
    assert counted.tally.shift == expected.shift > 0
    np.testing.assert_array_equal(counted.tally.keys, expected.keys)
    np.testing.assert_array_equal(counted.tally.moments, expected.moments)
    assert counted.tally.transparent == expected.transparent == 1
    assert [text.split(": ")[0].split("/")[-1] for text in counted.skipped] == [
        "broken.png",
        "notes.txt",
    ]


@pytest.mark.usefixtures("cluster")
def test_more_workers_than_the_cluster_has_room_for_are_refused(folder):
    with pytest.raises(BadParameter, match="fewer than the 8 processors"):
        count_on_cluster(str(folder), workers=9, max_pixels=10**6)


@pytest.mark.usefixtures("cluster")
def test_the_command_writes_the_palette_of_the_plain_command(folder, monkeypatch):
    arguments = [str(folder), "-k", "20", "--workers", "2", "--address", "auto"]

    def count(*given, **named):
        sys.stdout.write("(raylet) WARNING: as Ray writes where a machine is slow\n")
        return count_on_cluster(*given, **named)

    monkeypatch.setattr("app.ray_palette.count_on_cluster", count)

    clustered = CliRunner().invoke(cluster_command, arguments)

    plain = CliRunner().invoke(
        command, ["palette", "--shared", str(folder), "-k", "20", "--format", "hex"]
    )
    assert clustered.exit_code == 0, clustered.output
    assert clustered.stdout == plain.stdout
    assert "(raylet) WARNING" in clustered.stderr
    assert "40 pictures" in clustered.stderr
    assert "broken.png: The picture is damaged" in clustered.stderr


@pytest.mark.usefixtures("cluster")
def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")

    result = CliRunner().invoke(cluster_command, [str(tmp_path), "--address", "auto"])

    assert result.exit_code == 1
    assert "a folder with pictures" in result.stderr
