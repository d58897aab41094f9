"""A server to attack, watched while it is: its health, its memory, its answers."""

import contextlib
import http.client
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SERVER = Path(__file__).with_name("faulty_server.py")
PROBE = Path(__file__).with_name("probe.py")
NO_ANSWER = "cut off"  # closed without an answer
TIMEOUT_S = 150
SAMPLE_EVERY_S = 0.1


@dataclass
class Outcome:
    """What an attack met."""

    name: str
    answers: Counter = field(default_factory=Counter)
    seconds: float = 0.0
    peak_mb: float = 0.0
    health_ms: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Victim:
    """One server process."""

    def __init__(self, **settings):
        env = {f"GPU_KMEANS_{name.upper()}": str(value) for name, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, SERVER],
            env={**os.environ, "GPU_KMEANS_PORT": "0", "GPU_KMEANS_LOG_LEVEL": "info", **env},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = []
        self.seeds = itertools.count()
        while not (match := re.search(r"http://([\d.]+):(\d+)", "".join(self.lines))):
            line = self.process.stderr.readline()
            if not line:
                raise RuntimeError("".join(self.lines))
            self.lines.append(line)
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()
        self.address = match[1], int(match[2])
        self.ps = psutil.Process(self.process.pid)

    def wait_until_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if self.get("/readyz")[0] == 200:
                    return
            time.sleep(0.05)
        raise TimeoutError("the server did not get ready")

    def get(self, path, timeout=5):
        return self.request("GET", path, timeout=timeout)[:2]

    def request(self, method, path, body=None, headers=None, timeout=TIMEOUT_S):
        """Status, body and headers; the status is NO_ANSWER where there is none."""
        connection = http.client.HTTPConnection(*self.address, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        except (http.client.HTTPException, ConnectionError):
            return NO_ANSWER, b"", {}
        finally:
            connection.close()

    def post(self, body, path="/compress?curve=false", headers=None):
        """Ask what was not asked before, so that no kept answer comes."""
        return self.request("POST", f"{path}&seed={next(self.seeds)}", body, headers)[0]

    def post_all(self, bodies, path="/compress?curve=false", parallel=8):
        with ThreadPoolExecutor(parallel) as pool:
            return Counter(pool.map(lambda body: self.post(body, path), bodies))

    def raw(self, *parts, pause_s=0.0, timeout=TIMEOUT_S):
        """Send bytes as they are; the status that comes back."""
        received = b""
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(self.address, timeout=timeout) as connection,
        ):
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause_s)
            while chunk := connection.recv(65536):
                received += chunk
                if b"\r\n\r\n" in received:
                    break
        match = re.match(rb"HTTP/1\.1 (\d+)", received)
        return int(match[1]) if match else NO_ANSWER

    def children(self):
        return self.ps.children(recursive=True)

    def decoders(self):
        return [each for each in self.children() if "app.decoder_process" in each.cmdline()]

    def lanes(self):
        return [each for each in self.children() if "tests.abuse.faulty_lane" in each.cmdline()]

    def memory_mb(self):
        total = 0
        for process in [self.ps, *self.children()]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total / 1e6

    def proportional_mb(self):
        """As a limit counts it: what processes share is shared among them. Slow to find out."""
        total = 0
        for process in [self.ps, *self.children()]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / 1e6

    def number(self, name):
        lines = self.get("/metrics")[1].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " "))

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


@contextlib.contextmanager
def watched(victim, outcome):
    """Note health and memory of the server every few milliseconds, and how long it all took."""
    stop = threading.Event()
    probe = subprocess.Popen(
        [sys.executable, PROBE, victim.address[0], str(victim.address[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def sample():
        is_over = False
        while not is_over:
            is_over = stop.wait(SAMPLE_EVERY_S)  # and once more, however short it was
            with contextlib.suppress(psutil.Error):
                outcome.peak_mb = max(outcome.peak_mb, victim.memory_mb())

    sampling = threading.Thread(target=sample)
    sampling.start()
    probe.stdout.readline()  # from before the attack: now it may begin
    started_at = time.perf_counter()
    try:
        yield
    finally:
        outcome.seconds = time.perf_counter() - started_at
        stop.set()
        sampling.join()
        for line in probe.communicate()[0].splitlines():
            status, milliseconds = line.split()
            outcome.health_ms.append(float(milliseconds))
            if status != "200":
                outcome.complaints.append(f"health: {status}")
