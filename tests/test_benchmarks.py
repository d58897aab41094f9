"""The benchmarks run, on pictures of a few pixels, and measure what they say."""

import csv
import json
import platform
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import (
    bench_gpu,
    bench_growth,
    bench_quantize,
    bench_steps,
    bench_tables,
    machine,
    measuring,
    pictures,
)
from benchmarks.measuring import Measurement, measure
from benchmarks.methods import METHODS, Outcome
from benchmarks.quality import Original
from benchmarks.report import Report, figure, table

AVAILABLE = [name for name, method in METHODS.items() if method.is_available()]


@pytest.fixture(scope="module")
def photo():
    return pictures.china(48, 72)


@pytest.fixture
def folder(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(photo[::-1]).save(tmp_path / "upside down.png")
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch):
    """Fit without starting processes: importing torch in each takes seconds."""
    monkeypatch.setattr(bench_quantize, "Workers", WorkersHere)
    monkeypatch.setattr(
        bench_growth,
        "measure",
        lambda names, *arguments, **options: WorkersHere(names).measure(*arguments, **options),
    )


class WorkersHere(nullcontext):
    def __init__(self, names):
        super().__init__(self)
        self.names = names

    def measure(self, pixels, k, *, repeat, budget_s):
        assert budget_s > 0
        return {name: fit_here(METHODS[name], pixels, k, repeat) for name in self.names}


def fit_here(method, pixels, k, repeat):
    data = method.prepare(pixels)
    fits = [measuring._fit_here(method, data, k, seed) for seed in range(repeat)]
    seconds, outcomes, memory = zip(*fits, strict=True)
    return Measurement(seconds=list(seconds), outcomes=list(outcomes), memory_bytes=max(memory))


@pytest.fixture
def report(capsys):
    made = Report("Anything", {})
    capsys.readouterr()
    return made


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_method_finds_four_colors_that_fit_the_picture(photo, name):
    original = Original.of(photo)
    variance = original.to_nearest(original.counts @ original.colors[None] / original.size)

    (outcome,) = fit_here(METHODS[name], photo, 4, repeat=1).outcomes

    if outcome.picture is not None:
        assert len(Original.of(outcome.picture).colors) <= 4
    if outcome.centroids is not None:
        assert len(outcome.centroids) <= 4
    assert 0 < original.written(outcome) < variance / 2


def test_a_method_has_a_process_and_is_timed_as_often_as_asked(photo):
    measured = measure(["pillow", "pillow-octree"], photo, 4, repeat=3, budget_s=1e6)

    assert [len(each.seconds) for each in measured.values()] == [3, 3]
    assert all(min(each.seconds) > 0 for each in measured.values())


def test_a_method_too_slow_for_its_budget_is_fitted_once(photo):
    assert len(measure(["pillow"], photo, 4, repeat=5, budget_s=0)["pillow"].seconds) == 1


MEASURE_HUNGER = """
import gc
import sys

import numpy as np
from benchmarks.measuring import _fit_here
from benchmarks.methods import Method

class Hungry(Method):
    def fit(self, data, k, seed):
        gc.collect()
        return np.ones(data, np.uint8)[:k].astype(float)

class Heap:
    def __init__(self, size):
        self.itself, self.filled = self, np.ones(size, np.uint8)

Heap(100_000_000)
print(_fit_here(Hungry(), int(sys.argv[1]), 4, 0)[2])
"""


def test_memory_is_what_the_fit_takes_at_its_peak():
    """Measured as the benchmarks do, in a process of its own: here other tests' threads free some.

    What is garbage already before the fit, and not collected, is not taken from what it takes.
    """
    taken = 200_000_000

    command = [sys.executable, "-c", MEASURE_HUNGER, str(taken)]
    grown = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    assert taken * 0.95 < grown < taken * 1.2


def test_a_failure_in_a_worker_is_raised_with_its_method(photo):
    with pytest.raises(RuntimeError, match=r"^pillow: "):
        measure(["pillow"], photo, 1000, repeat=1, budget_s=1)


def test_wcss_is_recomputed_from_the_pictures():
    pixels = np.array([[[0, 0, 0], [2, 0, 0]]], np.uint8)
    original = Original.of(pixels)

    assert original.written(Outcome(picture=np.zeros_like(pixels))) == 2.0
    assert original.written(Outcome(centroids=np.array([[0.6, 0.0, 0.0]]))) == 1.0
    assert original.unrounded(Outcome(centroids=np.array([[0.0, 0.0, 0.0]]))) == 2.0
    assert original.unrounded(Outcome(picture=pixels)) is None


@pytest.mark.usefixtures("in_this_process")
def test_the_comparison_prints_a_row_for_each_picture_and_keeps_it(folder, capsys):
    arguments = ["--images", str(folder), "--k", "4", "--repeat", "1", "--out", str(folder)]
    bench_quantize.main([*arguments, "--only", "pillow"])

    printed = capsys.readouterr().out
    (kept,) = folder.glob("*-quantize-*.json")
    assert "| photo | 48 x 72 |" in printed
    assert "| **geometric mean** |" in printed
    assert kept.with_suffix(".md").read_text().rstrip() in printed
    assert set(json.loads(kept.read_text())["others-k4"]["photo"]) == {"quantize", "pillow"}


@pytest.mark.usefixtures("in_this_process")
def test_the_comparison_measures_its_own_picture_first(monkeypatch, folder, capsys, photo):
    monkeypatch.setattr(pictures, "read", lambda _: photo)

    bench_quantize.main(["--quick", "--only", "pillow", "--out", str(folder)])

    assert "## china.jpg, 48 x 72, k = 64" in capsys.readouterr().out


@pytest.mark.usefixtures("in_this_process")
def test_the_comparison_with_a_reference_prints_ratios(folder, capsys):
    with (folder / "reference.csv").open("w", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(["image", "k", "method", "wcss_per_pixel", "seconds"])
        rows.writerow(["photo", 4, "best_known_rounded_to_8bit", 1e9, ""])
        rows.writerow(["photo", 4, "libimagequant_nodither_8bit", 1e9, 0.1])
    arguments = ["--images", str(folder), "--reference", str(folder / "reference.csv")]

    bench_quantize.main([*arguments, "--repeat", "1", "--out", str(folder)])

    assert "0.0000 (libimagequant_nodither_8bit)" in capsys.readouterr().out


@pytest.mark.usefixtures("in_this_process")
def test_growth_is_a_table_and_a_plot(tmp_path, capsys):
    sizes = ["--megapixels", "0.01", "0.02"]
    bench_growth.main([*sizes, "--k", "4", "--repeat", "1", "--out", str(tmp_path)])

    (plot,) = tmp_path.glob("*-growth.svg")
    assert "| 0.0199 |" in capsys.readouterr().out
    assert plot.read_text().startswith("<?xml")


def test_tables_are_clustered_by_turns_and_compared(tmp_path, capsys):
    bench_tables.main(["--quick", "--out", str(tmp_path)])

    (figures,) = tmp_path.glob("*-tables.json")
    said = capsys.readouterr().out
    assert said.count("| blobs, 50,000 x 16 | 50 |") == 2
    found = json.loads(figures.read_text())
    runs = found["iterations-normal, 100,000 x 8-k20"]
    assert set(runs) == {"ours", "lloyd", "elkan"}
    assert runs["ours"][0][1] == pytest.approx(runs["lloyd"][0][1], rel=1e-9)


def test_the_stages_are_all_there_and_add_up_to_the_whole(report):
    bench_steps._report_stages(report, pictures.china(96, 144), 8, 1)

    stages = report.data["stages-k8"]
    whole = stages.pop("all of it")
    assert all(seconds > 0 for seconds in stages.values())
    assert sum(stages.values()) == pytest.approx(whole)


def test_single_steps_are_timed_on_every_backend(report, photo, capsys):
    bench_steps._report_iterations(report, photo, 1)
    bench_steps._report_curves(report, photo, 1)

    assert {"cpu-k64", "reference-k256"} <= set(report.data["iterations"])
    assert "`elbow(pixels, 64)`" in capsys.readouterr().out


def test_a_step_in_a_new_process_answers_with_its_seconds():
    assert all(seconds > 0 for seconds in bench_steps._run(bench_steps.IMPORTS))


@pytest.fixture
def few_checks(monkeypatch):
    monkeypatch.setattr(bench_gpu, "SMALLEST", (12, 16))
    monkeypatch.setattr(bench_gpu, "KS", (1, 8))
    monkeypatch.setattr(bench_gpu, "DIMENSIONS", (3, 16))


@pytest.mark.usefixtures("few_checks")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_checks_run_and_nothing_is_timed(tmp_path, capsys):
    assert bench_gpu.main(["--quick", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "different" not in printed
    assert "No CUDA device here" in printed
    assert " ms" not in printed
    assert list(tmp_path.iterdir()) == []


def test_the_gpu_benchmark_does_with_torch_triton_and_pillow():
    missing = ["numba", "llvmlite", "sklearn", "scipy", "matplotlib", "jaxtyping", "fastapi"]
    program = f"""
import os, sys
sys.modules.update(dict.fromkeys({missing}))  # importing them fails
os.environ["TRITON_INTERPRET"] = "1"
from benchmarks import bench_gpu
bench_gpu._do_without_jaxtyping()
from gpu_kmeans import quantize
picture = bench_gpu._picture(4, 5)
print(*(quantize(picture, 2, refine=0, backend=name).k for name in ("cuda", "reference")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )

    assert done.stdout == "2 2\n", done.stderr


def test_a_wrong_answer_ends_the_gpu_benchmark_with_status_1(monkeypatch, tmp_path, capsys):
    for check in ("picture", "batch", "elbow", "step"):
        same = check != "batch"
        monkeypatch.setattr(bench_gpu, f"_same_{check}", lambda *_, same=same, **__: same)

    assert bench_gpu.main(["--quick", "--out", str(tmp_path)]) == 1
    assert "| quantize_batch, each as alone | **different** |" in capsys.readouterr().out


def test_the_times_of_the_gpu_benchmark_are_taken_by_the_clock_given(monkeypatch, report, photo):
    def once(call):
        call()
        return 2.0

    monkeypatch.setattr(bench_gpu, "device_ms", once)
    monkeypatch.setattr(bench_gpu, "wall_ms", once)

    bench_gpu._time_iterations(report, torch.device("cpu"), photo, with_cpu=True)
    bench_gpu._time_pictures(report, torch.device("cpu"), photo, 2, with_cpu=True)
    bench_gpu._time_stages(report, torch.device("cpu"), photo)

    assert len(report.data["iterations"]) == 4
    assert set(report.data["stages_ms"].values()) == {2.0}
    assert report.data["calls"]["elbow, k = 1..64"] == {"device_ms": 2.0, "cpu_ms": 2.0}


def test_the_plain_iteration_adds_up_the_nearest_points():
    points, weights = torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([1.0, 3.0, 2.0])

    sums, masses = bench_gpu.plain_iteration(points, weights, torch.tensor([[0.0], [8.0]]))

    assert sums.tolist() == [[3.0], [18.0]]
    assert masses.tolist() == [4.0, 2.0]


def test_a_picture_made_up_is_the_same_each_time_and_rich_in_colors():
    one, two = pictures.synthetic(60, 80), pictures.synthetic(60, 80)

    assert np.array_equal(one, two)
    assert len(Original.of(one).colors) > 1000


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Intel(R) Xeon(R) Processor @ 2.60GHz", "intel-xeon-2-cores"),
        ("AMD EPYC 7763 64-Core Processor", "amd-epyc-7763-64-core-2-cores"),
        ("", "2-cores"),
    ],
)
def test_a_machine_is_named_after_its_processor(model, name):
    assert machine.short_name(model, "2 cores") == name


def test_no_description_holds_the_name_of_the_host():
    assert platform.node() not in machine.describe(["numpy"]).values()


def test_a_table_aligns_figures_to_the_right():
    assert table(["a", "b"], [["x", figure(0.12345)]]) == "| a | b |\n| --- | ---: |\n| x | 0.123 |"


@pytest.mark.parametrize(("value", "text"), [(123456.0, "123456"), (1.5, "1.5"), (None, "-")])
def test_a_figure_has_no_exponent(value, text):
    assert figure(value) == text
