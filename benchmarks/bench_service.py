"""The service over HTTP, against its own parts called in a loop, and what it promises under load.

    python -m benchmarks.bench_service [--quick] [--seconds 20]

Measured on a server of its own on a loopback port, with the result cache off: pictures a second of
768 x 512 JPEG at k = 64, `curve=false`, `effort=0`, dithered as is its default, and plain, against
decode, `quantize` and encode called with the same in a process for every processor; and against
pngquant, dithered or not likewise, run on every processor on the decoded PNGs, from and to memory:
the service against its default speed, the loop against its speed 3, which looks a little better.
Then five times as many requests a second as it just answered, sent at their time whether or not
earlier ones are answered; then 50 megapixels; and the time from start to ready. The clients share
the processors with the server. The report goes to benchmarks/results/.

Overload is measured with either bound that the service has. Bounded in jobs, the promise is a full
queue and the request itself, at the rate at which they are answered meanwhile: `(max_jobs + 1) /
rate`. That rate is a little below the throughput measured just before, since four of five clients
are refused, and ask, on the same processors. A queue that is always full takes 16 parts of those 17
on average, whatever is done. Bounded in seconds, by `compute_timeout_s`, the promise is that time,
and no 504.
"""

import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from app.codecs import Limits, decode
from app.encoders import encode
from app.options import CompressOptions
from app.preferences import preferred
from benchmarks import machine, report
from gpu_kmeans import quantize

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/abuse"))
from victim import Victim

WIDTH, HEIGHT, K = 768, 512, 64
QUERY = f"k={K}&curve=false&effort=0"  # as `encode` is called in the loop
MODES: dict[str, tuple[dict[str, Any], str, list[str]]] = {  # ours, in Python and HTTP; pngquant's
    "dithered": (preferred(CompressOptions()), "", []),
    "plain": ({}, "&space=rgb&dither=0", ["--nofs"]),
}
MAX_JOBS, LOAD = 16, 5
MANY_JOBS, TIMEOUT_S, LEARNING_S = 64, 2.0, 5.0  # of overload bounded in seconds
MOST_AT_ONCE = 200  # clients that wait for an answer; one more would measure the clients
PACKAGES = ["torch", "numpy", "numba", "pillow", "fastapi", "uvicorn", "pngquant-cli"]
PROCESSORS = len(os.sched_getaffinity(0))
GOAL_TIMES_PNGQUANT, GOAL_TIMES_SLOW_PNGQUANT = 2, 3
GOAL_SHARE, GOAL_REFUSAL_MS, GOAL_MEMORY_MB, GOAL_READY_S = 0.8, 50, 2000, 5


def pictures(n: int = 12) -> list[bytes]:
    """Different crops of photographs, so that nothing is computed twice."""
    photos = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    found = []
    for i in range(n):
        left, top = 4 * i, 3 * i
        crop = photos[i % 2].crop((left, top, left + 560, top + 373))
        file = io.BytesIO()
        crop.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def for_seconds(
    seconds: float, clients: int, step: Callable[[int], Any]
) -> tuple[list[Any], float]:
    """Call a step from so many threads; what it gives, and how many a second to the last end."""
    results, began_at = [], time.monotonic()
    end = began_at + seconds

    def run(i: int) -> None:
        while time.monotonic() < end:
            results.append(step(i))
            i += clients

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(run, range(clients)))
    return results, len(results) / (time.monotonic() - began_at)


def in_a_loop(
    pool: ProcessPoolExecutor, jpegs: list[bytes], seconds: float, words: dict[str, Any]
) -> float:
    """Pictures a second without a service: one process a processor, each with one thread."""
    runs = [pool.submit(_loop, jpegs, seconds, words) for _ in range(PROCESSORS)]
    return sum(run.result() for run in runs)


def _loop(jpegs: list[bytes], seconds: float, words: dict[str, Any]) -> float:
    """Pictures a second in this process, the first one apart."""
    torch.set_num_threads(1)

    def step(i: int) -> None:
        picture = decode(jpegs[i % len(jpegs)], Limits(max_pixels=10**6))
        quantized = quantize(picture.pixels, K, **words)
        encode(quantized.indices, quantized.palette)

    step(0)
    return for_seconds(seconds, 1, step)[1]


def by_pngquant(jpegs: list[bytes], seconds: float, flags: list[str]) -> float:
    """Pictures a second by pngquant on the decoded PNGs, one process a processor at a time."""
    program = Path(sys.executable).with_name("pngquant")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        files = []
        for i, jpeg in enumerate(jpegs):
            files.append(Path(folder, f"{i}.png"))
            Image.open(io.BytesIO(jpeg)).save(files[-1], compress_level=1)

        def step(i: int) -> None:
            command = [
                program,
                *flags,
                str(K),
                "--output",
                Path(folder, f"out{i % PROCESSORS}.png"),
            ]
            command += ["--force", files[i % len(files)]]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - a rival's

        step(0)
        return for_seconds(seconds, PROCESSORS, step)[1]


def over_http(
    victim: Victim, jpegs: list[bytes], seconds: float, clients: int, query: str = ""
) -> tuple[list[Any], float]:
    return for_seconds(
        seconds,
        clients,
        lambda i: victim.post(jpegs[i % len(jpegs)], f"/compress?{QUERY}{query}"),
    )


class Table:
    """The rows of the report, printed as they come."""

    def __init__(self, out: report.Report) -> None:
        self._out = out
        self._out.say("| what | measured | goal | |\n| --- | --- | --- | --- |")

    def row(self, what: str, measured: str, goal: str, *, held: bool) -> None:
        self._out.data[what] = {"measured": measured, "goal": goal, "held": bool(held)}
        self._out.say(f"| {what} | {measured} | {goal} | {'held' if held else 'missed'} |")


def main() -> None:
    parser = report.parser(__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="of each measurement")
    given = parser.parse_args()
    seconds = given.seconds or (6 if given.quick else 20)
    jpegs = pictures()
    out = report.Report("The service over HTTP", machine.describe(PACKAGES))
    table = Table(out)
    ready_s = np.median([start_to_ready() for _ in range(3)])
    table.row(
        "from start to ready", f"{ready_s:.1f} s", f"{GOAL_READY_S} s", held=ready_s < GOAL_READY_S
    )
    victim = Victim(result_cache_bytes=0, max_jobs=MAX_JOBS, max_client_jobs=MAX_JOBS)
    try:
        victim.wait_until_ready()
        throughput(table, victim, jpegs, seconds, "plain")
        a_second = throughput(table, victim, jpegs, seconds, "dithered")
        answers, rate = at_a_rate(victim, jpegs, seconds, LOAD * a_second)
        overload(table, f"{LOAD} times the load", answers, rate, (MAX_JOBS + 1) / rate)
    finally:
        victim.stop()
    overload_in_seconds(table, jpegs, seconds, a_second)
    fifty_megapixels(table)
    print(out.write(given.out, "service"))


def start_to_ready() -> float:
    """Seconds; the compiled kernels are on the disk already."""
    started_at = time.monotonic()
    victim = Victim()
    try:
        victim.wait_until_ready()
        return time.monotonic() - started_at
    finally:
        victim.stop()


def throughput(
    table: Table, victim: Victim, jpegs: list[bytes], seconds: float, mode: str
) -> float:
    """Pictures a second over HTTP, in a loop and by pngquant, by turns."""
    words, query, flags = MODES[mode]
    over_http(victim, jpegs, 2, PROCESSORS, query)
    rates: dict[str, list[float]] = {"http": [], "loop": [], "pngquant": [], "slow pngquant": []}
    part = seconds / 3
    pool = ProcessPoolExecutor(PROCESSORS, get_context("spawn"))
    in_a_loop(pool, jpegs, 0, words)
    for _ in range(3):  # by turns, since the machine has other things to do
        rates["loop"].append(in_a_loop(pool, jpegs, part, words))
        answers, rate = over_http(victim, jpegs, part, 2 * PROCESSORS, query)
        assert set(answers) == {200}
        rates["http"].append(rate)
        rates["pngquant"].append(by_pngquant(jpegs, part, flags))
        rates["slow pngquant"].append(by_pngquant(jpegs, part, [*flags, "--speed", "3"]))

    pool.shutdown()

    def row(what: str, ours: str, theirs: str, goal: float) -> None:
        one, other = rates[ours], rates[theirs]
        ratio = float(np.median([a / b for a, b in zip(one, other, strict=True)]))
        measured = f"{np.median(one):.1f} a second, {np.median(other):.1f}: {ratio:.2f} times"
        table.row(f"{mode}: {what}", measured, f"{goal} times", held=ratio >= goal)

    row("over HTTP against a loop", "http", "loop", GOAL_SHARE)
    row("over HTTP against pngquant", "http", "pngquant", GOAL_TIMES_PNGQUANT)
    row("a loop against pngquant, speed 3", "loop", "slow pngquant", GOAL_TIMES_SLOW_PNGQUANT)
    return float(np.median(rates["http"]))


def at_a_rate(
    victim: Victim, jpegs: list[bytes], seconds: float, a_second: float
) -> tuple[list[tuple[Any, float]], float]:
    """Send requests at their times; what each gave, and how long it took from its time on.

    Beside them how many a second were answered, of those that were taken.
    """
    started_at = time.perf_counter()
    due = [started_at + i / a_second for i in range(int(seconds * a_second))]

    def ask(i: int) -> tuple[Any, float]:
        status = victim.post(jpegs[i % len(jpegs)], f"/compress?{QUERY}")
        return status, time.perf_counter() - due[i]

    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        asked = []
        for i, at in enumerate(due):
            time.sleep(max(0.0, at - time.perf_counter()))
            asked.append(pool.submit(ask, i))
        answers = [each.result() for each in asked]
    taken = [at + took for at, (status, took) in zip(due, answers, strict=True) if status == 200]
    return answers, len(taken) / (max(taken) - started_at)


def overload_in_seconds(table: Table, jpegs: list[bytes], seconds: float, a_second: float) -> None:
    """Ask a service that bounds its queue in seconds, once it knows how long pictures take."""
    victim = Victim(
        result_cache_bytes=0,
        max_jobs=MANY_JOBS,
        max_client_jobs=MANY_JOBS,
        compute_timeout_s=TIMEOUT_S,
    )
    try:
        victim.wait_until_ready()
        over_http(victim, jpegs, LEARNING_S, 2 * PROCESSORS)
        answers, rate = at_a_rate(victim, jpegs, seconds, LOAD * a_second)
        overload(table, f"{LOAD} times the load, {TIMEOUT_S:g} s at most", answers, rate, TIMEOUT_S)
    finally:
        victim.stop()


def overload(
    table: Table, what: str, answers: list[tuple[Any, float]], rate: float, bound_s: float
) -> None:
    """Tell what became of five times as many requests as can be answered."""
    counts = Counter(status for status, _ in answers)
    assert set(counts) <= {200, 429, 504}, counts
    taken = [took for status, took in answers if status == 200]
    refused = [1e3 * took for status, took in answers if status == 429]
    p99 = float(np.percentile(taken, 99))
    late = f", {counts[504]} x 504" if counts[504] else ""
    measured = f"{len(taken)} taken, {rate:.1f} a second, 99 % within {p99:.2f} s{late}"
    table.row(
        f"{what}: taken", measured, f"{bound_s:.2f} s", held=p99 <= bound_s and not counts[504]
    )
    latest = float(np.percentile(refused, 99))
    half = np.median(refused)
    measured = f"{len(refused)} refused, half within {half:.0f} ms, 99 % {latest:.0f} ms"
    goal = f"{GOAL_REFUSAL_MS} ms"
    table.row(f"{what}: refused", measured, goal, held=latest < GOAL_REFUSAL_MS)


def fifty_megapixels(table: Table) -> None:
    """The memory of a service with default settings, and of its processes, while it is answered.

    Pages that they share are counted once.
    """
    photo = Image.fromarray(load_sample_image("china.jpg")).resize((8640, 5760))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=90)
    peak, done = [0.0], threading.Event()
    victim = Victim()

    def sample() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], victim.proportional_mb())

    sampling = threading.Thread(target=sample)
    try:
        victim.wait_until_ready()
        sampling.start()
        started_at = time.monotonic()
        status = victim.post(file.getvalue(), "/compress?k=64")  # with its curve
        took = time.monotonic() - started_at
    finally:
        done.set()
        victim.stop()
    sampling.join()
    measured = f"{status} in {took:.1f} s, {peak[0]:.0f} MB"
    held = status == 200 and peak[0] < GOAL_MEMORY_MB
    table.row("50 megapixels", measured, f"{GOAL_MEMORY_MB} MB", held=held)


if __name__ == "__main__":
    main()
