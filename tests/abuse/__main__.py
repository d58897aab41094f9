"""Attacks a real server on a loopback port and writes docs/abuse.md: `make test-abuse`.

It fails on an answer of 5xx that was not the fault asked for, a crash, a hang, or a job that was
let in and lost. Health and memory are written down, not judged: the machine decides them too.
"""

import contextlib
import os
import platform
import resource
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import attacks
import numpy as np
import oddities
import plot_attacks
from victim import NO_ANSWER, Outcome, Victim, watched

from gpu_kmeans import __version__

DOCUMENT = Path(__file__).parents[2] / "docs/abuse.md"
PAGE = """# Under attack

`make test-abuse` starts the real server on a loopback port, attacks it and writes this page.
It fails on an answer of 5xx other than the fault that was built in, a crash, a hang, or a lost job.
After each attack an ordinary picture has to be answered, and nothing may be left under way.
Memory is that of the server and its processes together; pages that they share are counted for each.
Health is `GET /healthz` on a new connection every 25 ms: median and 99th percentile.

Version {version}, {made}, {today}; the attacker runs on the same processors.

| attack | answers | seconds | peak MB | health, ms | |
| --- | --- | --- | --- | --- | --- |
{rows}

`cut off` is a connection closed without an answer: its client had gone or asked for nothing yet.
"""
ATTACKS = [
    (
        "decompression bombs: PNG of 88 and 3600 megapixels, profiles and texts of 200 MB, nested "  # noqa: ISC004
        "ones, WebP, GIF of 3000 frames",
        attacks.bombs,
        set(),
    ),
    ("PNG broken as the x files of PngSuite are", attacks.broken_pngs, set()),
    ("a JPEG cut at every 256th byte", attacks.cut_jpegs, set()),
    ("mutated PNG, JPEG, WebP, GIF and BMP for 30 s", attacks.mutations, set()),
    ("40 MB of headers, in one, in many, as trailers", attacks.long_headers, set()),
    (
        "150 slow senders: half a line, dripping headers, dripping bodies",
        attacks.slow_senders,
        set(),
    ),
    ("bodies longer, shorter and far longer than declared", attacks.wrong_lengths, set()),
    ("chunks without end", attacks.endless_chunks, set()),
    ("1000 uploads, 200 at a time", attacks.parallel_uploads, set()),
    ("100 clients that vanish", attacks.vanishing_clients, set()),
    ("points: 4 MiB, a million brackets, 1e308", attacks.points, set()),
    (
        "requests to be read in two ways: both lengths, upgrades, nonsense behind them",
        oddities.two_readings,
        set(),
    ),
    ("odd names: traversal, NUL, surrogates, 7000 parameters", oddities.odd_names, set()),
    ("odd forms: 200,000 parts, nested, near boundaries, file names", oddities.odd_forms, set()),
    ("1500 connections that say nothing", oddities.idle_connections, set()),
    ("the dearest requests, whose clients leave", oddities.dearest_requests, set()),
    ("plots of hostile tables, every k, the wrong kind", plot_attacks.hostile_tables, set()),
    ("plots of bombs: 49 megapixels, 10 million rows", plot_attacks.bombs, set()),
    ("plots of 400,000 points, and of 100,000 clusters", plot_attacks.large_tables, set()),
    ("32 plots at once", plot_attacks.many_at_once, set()),
    ("the dearest plots, whose clients leave", plot_attacks.leaving_clients, set()),
    ("decoders stopped in the middle (SIGSTOP)", attacks.hung_decoder, set()),
    ("decoders killed every second (SIGKILL)", attacks.killed_decoders, set()),
    ("what computes beside the server killed every 2.5 s (SIGKILL)", attacks.killed_lanes, set()),
    ("the engine raising (a fault built in)", attacks.broken_engine, {500}),
    ("the engine without memory (a fault built in)", attacks.engine_without_memory, {503}),
]


def main(only=""):
    """Make every attack and write the page; or those only whose name holds some words."""
    victim = Victim(decode_timeout_s=5, max_client_jobs=64)
    outcomes = []
    try:
        victim.wait_until_ready()
        for name, attack, faults in ATTACKS:
            if only in name:
                outcomes.append(judge(victim, name, attack, faults))
    finally:
        code = victim.stop()
    if code:
        outcomes[-1].complaints.append(f"the server ended with {code}")
    if not only:
        outcomes += [full_disk(), stopped_under_load()]
        DOCUMENT.write_text(report(outcomes))
    print(report(outcomes))
    return int(any(outcome.complaints for outcome in outcomes))


def judge(victim, name, attack, faults):
    outcome = Outcome(name)
    with watched(victim, outcome):
        outcome.answers = attack(victim)
    failures = [s for s in outcome.answers if isinstance(s, int) and s >= 500 and s not in faults]
    outcome.complaints += [f"answered {status}" for status in failures]
    if victim.process.poll() is not None:
        outcome.complaints.append("crashed")
        return outcome
    settle(victim, outcome)
    print(
        f"{outcome.seconds:6.1f} s  {name}: {written(outcome.answers)} {outcome.complaints or ''}"
    )
    return outcome


def settle(victim, outcome):
    """Afterwards an ordinary picture is answered and nothing is under way any more."""
    status = victim.post(attacks.encoded(attacks.photo()))
    if status != 200:
        outcome.complaints.append(f"afterwards a picture is answered {status}")
    end = time.monotonic() + 20
    while victim.number("gpu_kmeans_jobs") or victim.number("gpu_kmeans_pixels_in_flight"):
        if time.monotonic() > end:
            outcome.complaints.append("something is under way for ever")
            return
        time.sleep(0.1)


def full_disk():
    """Uploads while the server may write not a byte to any file."""
    victim = Victim()
    try:
        victim.wait_until_ready()
        resource.prlimit(victim.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
        picture = attacks.encoded(noise, compress_level=0)
        part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        form = part + b"%s\r\n--b--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=b"}

        def upload(other):
            return Counter(
                other.post(form % picture, "/palette?k=4&refine=0", headers) for _ in range(3)
            )

        return judge(victim, "uploads of 9 MB while no file can be written", upload, set())
    finally:
        victim.stop()


def stopped_under_load():
    """SIGTERM while 24 clients ask: whoever was let in is answered, then the process ends."""
    victim = Victim(result_cache_bytes=0)
    outcome = Outcome("SIGTERM under load")
    try:
        victim.wait_until_ready()
        pictures = [attacks.encoded(attacks.photo(300, 400, seed)) for seed in range(4)]
        sent_before, term_at = [], threading.Event()

        def ask(i):
            while not term_at.is_set():
                began_before = not term_at.is_set()
                try:
                    status = victim.post(pictures[i % 4])
                except OSError:
                    status = NO_ANSWER
                outcome.answers[status] += 1
                if began_before and status not in {200, 429, 503}:
                    sent_before.append(status)

        clients = [threading.Thread(target=ask, args=(i,)) for i in range(24)]
        with watched(victim, outcome):
            for each in clients:
                each.start()
            time.sleep(3)
            victim.process.send_signal(signal.SIGTERM)
            term_at.set()
            for each in clients:
                each.join()
            victim.process.wait(60)
        outcome.complaints = [
            c for c in outcome.complaints if "Connection" not in c and "cut" not in c
        ]
        outcome.complaints += [f"lost: {status}" for status in sent_before]
    finally:
        with contextlib.suppress(OSError):
            code = victim.stop()
    if code:
        outcome.complaints.append(f"the server ended with {code}")
    return outcome


def written(answers):
    return ", ".join(f"{n} x {status}" for status, n in sorted(answers.items(), key=str))


def report(outcomes):
    rows = [
        f"| {o.name} | {written(o.answers)} | {o.seconds:.1f} | {o.peak_mb:.0f} "
        f"| {np.percentile(o.health_ms, 50):.0f} / {np.percentile(o.health_ms, 99):.0f} "
        f"| {'; '.join(sorted(set(o.complaints))) or 'held'} |"
        for o in outcomes
    ]
    made = f"Python {platform.python_version()}, {len(os.sched_getaffinity(0))} processors"
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return PAGE.format(version=__version__, made=made, today=today, rows="\n".join(rows))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
