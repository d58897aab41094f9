"""The plots: figures that show what they are said to, from functions and from the command."""

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from pictures import decoded

from app.cli import main
from app.plot_jobs import _distinct_rows, take_steps, try_starts
from app.plots import (
    clusters_figure,
    comparison_figure,
    cube_figure,
    starts_figure,
    steps_figure,
    write_figure,
)
from gpu_kmeans import ShapeError, kmeans, quantize


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(8)
    corners = np.array([[0.0, 0], [12, 0], [0, 12], [12, 12], [30, 30]])
    return corners[np.arange(150) % 5] + rng.normal(size=(150, 2))


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in [axes.title, *axes.texts]]


def test_the_steps_are_lloyd_s_and_fall(blobs):
    first = blobs[:3]

    steps = take_steps(blobs, first)

    wcss = [step.wcss for step in steps]
    away = ((blobs[:, None] - first[None]) ** 2).sum(axis=2)
    assert wcss == sorted(wcss, reverse=True)
    assert wcss[0] == pytest.approx(away.min(axis=1).sum())
    assert (steps[0].labels == away.argmin(axis=1)).all()
    assert steps[-1].wcss == kmeans(blobs, 3, init=first, tol=0).wcss
    assert [step.n_iter for step in steps] == list(range(len(steps)))


@pytest.mark.parametrize(("n", "values"), [(1, 2), (500, 3), (500, 1), (500, 400)])
def test_steps_start_from_distinct_points(n, values):
    points = np.random.default_rng(n).integers(0, values, (n, 2)).astype(float)
    points[points == 1] = -0.0  # which equals 0

    rows = _distinct_rows(points)

    assert rows.tolist() == np.sort(np.unique(points, axis=0, return_index=True)[1]).tolist()


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
def test_a_panel_a_step_says_its_objective(blobs, metric):
    steps = take_steps(blobs, blobs[[0, 5, 10]], metric=metric)

    figure = steps_figure(blobs, steps)

    assert texts(figure)[0] == f"start: {steps[0].wcss:.4g}"
    assert len([text for text in texts(figure) if text]) == min(len(steps), 8)


def test_only_points_in_the_plane_are_drawn():
    points = np.zeros((4, 3))

    with pytest.raises(ShapeError, match="in the plane"):
        clusters_figure(points, np.zeros(4, int), points[:1], "")


def test_random_starts_are_caught_more_often(blobs):
    starts = try_starts(blobs, 5, starts=40)

    random, plus = starts.caught()
    assert random > plus
    assert starts.best == min(*starts.random, *starts.plus)
    labels = starts_figure(starts).axes[0].get_legend_handles_labels()[1]
    assert labels[0] == f"random: {random:.0%} end over 1% above"


def test_starts_that_all_reach_zero_are_still_drawn():
    figure = starts_figure(try_starts(np.eye(3), 3, starts=2))

    assert figure.axes[0].get_xlabel() == "final WCSS"
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == pytest.approx(2)


def test_a_point_of_weight_three_takes_the_steps_of_three_points(blobs):
    weights = np.arange(150) % 4
    copies = np.repeat(blobs, weights, axis=0)

    weighted = take_steps(blobs, blobs[1:4], weights=weights)

    plain = take_steps(copies, blobs[1:4])
    assert [step.wcss for step in weighted] == pytest.approx([step.wcss for step in plain])


def test_of_many_points_a_sample_is_drawn():
    points = np.random.default_rng(0).normal(size=(9000, 2))

    figure = clusters_figure(points, np.zeros(9000, int), points[:1], "")

    assert figure.axes[0].collections[0].get_offsets().shape[0] == 4000


def test_of_many_clusters_a_sample_is_drawn():
    points = np.random.default_rng(0).normal(size=(9000, 2))

    figure = clusters_figure(points, np.arange(9000), points, "each its own")

    assert [len(drawn.get_offsets()) for drawn in figure.axes[0].collections] == [4000, 4000]


def test_the_labels_of_many_steps_take_a_byte_a_point(blobs):
    steps = take_steps(np.tile(blobs, (20, 1)), blobs[:5])  # more than are measured together

    away = ((np.tile(blobs, (20, 1))[:, None] - blobs[None, :5]) ** 2).sum(axis=2)
    assert np.array_equal(steps[0].labels, away.argmin(axis=1))
    assert {step.labels.itemsize for step in steps} == {1}


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("height", "width"), [(3300, 2), (2, 3300), (1700, 3210)])
def test_before_and_after_show_the_means_of_blocks(height, width, channels):
    rng = np.random.default_rng(height)
    picture = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    n = -(-max(height, width) // 1600)
    down, across = min(n, height), min(n, width)
    h, w = height // down, width // across
    blocks = picture[: h * down, : w * across].reshape(h, down, w, across, channels).astype(float)
    mass = blocks[..., 3:] if channels == 4 else np.ones_like(blocks[..., :1])
    means = (blocks[..., :3] * mass).sum(axis=(1, 3)) / np.maximum(mass.sum(axis=(1, 3)), 1)

    figure = comparison_figure(picture, picture, ("", ""), np.zeros((1, 3), np.uint8), np.ones(1))

    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (h, w, channels)
    assert np.abs(shown[..., :3] - means).max() <= 0.51


def test_what_is_fully_transparent_is_not_in_the_cube():
    pixels = np.array([[[255, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)
    fit = quantize(pixels, 2)

    figure = cube_figure(pixels, fit.centroids, fit.counts)

    assert [len(each.get_offsets()) for each in figure.axes[0].collections] == [1, 1]
    assert "1 centroids" in texts(figure)[0]


@pytest.mark.parametrize("shape", [(1, 9000), (9000, 1), (3300, 1700)])
def test_before_and_after_of_any_shape_stay_small(shape):
    picture = np.full((*shape, 4), [200, 100, 0, 255], np.uint8)
    picture[::3] = [7, 7, 7, 0]

    figure = comparison_figure(picture, picture, ("", ""), picture[0, :1], np.ones(1))

    shown = figure.axes[0].images[0].get_array()
    assert max(shown.shape[:2]) <= 1600
    assert max(figure.get_size_inches()) < 13
    if shape[0] > 1600:
        assert shown[0, 0].tolist() == [200, 100, 0, 170]


def test_the_cube_has_a_dot_a_centroid_and_a_sample_of_the_pixels(photo):
    fit = quantize(photo, 6)

    figure = cube_figure(photo, fit.centroids, fit.counts)

    pixels, centroids = figure.axes[0].collections
    assert pixels.get_offsets().shape[0] == 4000
    assert centroids.get_offsets().shape[0] == 6
    assert "6 centroids" in texts(figure)[0]


def test_before_and_after_have_their_captions(photo):
    fit = quantize(photo, 4)

    shares = fit.counts / fit.counts.sum()
    figure = comparison_figure(photo, fit.to_pixels(), ("before", "after"), fit.palette, shares)

    assert texts(figure)[:2] == ["before", "after"]
    assert len(figure.axes[2].patches) == 4


@pytest.mark.parametrize(("plot_format", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_a_figure_is_written_alike_each_time(blobs, plot_format, begins):
    def write():
        return write_figure(clusters_figure(blobs, np.arange(150) % 5, blobs[:5], "k"), plot_format)

    assert write() == write()
    assert write().startswith(begins)


def test_no_plot_leaves_a_current_figure_behind():
    from matplotlib import pyplot as plt

    assert isinstance(starts_figure(try_starts(np.eye(3), 2, starts=2)), Figure)
    assert plt.get_fignums() == []


@pytest.fixture
def files(tmp_path, photo_png, blobs):
    (tmp_path / "photo.png").write_bytes(photo_png)
    np.savetxt(tmp_path / "points.csv", blobs, delimiter=",", header="x,y", comments="")
    (tmp_path / "points.json").write_text(f'{{"points": {blobs.tolist()}}}')
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, ["plot", *map(str, arguments)])


@pytest.mark.parametrize(
    ("kind", "name", "keywords"),
    [
        ("before-after", "photo.png", ["-k", "5"]),
        ("cube", "photo.png", ["-k", "5"]),
        ("trap", "photo.png", ["-k", "5", "--starts", "3"]),
        ("trap", "points.csv", ["--starts", "3"]),
        ("steps", "points.csv", ["-k", "3", "--metric", "chebyshev"]),
        ("steps", "points.json", ["-k", "3"]),
    ],
)
def test_the_command_draws_every_kind(files, kind, name, keywords):
    target = files / "drawing.png"

    result = run(kind, files / name, "-o", target, *keywords)

    assert result.exit_code == 0, result.output
    assert min(decoded(target.read_bytes()).shape[:2]) > 300


@pytest.mark.parametrize(
    ("kind", "name", "keywords", "said"),
    [
        ("steps", "photo.png", [], "cube, trap or before-after for a picture"),
        ("cube", "points.csv", [], "steps or trap for points"),
        ("before-after", "points.csv", [], "not of points"),
        ("steps", "points.csv", ["-k", "200"], "number of distinct points, 150"),
        ("trap", "points.csv", ["--starts", "1"], "2..500"),
        ("pie", "points.csv", [], "pie"),
        ("cube", "photo.png", ["--starts", "9"], "the parameters here are k and seed"),
    ],
)
def test_what_cannot_be_drawn_is_refused(files, kind, name, keywords, said):
    target = files / "drawing.svg"

    result = run(kind, files / name, "-o", target, *keywords)

    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert not target.exists()


def test_steps_of_points_out_of_the_plane_end_with_one(files):
    (files / "solid.csv").write_text("1,2,3\n4,5,6\n7,8,10\n")

    result = run("steps", files / "solid.csv", "-o", files / "x.svg", "-k", 2)

    assert result.exit_code == 1
    assert "in the plane" in result.stderr


def test_a_plot_of_another_format_is_refused(files):
    assert run("trap", files / "points.csv", "-o", files / "x.pdf").exit_code == 2
