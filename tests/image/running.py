"""Running the image as docker-compose.yml hardens it, with what Debian's util-linux has.

A mount and a process namespace of its own, the root file system read-only, a small /tmp where
nothing can be executed, the volume of its cache, no capability and no way to gain one, and the
image's own user, environment and commands; the server is process 1. The network is the machine's.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Self

_MOUNTS = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t proc -o nosuid,nodev,noexec proc "$1/proc"
mount -t tmpfs -o mode=755,nosuid,noexec,size=1m tmpfs "$1/dev"
for device in null zero random urandom; do
    : > "$1/dev/$device"
    mount --bind "/dev/$device" "$1/dev/$device"
done
mount -t tmpfs -o size=64m,mode=1777,noexec,nosuid,nodev tmpfs "$1/tmp"
mount --bind "$2" "$1$3"
root=$1
shift 3
exec chroot "$root" "$@"
"""
_POLL_S = 0.5  # each question costs a second of processor time


class Container:
    """The image's server, running; a context that ends it.

    Args:
        root: Of its file system.
        settings: What the image says of itself, as Docker names it.
        folder: For the volume and the log.
    """

    def __init__(self, root: Path, settings: dict, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.root, self.log = root, folder / "server.log"
        self._settings = settings
        (self._place,) = settings["Volumes"]
        self.volume = folder / "volume"
        shutil.copytree(root / self._place.lstrip("/"), self.volume, copy_function=shutil.copy2)
        user = int(settings["User"].split(":")[0])
        for path in [self.volume, *self.volume.rglob("*")]:
            os.chown(path, user, user)

    def __enter__(self) -> Self:
        """Start the image's command."""
        namespaces = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]
        script = ["sh", "-c", _MOUNTS, "sh", str(self.root), str(self.volume), self._place]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*namespaces, "--kill-child", *script, *self._as_user(self._settings["Cmd"])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def server(self) -> int:
        """The server's process, as this machine numbers it; 0 when it is gone."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(children.read_text().split()[0])
        return 0

    def status(self) -> dict[str, str]:
        """What the kernel says of the server's process: its user, its capabilities, its memory."""
        lines = Path(f"/proc/{self.server}/status").read_text().splitlines()
        return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the image's user, beside the server: `docker exec`."""
        inside = ["nsenter", f"--target={self.server}", "--mount", "--pid", "--root", "--wd"]
        return subprocess.run(
            [*inside, *self._as_user(list(command))], capture_output=True, text=True, check=False
        )

    def wait_until_ready(self, timeout_s: float) -> float:
        """Ask inside by `gpu-kmeans health --ready`; give the seconds until it said yes.

        Raises:
            TimeoutError: It does not become ready, or has ended.
        """
        began = time.monotonic()
        while time.monotonic() - began < timeout_s and self._process.poll() is None:
            if self.server and not self.run("gpu-kmeans", "health", "--ready").returncode:
                return time.monotonic() - began
            time.sleep(_POLL_S)
        raise TimeoutError(f"not ready after {timeout_s} s; its log ends:\n{self.tail()}")

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """Send a request and give the answer's body. Raises HTTPError unless it is a success."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=120) as response:
            return response.read()

    def stop(self, grace_s: float) -> tuple[int, float]:
        """Send SIGTERM and wait; give the exit code and the seconds it took.

        Raises:
            subprocess.TimeoutExpired: It runs on.
        """
        began = time.monotonic()
        os.kill(self.server, signal.SIGTERM)
        return self._process.wait(grace_s), time.monotonic() - began

    def tail(self) -> str:
        """Give the end of what the server said."""
        return self.log.read_text(errors="replace")[-3000:]

    def _as_user(self, command: list[str]) -> list[str]:
        """Put what `docker run` does before a command: the user, no capability, the environment."""
        user = self._settings["User"].split(":")[0]
        identity = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        bare = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        environment = [*self._settings["Env"], f"GPU_KMEANS_PORT={self.port}"]
        return ["/usr/bin/setpriv", *identity, *bare, "/usr/bin/env", "-i", *environment, *command]
