"""Where does the time go, and what does the first use cost?

The stages of `quantize` are timed by standing a clock in front of the functions it calls, so they
add up to the whole; single steps, curves and the first use are timed by themselves.
"""

import functools
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import machine, pictures
from benchmarks.report import Report, figure, parser, table

STAGES = (  # what `quantize` calls one after the other: none of these calls another
    ("count the distinct colours", "histogram", "Histogram.from_all"),
    ("lay them out, merge them to a few", "palette_fits", "_points"),
    ("search among the few", "lloyd", "Fit.search"),
    ("last iterations, on all", "palette_fits", "descend"),
    ("round to 8 bits", "palette_fits", "_round_to_8_bits"),
    ("map the pixels, measure", "palette_fits", "map_in_full"),
)
DISTINCT = 305_000  # colours in the table of one iteration
IMPORTS = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import gpu_kmeans
print(middle - start, time.perf_counter() - middle)
"""
FIRST_CALLS = """
import sys, time
import numpy as np
import torch
from gpu_kmeans import quantize
pixels = np.load(sys.argv[1])
for _ in range(2):
    start = time.perf_counter()
    quantize(pixels, 64)
    print(time.perf_counter() - start)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("Time the steps of quantize.").parse_args(arguments)
    repeat = 3 if options.quick else 15 if options.full else 7
    facts = machine.describe(["torch", "numba", "numpy"])
    report = Report("Where the time goes", facts)
    own = pictures.read(pictures.shipped()["china"])
    large = own if options.quick else pictures.china(*pictures.HEADLINE)
    for k in (64, 256):
        _report_stages(report, large, k, repeat)
    _report_iterations(report, large, repeat)
    _report_curves(report, large, repeat)
    options.out.mkdir(parents=True, exist_ok=True)
    _report_first_use(report, own, options.out, 3 if options.quick else 5)
    print(f"\nwritten: {report.write(options.out, 'steps')}")


def _report_stages(report: Report, pixels: np.ndarray, k: int, repeat: int) -> None:
    from gpu_kmeans import quantize

    quantize(pixels, k)
    runs: list[dict[str, float]] = []
    for _ in range(repeat):
        seconds: dict[str, float] = {}
        with _clocked(seconds):
            start = time.perf_counter()
            quantize(pixels, k)
            seconds["all of it"] = time.perf_counter() - start
        seconds["between them"] = 2 * seconds["all of it"] - sum(seconds.values())
        runs.append(seconds)
    names = [*(label for label, _, _ in STAGES), "between them", "all of it"]
    medians = {name: statistics.median(run.get(name, 0.0) for run in runs) for name in names}
    h, w, _ = pixels.shape
    report.say(f"\n## Stages of `quantize`, china.jpg {h} x {w}, k = {k}, median of {repeat}\n")
    rows = [
        [name, f"{s * 1e3:.1f}", f"{s / medians['all of it']:.0%}"] for name, s in medians.items()
    ]
    report.say(table(["stage", "ms", "share"], rows))
    report.data[f"stages-k{k}"] = medians


@contextmanager
def _clocked(seconds: dict[str, float]) -> Iterator[None]:
    """Add up, by label, the seconds spent in each stage while this lasts."""
    restore = []
    for label, module, path in STAGES:
        *inside, name = path.split(".")
        owner = functools.reduce(getattr, inside, importlib.import_module(f"gpu_kmeans.{module}"))
        original = owner.__dict__[name]
        clock = _clock(getattr(owner, name), label, seconds)
        setattr(owner, name, staticmethod(clock) if isinstance(original, classmethod) else clock)
        restore.append((owner, name, original))
    try:
        yield
    finally:
        for owner, name, original in restore:
            setattr(owner, name, original)


def _clock(function: Callable, label: str, seconds: dict[str, float]) -> Callable:
    def clocked(*arguments: object, **options: object) -> object:
        start = time.perf_counter()
        result = function(*arguments, **options)
        seconds[label] = seconds.get(label, 0.0) + time.perf_counter() - start
        return result

    return clocked


def _report_iterations(report: Report, pixels: np.ndarray, repeat: int) -> None:
    """Print the time of one pass over all distinct colours, means included, on every backend."""
    import torch

    from gpu_kmeans.backends import available_backends, backend_for
    from gpu_kmeans.color import srgb8_to_features
    from gpu_kmeans.descent import descend
    from gpu_kmeans.distances import place_means
    from gpu_kmeans.histogram import Histogram

    rows, kept = [], {}
    for name in available_backends():
        engine = backend_for(torch.device("cpu"), name)
        histogram = Histogram.from_pixels(torch.from_numpy(pixels.copy()), engine)
        n = min(DISTINCT, len(histogram.colors))
        every = torch.linspace(0, len(histogram.colors) - 1, n).long()
        features = srgb8_to_features(histogram.colors[every], "rgb")
        weights = histogram.counts[every].double()
        problem = engine.pack([features], [weights], is_integral=True)
        for k in (64, 256):
            start = features[torch.linspace(0, n - 1, k).long()]
            settled = descend(engine, problem, [start], max_iter=5, tol=0.0)[0].centroids

            def iterate(engine=engine, problem=problem, centroids=settled, k=k) -> None:  # noqa: ANN001
                found = engine.assign_accumulate(problem, centroids, (0, k))
                place_means(problem, centroids, found)

            seconds = _times(iterate, repeat * (5 if name == "cpu" else 1))
            rows.append([name, f"{n:,}", str(k), _ms(seconds), f"{min(seconds) * 1e3:.2f}"])
            kept[f"{name}-k{k}"] = seconds
    report.say("\n## One exact iteration over distinct colours, spread evenly over the picture's\n")
    report.say(table(["backend", "colours", "k", "ms", "fastest, ms"], rows))
    report.data["iterations"] = kept


def _report_curves(report: Report, pixels: np.ndarray, repeat: int) -> None:
    from gpu_kmeans import elbow, quantize

    fit = _times(lambda: quantize(pixels, 64), repeat)
    whole = _times(lambda: elbow(pixels, 64), repeat)
    both = _times(lambda: quantize(pixels, 64, curve=True), repeat)
    single = statistics.median(fit)
    rows = [
        [name, _ms(seconds), figure(statistics.median(seconds) / single)]
        for name, seconds in (
            ("`quantize(pixels, 64)`", fit),
            ("`elbow(pixels, 64)`: every k of 1..64", whole),
            ("`quantize(pixels, 64, curve=True)`: what `/compress` does", both),
        )
    ]
    report.say("\n## Elbow curves\n")
    report.say(table(["call", "ms", "of the single fit"], rows))
    report.data["curves"] = {"fit": fit, "elbow": whole, "fit and curve": both}


def _report_first_use(report: Report, pixels: np.ndarray, folder: Path, repeat: int) -> None:
    path = folder / "first-use.npy"
    np.save(path, pixels)
    _run(FIRST_CALLS, str(path))  # fills the cache of compiled kernels
    imports = [_run(IMPORTS) for _ in range(repeat)]
    calls = [_run(FIRST_CALLS, str(path)) for _ in range(repeat)]
    path.unlink()
    h, w, _ = pixels.shape
    size = f"china.jpg {h} x {w}"
    rows = [
        ["import torch", _ms([torch for torch, _ in imports])],
        ["then, import gpu_kmeans", _ms([ours for _, ours in imports])],
        [f"first quantize, {size}, compiled kernels in the cache", _ms([a for a, _ in calls])],
        ["second quantize", _ms([b for _, b in calls])],
    ]
    report.say("\n## First use, each in a new process\n")
    report.say(table(["step", "ms"], rows))
    report.data["first use"] = {"imports": imports, "calls": calls}


def _run(program: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(  # noqa: S603 - this interpreter, with the programs above
        command, cwd=machine.ROOT, capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


def _times(call: Callable[[], object], repeat: int) -> list[float]:
    call()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.2f}"


if __name__ == "__main__":
    main()
