"""The service over HTTP, against its own parts called in a loop, and what it promises under load.

    python -m benchmarks.bench_service [--seconds 20]

Measured on a server of its own on a loopback port, with the result cache off: pictures a second of
768 x 512 JPEG at k = 64, `curve=false`, `effort=0`, against decode, `quantize` and encode called on
every processor, and against pngquant at its default speed, run on every processor on the decoded
PNGs; then five times as many clients as it has room for; then 50 megapixels; and the time from
start to ready. The clients share the processors with the server.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from app.codecs import Limits, decode
from app.encoders import encode
from gpu_kmeans import quantize

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/abuse"))
from victim import Victim

WIDTH, HEIGHT, K = 768, 512, 64
QUERY = f"k={K}&curve=false&effort=0"  # as `encode` is called in the loop
PROCESSORS = len(os.sched_getaffinity(0))
GOAL_TIMES_PNGQUANT = 2
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
) -> list[tuple[Any, float]]:
    """Call a step from so many threads; what it gives and how long each took."""
    results, end = [], time.monotonic() + seconds

    def run(i: int) -> None:
        while time.monotonic() < end:
            started_at = time.perf_counter()
            result = step(i)
            results.append((result, time.perf_counter() - started_at))
            i += clients

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(run, range(clients)))
    return results


def in_a_loop(jpegs: list[bytes], seconds: float) -> float:
    """Pictures a second without a service: one thread a processor, each picture with one."""

    def step(i: int) -> None:
        torch.set_num_threads(1)
        picture = decode(jpegs[i % len(jpegs)], Limits(max_pixels=10**6))
        quantized = quantize(picture.pixels, K)
        encode(quantized.indices, quantized.palette)

    step(0)
    return len(for_seconds(seconds, PROCESSORS, step)) / seconds


def by_pngquant(jpegs: list[bytes], seconds: float) -> float:
    """Pictures a second by pngquant on the decoded PNGs, one process a processor at a time."""
    program = Path(sys.executable).with_name("pngquant")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        files = []
        for i, jpeg in enumerate(jpegs):
            files.append(Path(folder, f"{i}.png"))
            Image.open(io.BytesIO(jpeg)).save(files[-1], compress_level=1)

        def step(i: int) -> None:
            command = [program, str(K), "--output", Path(folder, f"out{i % PROCESSORS}.png")]
            command += ["--force", files[i % len(files)]]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - a rival's

        step(0)
        return len(for_seconds(seconds, PROCESSORS, step)) / seconds


def over_http(
    victim: Victim, jpegs: list[bytes], seconds: float, clients: int
) -> list[tuple[Any, float]]:
    return for_seconds(
        seconds,
        clients,
        lambda i: victim.post(jpegs[i % len(jpegs)], f"/compress?{QUERY}"),
    )


def row(what: str, measured: str, goal: str, *, held: bool) -> None:
    print(f"| {what} | {measured} | {goal} | {'held' if held else 'missed'} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    jpegs = pictures()
    started_at = time.monotonic()
    victim = Victim(result_cache_bytes=0, max_jobs=16, max_client_jobs=16)
    try:
        victim.wait_until_ready()
        ready_s = time.monotonic() - started_at
        print("| what | measured | goal | |\n| --- | --- | --- | --- |")
        row(
            "from start to ready",
            f"{ready_s:.1f} s",
            f"{GOAL_READY_S} s",
            held=ready_s < GOAL_READY_S,
        )
        throughput(victim, jpegs, seconds)
        overload(victim, jpegs, seconds)
        fifty_megapixels(victim)
    finally:
        victim.stop()


def throughput(victim: Victim, jpegs: list[bytes], seconds: float) -> None:
    over_http(victim, jpegs, 2, PROCESSORS)
    loops, services, rivals = [], [], []
    for _ in range(3):  # by turns, since the machine has other things to do
        loops.append(in_a_loop(jpegs, seconds / 3))
        answers = over_http(victim, jpegs, seconds / 3, 2 * PROCESSORS)
        assert {status for status, _ in answers} == {200}
        services.append(len(answers) / (seconds / 3))
        rivals.append(by_pngquant(jpegs, seconds / 3))
    loop, service, rival = np.median(loops), np.median(services), np.median(rivals)
    measured = f"{service:.1f} a second, {loop:.1f} in a loop: {service / loop:.0%}"
    row("pictures over HTTP", measured, f"{GOAL_SHARE:.0%}", held=service >= GOAL_SHARE * loop)
    measured = f"{service:.1f} a second, {rival:.1f} by pngquant: {service / rival:.2f} times"
    held = service >= GOAL_TIMES_PNGQUANT * rival
    row("the same against pngquant", measured, f"{GOAL_TIMES_PNGQUANT} times", held=held)


def overload(victim: Victim, jpegs: list[bytes], seconds: float) -> None:
    answers = over_http(victim, jpegs, seconds, 5 * 16)
    counts = Counter(status for status, _ in answers)
    taken = [took for status, took in answers if status == 200]
    refused = [1e3 * took for status, took in answers if status == 429]
    assert set(counts) <= {200, 429}, counts
    p99 = np.percentile(taken, 99)
    bound_s = 17 * seconds / len(taken)  # a full queue, and the job itself
    measured = f"{len(taken)} taken, 99 % within {p99:.2f} s"
    row("5 times the load: taken", measured, f"{bound_s:.2f} s", held=p99 <= 1.5 * bound_s)
    late = np.percentile(refused, 99)
    measured = (
        f"{len(refused)} refused, half within {np.median(refused):.0f} ms, 99 % {late:.0f} ms"
    )
    row("5 times the load: refused", measured, f"{GOAL_REFUSAL_MS} ms", held=late < GOAL_REFUSAL_MS)


def fifty_megapixels(victim: Victim) -> None:
    photo = Image.fromarray(load_sample_image("china.jpg")).resize((8640, 5760))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=90)
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], victim.memory_mb())

    sampling = threading.Thread(target=sample)
    sampling.start()
    started_at = time.monotonic()
    status = victim.post(file.getvalue())
    took = time.monotonic() - started_at
    done.set()
    sampling.join()
    measured = f"{status} in {took:.1f} s, {peak[0]:.0f} MB"
    held = status == 200 and peak[0] < GOAL_MEMORY_MB
    row("50 megapixels", measured, f"{GOAL_MEMORY_MB} MB", held=held)


if __name__ == "__main__":
    main()
