"""Sends many mixed requests and compares memory: `make soak`, `ARGS=2000` for fewer."""

import json
import sys
import time
from collections import Counter

import attacks
import numpy as np
from victim import Victim

FIRST = 1000
MOST_GROWTH = 1.05
BATCH = 250


def main(n_requests=20_000):
    # Kept answers are memory that is meant to fill: here they have, before the first reading.
    victim = Victim(max_client_jobs=64, result_cache_bytes=2 * 2**20)
    begun_at, first_mb = time.monotonic(), 0.0
    try:
        victim.wait_until_ready()
        for sent in range(BATCH, n_requests + 1, BATCH):
            answers = send(victim, sent)
            resident_mb = victim.memory_mb()
            seconds = time.monotonic() - begun_at
            server_mb = victim.ps.memory_info().rss / 1e6
            print(
                f"{sent:6d} {seconds:7.0f} s {resident_mb:7.0f} MB, the server {server_mb:.0f}; "
                f"{dict(answers)}",
                flush=True,
            )
            if sent == FIRST:
                first_mb = resident_mb
    finally:
        code = victim.stop()
    print(f"{first_mb:.0f} MB after {FIRST}, {resident_mb:.0f} MB after {n_requests}")
    return int(code != 0 or resident_mb > MOST_GROWTH * first_mb)


def send(victim, sent):
    """Pictures of several sizes and formats, every door, plots, and some that are refused."""
    rng = np.random.default_rng(sent)
    formats = ["PNG", "JPEG", "WEBP", "GIF", "BMP"]
    pictures = [
        attacks.encoded(
            attacks.photo(*rng.integers(8, 200, 2), seed=int(rng.integers(1 << 30))), name
        )
        for name in formats
    ]
    fifth = BATCH // 5
    answers = victim.post_all(pictures * (fifth // 5), "/compress?k=16", parallel=4)
    answers += victim.post_all(pictures * (fifth // 5), "/compress?curve=false", parallel=4)
    answers += victim.post_all(pictures * (fifth // 5), "/palette?k=8", parallel=4)
    answers += victim.post_all(pictures * (fifth // 5), "/elbow?k_max=8", parallel=4)
    answers += victim.post_all([each[:100] for each in pictures] * (fifth // 5 - 1), parallel=4)
    points = json.dumps({"points": rng.normal(size=(200, 2)).tolist()}).encode()
    plots = [
        ("/plots/before-after?k=16", pictures[0]),
        ("/plots/cube?k=8", pictures[1]),
        ("/plots/steps?k=4", points),
        ("/plots/trap?k=4&starts=5", points),
        ("/elbow?k_max=8", points),
    ]
    headers = {"Accept": "image/svg+xml" if sent // BATCH % 2 else "image/png"}
    return answers + Counter(victim.request("POST", path, body, headers)[0] for path, body in plots)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
