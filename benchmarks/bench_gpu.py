"""Are the answers on CUDA those of the CPU, and how fast do they come?

    python3 -m benchmarks.bench_gpu                           minutes, on a machine with a GPU
    python3 -m benchmarks.bench_gpu --quick --interpreted     without one: the kernels are checked

Needs torch, numpy and Pillow, no network and no package of ours installed; with numba the CPU has
its fast backend, with scikit-learn the picture is a photograph, otherwise one made up by numpy.
Without a GPU the same checks run on the CPU in a small size, and nothing is timed.

Checks come first: a wrong answer is named, and ends the run with status 1. Times are by device
events, medians; an event pair around a call that waits for the device measures that wait too. The
bound of an iteration is what comparing every point with every centroid would take if nothing but
instructions counted: 5.5 a pair in three dimensions, on all lanes, at the highest clock. An exact
iteration that prunes may be below it. flash-kmeans is timed beside where it is installed; it
computes in TF32, which gives some points another centroid.
"""

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import machine, pictures
from benchmarks.report import Report, figure, parser, table

SMALL, SMALLEST, TINY = (96, 128), (32, 48), (6, 8)  # the last for the interpreter
BATCH = 64
KS = (1, 2, 16, 64, 256)
DIMENSIONS = (2, 3, 4, 16, 128)
DISTINCT = 200_000
SLOTS_A_PAIR = 5.5  # instructions to compare a point with a centroid in three dimensions
LANES = 128  # of a multiprocessor, for float32
ITERATIONS = 10  # of a descent whose time is divided by them
STEP_TOLERANCE = 1e-4  # of one Lloyd step on float32 points, relative: sums come in another order
BUDGET_S = 15  # no more calls of a kind than fit into this


class _Unchecked:
    """`Float[Tensor, "n d"]` without jaxtyping: the plain type."""

    def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
        return item[0]


def _do_without_jaxtyping() -> None:
    """Let the library be imported where the package that spells its shapes is missing."""
    if importlib.util.find_spec("jaxtyping") is None:
        stand_in = types.ModuleType("jaxtyping")
        stand_in.__getattr__ = lambda _name: _Unchecked  # type: ignore[method-assign]
        sys.modules["jaxtyping"] = stand_in


def main(arguments: Sequence[str] | None = None) -> int:
    command = parser("Check and time the fits on CUDA.")
    command.add_argument("--interpreted", action="store_true", help="the kernels, without a GPU")
    command.add_argument("--no-cpu", action="store_true", help="leave the CPU's times out")
    options = command.parse_args(arguments)
    _do_without_jaxtyping()
    has_gpu = torch.cuda.is_available()
    if options.interpreted and not has_gpu:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    backend = "cuda" if has_gpu or options.interpreted else "auto"
    size = SMALLEST if options.quick else SMALL
    if backend == "cuda" and not has_gpu:
        size = TINY
    device = torch.device("cuda" if has_gpu else "cpu")
    facts = machine.describe(["numpy", "numba", "triton"]) | {"torch": torch.__version__}
    report = Report("On the GPU", facts | (_gpu_facts() if has_gpu else {"GPU": "none"}))
    cpu = not options.no_cpu
    sections: list[Callable[[], None]] = [
        lambda: _check(report, device, size, backend, with_cpu=cpu)
    ]
    if has_gpu:
        large = _picture(*pictures.HEADLINE)
        sections += [
            lambda: _time_iterations(report, device, large, with_cpu=cpu),
            lambda: _time_stages(report, device, large),
            lambda: _time_pictures(
                report, device, large, BATCH // (4 if options.quick else 1), with_cpu=cpu
            ),
        ]
    failed = False
    for section in sections:
        failed |= not _survives(report, section)
        if has_gpu:
            path = report.write(options.out, "gpu", _gpu_name())  # a later section may not end
    if has_gpu:
        print(f"\nwritten: {path}")
    else:
        print("\nNo CUDA device here: nothing was timed; the checks ran on the CPU, small.")
    return int(failed)


def _survives(report: Report, section: Callable[[], None]) -> bool:
    """Run a section; write down what it raises, so that the others still run."""
    try:
        section()
    except (AssertionError, RuntimeError) as error:
        last = traceback.format_exc().strip()
        report.say(f"\n**Failed**: {error}\n\n```text\n{last}\n```")
        return False
    return True


def _picture(height: int, width: int) -> np.ndarray:
    if "china" in pictures.shipped():
        return pictures.china(height, width)
    return pictures.synthetic(height, width)


def _gpu_name() -> str:
    return machine.short_name(torch.cuda.get_device_name())


def _gpu_facts() -> dict[str, str]:
    properties = torch.cuda.get_device_properties(0)
    facts = {
        "GPU": properties.name,
        "its memory": f"{properties.total_memory / 2**30:.0f} GiB",
        "its multiprocessors": str(properties.multi_processor_count),
        "its highest clock": f"{_clock_hz() / 1e6:.0f} MHz",
        "CUDA of torch": str(torch.version.cuda),
    }
    tool = shutil.which("nvidia-smi")
    if tool:
        command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        facts["driver"] = done.stdout.strip().split("\n")[0]
    return facts


def _clock_hz() -> float:
    """Return the highest clock of the multiprocessors; 0 where nobody says."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return 0.0
    command = [tool, "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    first = done.stdout.strip().split("\n")[0]
    return float(first) * 1e6 if first.isdigit() else 0.0


# Checks


def _check(
    report: Report,
    device: torch.device,
    size: tuple[int, int],
    backend: str = "auto",
    *,
    with_cpu: bool = True,
) -> None:
    """Compare every kind of fit on the device with the reference on the CPU."""
    from gpu_kmeans.backends import backend_for

    name = backend_for(device, backend).name
    where = f"the {name} backend on {device}"
    report.say(f"\n## The answers of {where} against those of the reference on the CPU\n")
    small = _picture(*size)
    on: dict[str, Any] = {"device": device, "backend": backend}
    ks = [k for k in KS if k <= len(small) * len(small[0]) // 6]  # fewer than there are colours
    few = ks[-1] if size == TINY else 16
    results = {
        **{f"quantize, k = {k}": _same_picture(small, k, **on) for k in ks},
        "quantize, alpha": _same_picture(_with_alpha(small), 2 * few, **on),
        "quantize, fewer colours than k": _same_picture(small // 128 * 128, 64, **on),
        "quantize, oklab": _same_picture(small, few, space="oklab", **on),
        "quantize, dithered": _same_picture(small, few, dither=0.75, **on),
        "quantize, no refinement": _same_picture(small, few, refine=0, **on),
        "quantize_batch, each as alone": _same_batch(small, few, **on),
        "elbow, a picture": _same_elbow(small, few, **on),
        **{f"one Lloyd step, {d} dimensions, to rounding": _same_step(d, **on) for d in DIMENSIONS},
    }
    if device.type == "cuda" and with_cpu:
        big = _picture(*pictures.HEADLINE)
        results["quantize, 1200 x 1600, against the CPU"] = _same_picture(
            big, 64, against="auto", **on
        )
    rows = [[name, "equal" if same else "**different**"] for name, same in results.items()]
    report.say(table(["fit", "answer"], rows))
    report.data["checks"] = results
    wrong = [name for name, same in results.items() if not same]
    assert not wrong, f"different on {device}: {', '.join(wrong)}"


def _with_alpha(pixels: np.ndarray) -> np.ndarray:
    """Return the picture with alpha from 0 at the left to 255 at the right."""
    ramp = np.linspace(0, 255, pixels.shape[1]).astype(np.uint8)
    alpha = np.broadcast_to(ramp[:, None], (*pixels.shape[:2], 1))
    return np.concatenate([pixels, alpha], axis=2)


def _same_picture(
    pixels: np.ndarray,
    k: int,
    *,
    device: torch.device,
    backend: str,
    against: str = "reference",
    **options: Any,
) -> bool:
    """Return whether palette, indices, counts and WCSS have the same bits on both."""
    from gpu_kmeans import quantize

    tensor = torch.from_numpy(pixels.copy())
    here = quantize(tensor.to(device), k, backend=backend, **options)
    there = quantize(tensor, k, backend=against, **options)
    return _equal(here, there)


def _equal(here: Any, there: Any) -> bool:
    parts = ("palette", "indices", "counts", "centroids")
    same = [torch.equal(getattr(here, p).cpu(), getattr(there, p).cpu()) for p in parts]
    return all(same) and here.wcss == there.wcss


def _same_batch(pixels: np.ndarray, k: int, *, device: torch.device, backend: str) -> bool:
    from gpu_kmeans import quantize, quantize_batch

    h, w, _ = pixels.shape
    cuts = [pixels, pixels[: h // 2], pixels[:, : w // 3], pixels[::-1]]
    tensors = [torch.from_numpy(cut.copy()).to(device) for cut in cuts]
    together = quantize_batch(tensors, k, backend=backend)
    alone = [quantize(tensor.cpu(), k) for tensor in tensors]
    return all(_equal(a, b) for a, b in zip(together, alone, strict=True))


def _same_elbow(pixels: np.ndarray, k_max: int, *, device: torch.device, backend: str) -> bool:
    from gpu_kmeans import elbow

    tensor = torch.from_numpy(pixels.copy())
    here = elbow(tensor.to(device), k_max, backend=backend)
    there = elbow(tensor, k_max, backend="reference")
    return here.ks == there.ks and here.wcss == there.wcss


def _same_step(d: int, *, device: torch.device, backend: str) -> bool:
    from gpu_kmeans import kmeans

    n = 300 if device.type == "cpu" else 3000
    points = torch.from_numpy(np.random.default_rng(d).standard_normal((n, d), np.float32))
    options = {"init": points[:20], "max_iter": 1, "tol": 0.0}
    there = kmeans(points, 20, backend="reference", **options)
    options["init"] = points[:20].to(device)
    here = kmeans(points.to(device), 20, backend=backend, **options)
    return torch.allclose(
        here.centroids.cpu(), there.centroids, rtol=STEP_TOLERANCE, atol=STEP_TOLERANCE
    )


# Times


def _time_iterations(
    report: Report, device: torch.device, pixels: np.ndarray, *, with_cpu: bool
) -> None:
    """Time one assignment with its sums: raw pixels, and distinct colours."""
    from gpu_kmeans.backends import backend_for
    from gpu_kmeans.color import srgb8_to_features
    from gpu_kmeans.histogram import Histogram

    bandwidth = _copy_bandwidth(device)
    report.say(f"\n## One iteration\n\nCopying runs at {bandwidth / 1e9:.0f} GB/s here.\n")
    report.data["copy_bytes_a_second"] = bandwidth
    engine = backend_for(device)
    tensor = torch.from_numpy(pixels.copy()).to(device)
    histogram = Histogram.from_pixels(tensor, engine)
    n = min(DISTINCT, len(histogram.colors))
    every = torch.linspace(0, len(histogram.colors) - 1, n, dtype=torch.float64).long().to(device)
    raw = srgb8_to_features(tensor.reshape(-1, 3), "rgb")
    sets = {
        "pixels": (raw, torch.ones(len(raw), dtype=torch.float64, device=device)),
        "distinct colours": (
            srgb8_to_features(histogram.colors[every], "rgb"),
            histogram.counts[every].double(),
        ),
    }
    rows = []
    for name, (points, weights) in sets.items():
        for k in (64, 256):
            row = _iteration_row(points, weights, k, bandwidth, with_cpu=with_cpu)
            rows.append([f"{len(points):,} {name}", str(k), *row])
    head = ["points", "k", "a pass, us", "in a descent, us", "of copy bandwidth", "bound, us"]
    head += ["plain torch, us", "torch / ours", "flash-kmeans, us", "its other labels"]
    report.say(table([*head, "CPU, us", "CPU / ours"], rows))
    report.say("\nA pass is one call and what it costs the host; a descent launches them in a row.")
    report.data["iterations"] = rows


def _iteration_row(
    points: torch.Tensor, weights: torch.Tensor, k: int, bandwidth: float, *, with_cpu: bool
) -> list[str]:
    from gpu_kmeans.backends import backend_for

    def problem_on(device: torch.device) -> tuple[Any, Any, torch.Tensor]:
        engine = backend_for(device)
        rows = points.to(device)
        centroids = rows[torch.linspace(0, len(rows) - 1, k).long().to(device)]
        return engine, engine.pack([rows], [weights.to(device)], is_integral=True), centroids

    engine, problem, centroids = problem_on(points.device)
    ours = device_ms(lambda: engine.assign_accumulate(problem, centroids, (0, k)))
    many = device_ms(lambda: engine.settle(problem, centroids, steps=ITERATIONS + 1, still=-1.0))
    one = device_ms(lambda: engine.settle(problem, centroids, steps=1, still=-1.0))
    plain = device_ms(lambda: plain_iteration(points, weights.float(), centroids))
    cpu = None
    if with_cpu:
        host, there, starts = problem_on(torch.device("cpu"))
        cpu = wall_ms(lambda: host.assign_accumulate(there, starts, (0, k)))
    least_ms = points.numel() * points.element_size() / bandwidth * 1e3
    row = [
        f"{ours * 1e3:.1f}",
        f"{(many - one) / ITERATIONS * 1e3:.1f}",
        f"{least_ms / ours:.1%}",
        figure(_bound_us(len(points), k)),
        f"{plain * 1e3:.1f}",
        figure(plain / ours),
        *_flash_cells(engine, problem, points, centroids),
    ]
    return [*row, figure(cpu and cpu * 1e3), figure(cpu and cpu / ours)]


def _bound_us(n: int, k: int) -> float | None:
    """Return what n x k comparisons take if instructions alone counted; None without a clock."""
    if not torch.cuda.is_available() or not _clock_hz():
        return None
    cores = torch.cuda.get_device_properties(0).multi_processor_count * LANES
    return n * k * SLOTS_A_PAIR / cores / _clock_hz() * 1e6


def _flash_cells(
    engine: Any, problem: Any, points: torch.Tensor, centroids: torch.Tensor
) -> list[str]:
    """Time an iteration of flash-kmeans on the same points, and count labels that differ."""
    if importlib.util.find_spec("flash_kmeans") is None or points.device.type != "cuda":
        return ["-", "-"]
    flash: Any = importlib.import_module("flash_kmeans")
    k, given = len(centroids), {"init_centroids": centroids[None].clone(), "tol": 0.0}

    def run(steps: int) -> Any:
        return flash.batch_kmeans_Euclid(points[None], k, max_iters=steps, **given)

    cost = (device_ms(lambda: run(ITERATIONS + 1)) - device_ms(lambda: run(1))) / ITERATIONS
    labels = engine.assign_accumulate(problem, centroids, (0, k), labels=True).labels
    different = float((run(1)[0].reshape(-1) != labels).double().mean())
    return [f"{cost * 1e3:.1f}", f"{different:.2%}"]


def _time_stages(report: Report, device: torch.device, pixels: np.ndarray) -> None:
    """Time what a picture goes through, stage by stage."""
    from gpu_kmeans.backends import backend_for
    from gpu_kmeans.color import srgb8_to_features
    from gpu_kmeans.descent import descend
    from gpu_kmeans.histogram import COARSE_POINTS, Histogram, coarsen_together
    from gpu_kmeans.lloyd import Fit

    engine, k = backend_for(device), 64
    tensor = torch.from_numpy(pixels.copy()).to(device)
    histogram = Histogram.from_pixels(tensor, engine)
    colors, weights = histogram.colors, histogram.counts.double()
    features = srgb8_to_features(colors, "rgb")
    fine = engine.pack([features], [weights], is_integral=True)
    one = ([colors], [features], [weights])
    sets = coarsen_together(engine, *one, COARSE_POINTS)
    fit = Fit(k=k, n_init=1, max_iter=300, tol=1e-4, refine=1, seed=0)
    draws = torch.from_numpy(np.random.default_rng(0).random((k, 6)))
    rows = engine.seed(fine, [k], [draws])[0]
    found = fit.search_together(engine, sets, "k-means++", lambda _: None)
    centroids = features[rows]
    labels = engine.assign_accumulate(fine, centroids, (0, k), labels=True).labels
    stages: dict[str, Callable[[], object]] = {
        "histogram": lambda: Histogram.from_pixels(tensor, engine),
        "layout": lambda: engine.pack([features], [weights], is_integral=True),
        "merging colours": lambda: coarsen_together(engine, *one, COARSE_POINTS),
        "seeds among all colours": lambda: engine.seed(fine, [k], [draws]),
        "search on merged colours": lambda: fit.search_together(
            engine, sets, "k-means++", lambda _: None
        ),
        "descent from there": lambda: descend(
            engine, fine, found, max_iter=300, tol=1e-4, still=1e-4
        ),
        "look-up": lambda: labels.to(torch.uint8).index_select(0, histogram.inverse),
    }
    times = {name: device_ms(call) for name, call in stages.items()}
    report.say(f"\n## Stages of one picture, k = {k}, {len(colors):,} distinct colours\n")
    report.say(table(["stage", "ms"], [[name, figure(ms)] for name, ms in times.items()]))
    report.data["stages_ms"] = times


def _time_pictures(
    report: Report, device: torch.device, pixels: np.ndarray, batch: int, *, with_cpu: bool
) -> None:
    """Time whole calls on pictures that are on the device, against the CPU's on the host."""
    from gpu_kmeans import elbow, quantize, quantize_batch

    tensor = torch.from_numpy(pixels.copy())
    there = tensor.to(device)
    many = [there.roll(i, dims=1) for i in range(batch)]
    h, w, _ = pixels.shape
    calls: list[tuple[str, Callable[[], object], Callable[[], object] | None]] = [
        ("quantize, k = 64", lambda: quantize(there, 64), lambda: quantize(tensor, 64)),
        ("quantize, k = 256", lambda: quantize(there, 256), lambda: quantize(tensor, 256)),
        (
            "quantize, k = 64, refine=0",
            lambda: quantize(there, 64, refine=0),
            lambda: quantize(tensor, 64, refine=0),
        ),
        (
            "quantize, k = 64, dither=0.75",
            lambda: quantize(there, 64, dither=0.75),
            lambda: quantize(tensor, 64, dither=0.75),
        ),
        (f"quantize_batch of {batch}, k = 64", lambda: quantize_batch(many, 64), None),
        ("elbow, k = 1..64", lambda: elbow(there, 64), lambda: elbow(tensor, 64)),
    ]
    rows, kept = [], {}
    for name, on_device, on_host in calls:
        ours = device_ms(on_device)
        host = wall_ms(on_host) if on_host and with_cpu else None
        rows.append([name, figure(ours), figure(host), figure(host / ours if host else None)])
        kept[name] = {"device_ms": ours, "cpu_ms": host}
    upload = device_ms(lambda: tensor.to(device))
    report.say(f"\n## Whole calls, {h} x {w}, picture and result on the device\n")
    report.say(table(["call", "GPU, ms", "CPU, ms", "CPU / GPU"], rows))
    report.say(f"\nMoving the picture to the device takes {upload:.2f} ms more.")
    report.data["calls"] = kept


def plain_iteration(
    points: torch.Tensor, weights: torch.Tensor, centroids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sums (k, d) and masses (k,) as anyone would write it: matrix product, index_add."""
    sums = torch.zeros_like(centroids)
    masses = torch.zeros_like(centroids[:, 0])
    squares = (centroids**2).sum(dim=1)
    for rows, masses_of_rows in zip(points.split(1 << 18), weights.split(1 << 18), strict=True):
        nearest = torch.addmm(squares, rows, centroids.T, alpha=-2).argmin(dim=1)
        sums.index_add_(0, nearest, rows * masses_of_rows[:, None])
        masses.index_add_(0, nearest, masses_of_rows)
    return sums, masses


def _copy_bandwidth(device: torch.device) -> float:
    """Return bytes read and written a second by a large copy on the device."""
    source = torch.empty(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / (device_ms(lambda: target.copy_(source)) / 1e3)


def device_ms(call: Callable[[], object]) -> float:
    """Return the median by device events, after two calls to warm up."""
    call()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    torch.cuda.synchronize()
    found = []
    for _ in range(_repeats(time.perf_counter() - begun)):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(end))
    return statistics.median(found)


def wall_ms(call: Callable[[], object]) -> float:
    """Return the median by the clock on the wall, after a call to warm up."""
    begun = time.perf_counter()
    call()
    found = []
    for _ in range(min(9, _repeats(time.perf_counter() - begun))):
        start = time.perf_counter()
        call()
        found.append((time.perf_counter() - start) * 1e3)
    return statistics.median(found)


def _repeats(seconds: float) -> int:
    return int(min(50, max(1, BUDGET_S / max(seconds, 1e-6))))


if __name__ == "__main__":
    sys.exit(main())
