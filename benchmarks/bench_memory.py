"""How much memory the service takes, for whoever sets its limit: the server and its processes.

    python -m benchmarks.bench_memory

Resident memory, sampled every 50 ms, at most during each row; pages that processes share are
counted once, as a limit counts them. Pictures are photographs with noise, since many
distinct colours take most. Each is asked with a seed of its own, so that nothing is kept. The rows
follow one another in one server: what an earlier one left behind is in a later one.
"""

import contextlib
import io
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from sklearn.datasets import load_sample_image

from benchmarks import machine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/abuse"))
from victim import TIMEOUT_S, Victim

SIZES = {2: (1732, 1155), 12: (4243, 2828), 50: (8640, 5760)}  # megapixels: width and height
ROWS = [(2, 1), (2, 16), (12, 1), (12, 4), (50, 1), (50, 2)]  # megapixels, at once
NOISE = 4  # standard deviation, in levels: a telephone's at dusk
PACKAGES = ["torch", "numpy", "numba", "pillow", "uvicorn"]


def photograph(megapixels: int) -> bytes:
    photo = Image.fromarray(load_sample_image("china.jpg")).resize(SIZES[megapixels])
    noise = np.random.default_rng(0).normal(0, NOISE, (1024, 1024, 3))
    width, height = SIZES[megapixels]
    tiled = np.tile(noise, (height // 1024 + 1, width // 1024 + 1, 1))[:height, :width]
    pixels = np.clip(np.asarray(photo) + tiled.round(), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def peak_mb(victim: Victim, picture: bytes, at_once: int) -> tuple[float, Counter[int | str]]:
    """The most memory while so many requests are under way, and their answers."""
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            with contextlib.suppress(psutil.NoSuchProcess):  # a decoder that was just replaced
                peak[0] = max(peak[0], victim.proportional_mb())

    sampling = threading.Thread(target=sample)
    sampling.start()

    def ask(_: int) -> int | str:
        try:
            return victim.post(picture)
        except TimeoutError:
            return f"nothing in {TIMEOUT_S} s"

    with ThreadPoolExecutor(at_once) as threads:
        answers = Counter(threads.map(ask, range(at_once)))
    done.set()
    sampling.join()
    return peak[0], answers


def main() -> None:
    facts = machine.describe(PACKAGES)
    print(*(f"{name}: {fact}" for name, fact in facts.items()), sep="\n")
    victim = Victim()
    try:
        victim.wait_until_ready()
        print("\n| what | answers | MB |\n| --- | --- | ---: |")
        print(f"| ready, idle | | {victim.proportional_mb():.0f} |")
        for megapixels, at_once in ROWS:
            peak, answers = peak_mb(victim, photograph(megapixels), at_once)
            told = ", ".join(f"{n} x {status}" for status, n in answers.items())
            print(
                f"| {megapixels} megapixels, {at_once} at once | {told} | {peak:.0f} |", flush=True
            )
        print(f"| idle again | | {victim.proportional_mb():.0f} |")
    finally:
        victim.stop()


if __name__ == "__main__":
    main()
