"""What Ray costs on one machine: the same requests to `gpu-kmeans serve` and to Ray Serve.

    python -m benchmarks.bench_ray [--quick]

Both servers run at once on the same processors and are asked by turns; their result caches are off.
Latency is that of one client, throughput that of four; the clients share the processors with the
servers. A picture of 16 x 16 pixels has hardly anything to compute: its latency is the way there
and back. Then the counting of `palette --shared`, on its own and on Ray Data.
"""

import asyncio
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image
from sklearn.datasets import load_sample_image

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "GPU_KMEANS_RESULT_CACHE_BYTES": "0"}

import ray
from ray import serve

from app.census import Census, take_census
from app.decoder import Decoder, DecoderLimits
from app.ray_palette import count_on_cluster
from app.ray_serve import Cluster, build
from benchmarks import machine
from benchmarks.report import Report, figure, parser, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/app"))
from servers import server_process

CLIENTS, K = 4, 64
SIZES = {"16 x 16": (16, 16), "768 x 512": (768, 512), "1600 x 1200": (1600, 1200)}
PORT = 18_765
STEPS = ("decode", "kmeans", "encode")
PROCESSORS = len(os.sched_getaffinity(0))


def jpegs(size: tuple[int, int], n: int = 12) -> list[bytes]:
    """Different crops of a photograph in one size."""
    photo, found = Image.fromarray(load_sample_image("china.jpg")), []
    for i in range(n):
        file = io.BytesIO()
        crop = photo.crop((4 * i, 3 * i, 4 * i + 560, 3 * i + 373))
        crop.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


@contextlib.contextmanager
def ray_server() -> Iterator[str]:
    ray.init(num_cpus=2 * PROCESSORS + 3, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    engines = {"min_engines": PROCESSORS, "max_engines": PROCESSORS}
    serve.run(build(Cluster(ingress_cpus=0, **engines)), name="bench")
    yield f"http://127.0.0.1:{PORT}"
    serve.shutdown()
    ray.shutdown()


def ask(
    address: str, bodies: list[bytes], seconds: float, clients: int
) -> tuple[list[float], float]:
    """Ask from so many clients; how long each answer took, and how many there were a second."""
    begun_at, took = time.monotonic(), []
    end = begun_at + seconds

    def run(first: int) -> None:
        with httpx.Client(base_url=address, timeout=120) as client:
            i = first
            while time.monotonic() < end:
                begun = time.perf_counter()
                answer = client.post(
                    f"/compress?k={K}&curve=false&effort=0", content=bodies[i % len(bodies)]
                )
                took.append(time.perf_counter() - begun)
                assert answer.status_code == 200, answer.text
                i += clients

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(run, range(clients)))
    return took, len(took) / (time.monotonic() - begun_at)


def memory_mb(processes: Iterable[psutil.Process]) -> float:
    """Memory of some processes and those they started, pages they share counted in parts."""
    family = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            family |= {each.pid: each for each in [process, *process.children(recursive=True)]}
    total = 0
    for process in family.values():
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 2**20


def processes_of_ray() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if command.startswith("ray::") or "/site-packages/ray/" in command:
                yield process


def steps(report: Report, address: str) -> None:
    """Say where the time goes in one process, one picture after the other."""
    rows = []
    for name, size in SIZES.items():
        bodies = jpegs(size)
        with httpx.Client(base_url=address, timeout=120) as client:
            path = f"/compress?k={K}&curve=false&effort=0"
            timings = [client.post(path, content=body).json()["timing_ms"] for body in bodies]
        spent = {step: float(np.median([each[step] for each in timings])) for step in STEPS}
        report.data[f"{name} steps_ms"] = spent
        rows.append([name, *(figure(spent[step]) for step in STEPS)])
    report.say(table(["picture", *(f"{step}, ms" for step in STEPS)], rows) + "\n")


def compare(report: Report, plain: str, on_ray: str, seconds: float) -> None:
    rows = []
    for name, size in SIZES.items():
        bodies, found = jpegs(size), {}
        for clients in (1, CLIENTS):
            found[clients] = {plain: [], on_ray: []}
            for address in (plain, on_ray):
                ask(address, bodies, 1, clients)
            for _ in range(3):
                for address, took in found[clients].items():
                    took.append(ask(address, bodies, seconds / 3, clients))
        alone = [np.concatenate([took for took, _ in found[1][a]]) for a in (plain, on_ray)]
        latencies = [float(1e3 * np.median(took)) for took in alone]
        late = [float(1e3 * np.quantile(took, 0.95)) for took in alone]
        rates = [float(np.median([rate for _, rate in found[CLIENTS][a]])) for a in (plain, on_ray)]
        report.data[name] = {"latency_ms": latencies, "p95_ms": late, "per_second": rates}
        rows.append(
            [
                name,
                *(figure(value) for value in latencies),
                *(figure(value) for value in late),
                *(figure(value) for value in rates),
                f"{rates[1] / rates[0]:.2f}",
            ]
        )
    head = ["picture", "ms, plain", "ms, Ray", "95 %, plain", "95 %, Ray"]
    head += ["a second, plain", "a second, Ray", "Ray / plain"]
    report.say(table(head, rows) + "\n")


def count(report: Report, pictures: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for i in range(pictures):
            (Path(folder) / f"{i}.jpg").write_bytes(jpegs((768, 512), 1 + i % 24)[-1])
        decoder = Decoder(DecoderLimits(max_pixels=10**7), processes=PROCESSORS)
        begun = time.perf_counter()
        census = asyncio.run(take_census(Path(folder), decoder, Census.empty()))
        plain_s = time.perf_counter() - begun
        decoder.close()
        begun = time.perf_counter()
        counted = count_on_cluster(folder, workers=2, max_pixels=10**7)
        ray_s = time.perf_counter() - begun
    assert (census.tally.keys == counted.tally.keys).all()
    assert (census.tally.moments == counted.tally.moments).all()
    report.data["counting"] = {"pictures": pictures, "plain_s": plain_s, "ray_s": ray_s}
    report.say(
        f"Counting the colours of {pictures} pictures of 768 x 512, two at once: "
        f"{pictures / plain_s:.1f} a second on its own, {pictures / ray_s:.1f} with Ray Data, "
        "its start included; the sums are equal.\n"
    )


def main() -> None:
    arguments = parser(__doc__ or "").parse_args()
    seconds = 6.0 if arguments.quick else 12.0
    report = Report("Ray Serve beside plain serving", machine.describe(["ray", "uvicorn", "torch"]))
    report.say(
        f"k = {K}, `curve=false&effort=0`, result caches off; latency with one client, throughput "
        f"with {CLIENTS}; medians of three turns. Ray: one ingress replica, {PROCESSORS} engines "
        "of one processor, HTTP by Ray Serve's proxy.\n"
    )
    with server_process(result_cache_bytes=0) as (process, (host, port)):
        begun = time.monotonic()
        with ray_server() as on_ray:
            report.data["ray_start_s"] = start_s = time.monotonic() - begun
            compare(report, f"http://{host}:{port}", on_ray, seconds)
            steps(report, f"http://{host}:{port}")
            plain_mb = memory_mb([psutil.Process(process.pid)])
            ray_mb = memory_mb(processes_of_ray())
            report.data["memory_mb"] = [plain_mb, ray_mb]
            report.say(
                f"Ray and the service on it took {start_s:.0f} s to start. Memory: "
                f"{plain_mb:.0f} MB plain, {ray_mb:.0f} MB with all of Ray's processes.\n"
            )
            count(report, 48 if arguments.quick else 144)
    print(report.write(arguments.out, "ray"))


if __name__ == "__main__":
    main()
