"""A real server on a loopback port, in a thread or in a process of its own, and raw connections."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import uvicorn

from app.protocol import ReceiptLimits, guarded

QUICK = ReceiptLimits(
    header_timeout_s=0.4,
    receive_timeout_s=3.0,
    min_bytes_per_s=20_000,
    grace_s=0.4,
    max_header_bytes=8192,
    max_connections=20,
    tick_s=0.05,
)


def wait_until(condition, seconds=30):
    """Wait for something another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@contextlib.contextmanager
def served(app, limits=QUICK, on_refusal=None):
    """Serve an application; give its address."""
    config = uvicorn.Config(
        app,
        port=0,
        loop="asyncio",  # as app.server has it
        http=guarded(limits, on_refusal),
        log_level="critical",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield server.servers[0].sockets[0].getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def connected(address, seconds=20):
    """Open a raw connection."""
    with socket.create_connection(address, timeout=seconds) as connection:
        yield connection


def answer_to(connection):
    """Read until the server has nothing more to say; its reset is an end too."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def one_answer(connection):
    """Read one answer, of the length it declares."""
    raw = b""
    while not (head := re.match(rb"(?s).*?content-length: (\d+).*?\r\n\r\n", raw)) or len(
        raw
    ) < head.end() + int(head[1]):
        part = connection.recv(65536)
        assert part, raw
        raw += part
    return raw


def status_of(raw):
    """The status of a raw answer; None where there is none."""
    match = re.match(rb"HTTP/1\.1 (\d+)", raw)
    return int(match[1]) if match else None


def post(path, body=b"", headers=""):
    """Write a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@contextlib.contextmanager
def server_process(**settings):
    """Run the real command; give the process and its address. It is gone afterwards."""
    env = {f"GPU_KMEANS_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [Path(sys.executable).parent / "gpu-kmeans", "serve"],
        env={**os.environ, "GPU_KMEANS_PORT": "0", **env},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
    try:
        while not (match := re.search(r"running on http://([\d.]+):(\d+)", "".join(lines))):
            line = process.stderr.readline()
            assert line, "".join(lines)
            lines.append(line)
        reader.start()
        process.lines = lines
        yield process, (match[1], int(match[2]))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        if reader.is_alive():
            reader.join()
        process.stderr.close()
