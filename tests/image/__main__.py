"""Build the container image, run it as it is to be run, and see that it holds what it promises.

Needs root, Debian and its packages, and pip; no Docker engine, no image registry, no terminal.
BASE_IMAGE names an image to build on where a registry can be reached; a bare Debian otherwise.
Prints a line for each step with its seconds; ends with 1 at the first that fails.
"""

import base64
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from building import (
    HOME,
    ROOT,
    Builder,
    CannotRunError,
    install_tools,
    named_paths,
    pip_settings,
    revision,
)
from running import Container

PHOTO = (ROOT / "app/web/sample/flower.jpg").read_bytes()
PHOTO_SIZE = (640, 427)
GRACE = re.search(r"stop_grace_period: (\d+)s", (ROOT / "docker-compose.yml").read_text())
READY_S = 180  # a loaded machine; the time it took is printed
AT_ONCE = 4  # requests under way when the server is told to stop
MIB = 2**20
CUDA = re.compile(
    r"^(lib(cuda|cublas|cudnn|cufft|curand|cusolver|cusparse|nccl|nvrtc|nvJit).*|nvidia|triton)$"
)
COMPILERS = re.compile(r"^([\w-]+-)?(gcc|g\+\+|cc|c\+\+|clang|cc1|tcc|nvcc|ld|as|strip)(-\d+)?$")
LABELS = ("title", "description", "licenses", "version", "revision")


@contextmanager
def step(name: str) -> Iterator[Callable[[str], None]]:
    """Print what is done, the seconds it took and what it found."""
    began, found = time.monotonic(), []
    yield found.append
    print(
        f"{time.monotonic() - began:7.1f} s  {name}{': ' if found else ''}{', '.join(found)}",
        flush=True,
    )


def expect(holds: object, message: str) -> None:
    """End the test unless something holds."""
    if not holds:
        raise CannotRunError(message)


def files_of(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything in a file system: what changes when somebody writes there."""
    found = {}
    for folder, _, names in os.walk(root):
        for path in [folder, *(f"{folder}/{name}" for name in names)]:
            of = os.lstat(path)
            found[path] = (of.st_mode, of.st_uid, of.st_size, of.st_mtime_ns, of.st_ino)
    return found


def mib(paths: dict[str, tuple[int, ...]], beginning: str = "") -> float:
    """The size of files below a path, in MiB."""
    return sum(of[2] for path, of in paths.items() if path.startswith(beginning)) / MIB


def look_at_settings(settings: dict) -> None:
    """What Docker, a registry and an operator read off the image."""
    labels = settings["Labels"]
    expect(settings["User"].split(":")[0].isdigit(), f"the user is no number: {settings['User']}")
    expect(int(settings["User"].split(":")[0]) >= 1000, "the user is the system's")
    expect(settings["Healthcheck"]["Test"] == ["CMD", "gpu-kmeans", "health"], "no health check")
    for name in LABELS:
        expect(labels.get(f"org.opencontainers.image.{name}"), f"no label {name}")
    expect(labels["org.opencontainers.image.revision"] == revision(), "another revision")
    lent = re.compile(r"PIP_(CERT|INDEX|FIND|EXTRA)|\w*(_CERT|_PROXY)", re.IGNORECASE)
    kept = [each for each in settings["Env"] if lent.match(each)]
    expect(not kept, f"settings of the build were kept: {kept}")


def look_at_files(root: Path, files: dict[str, tuple[int, ...]]) -> None:
    """What must not be in an image."""
    names = {path: path.rsplit("/", 1)[-1] for path in files}
    cuda = [path for path, name in names.items() if CUDA.match(name)]
    compilers = [path for path, name in names.items() if COMPILERS.match(name) and "/bin/" in path]
    expect(not cuda, f"CUDA: {cuda[:5]}")
    expect(not compilers, f"compilers: {compilers[:5]}")
    for path in named_paths(pip_settings()):
        # Certificates are the base's own; anything else of the build must be gone.
        inside = root / str(path).lstrip("/")
        expect("certs" in path.parts or not inside.exists(), f"{path} of the build is in the image")
    expect(not (root / HOME.lstrip("/") / ".config").exists(), "pip's settings are in the image")
    odd = [path for path, of in files.items() if of[0] & 0o6000 and "/opt/" in path]
    expect(not odd, f"set-user-id files of ours: {odd}")


def look_at_answers(container: Container) -> str:
    """A photograph through every door; says how the first went."""
    answer = json.loads(container.ask("/compress?k=16", PHOTO))
    picture = base64.b64decode(answer["image"]["data"])
    expect(picture[:8] == b"\x89PNG\r\n\x1a\n", "the picture is no PNG")
    expect(struct.unpack(">II", picture[16:24]) == PHOTO_SIZE, "the picture has another size")
    at = picture.index(b"PLTE")
    expect(struct.unpack(">I", picture[at - 4 : at])[0] == 3 * 16, "there are not 16 colours")
    count = sum(entry["count"] for entry in answer["palette"])
    expect(count == PHOTO_SIZE[0] * PHOTO_SIZE[1], "the counts do not add up to the pixels")
    curve = [point["wcss"] for point in answer["wcss_curve"]]
    expect(curve == sorted(curve, reverse=True), "the curve rises")
    exact = json.loads(container.ask("/compress?k=16&space=rgb&dither=0", PHOTO))
    expect(exact["psnr_db"] > 29, f"a PSNR of {exact['psnr_db']} dB")
    for query in ("compress?k=9&dither=1&space=oklab", "compress?k=9&format=webp", "palette?k=9"):
        container.ask(f"/{query}", PHOTO)
    plot = container.ask("/elbow?k_max=6", PHOTO, Accept="image/png")
    expect(plot.startswith(b"\x89PNG"), "the plot is no PNG")
    points = {"points": [[0, 0], [0, 1], [9, 9], [9, 8]]}
    clusters = json.loads(container.ask("/cluster?k=2", json.dumps(points).encode()))
    expect(clusters["labels"][0] == clusters["labels"][1] != clusters["labels"][2], "odd clusters")
    expect(b"<title>" in container.ask("/"), "no page")
    return f"PSNR {exact['psnr_db']:.2f} dB, {answer['timing_ms']['kmeans']:.0f} ms of k-means"


def look_at_process(container: Container, user: str) -> str:
    """Who the server is, and what it may."""
    status = container.status()
    expect(set(status["Uid"].split()) == {user} != {"0"}, f"it runs as {status['Uid']}")
    expect(set(status["Gid"].split()) == {user}, f"its group is {status['Gid']}")
    for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
        expect(int(status[name], 16) == 0, f"{name} is {status[name]}")
    expect(status["NoNewPrivs"] == "1", "it may gain privileges")
    mounts = Path(f"/proc/{container.server}/mountinfo").read_text().splitlines()
    (root,) = [line.split() for line in mounts if line.split()[4] == "/"]
    expect("ro" in root[5].split(","), "the root file system can be written to")
    health = container.run("gpu-kmeans", "health")
    expect(health.returncode == 0, f"the health check fails: {health.stderr}")
    return f"user {user}, {int(status['VmRSS'].split()[0]) / 1024:.0f} MiB resident"


def look_at_stop(container: Container) -> str:
    """SIGTERM with work under way: everything is answered, then it ends with 0."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        ask = [f"/compress?k=256&n_init=2&seed={seed}" for seed in range(AT_ONCE)]
        answers = [threads.submit(container.ask, path, PHOTO) for path in ask]
        while b"gpu_kmeans_jobs %d.0\n" % AT_ONCE not in container.ask("/metrics"):
            expect(not any(answer.done() for answer in answers), "an answer came too early to tell")
        code, seconds = container.stop(int(GRACE[1]))
        whole = [json.loads(answer.result())["k"] for answer in answers]
    expect(whole == [256] * AT_ONCE, f"answers with {whole} colours")
    expect(code == 0, f"it ended with {code}: {container.tail()}")
    return f"{AT_ONCE} requests under way, all answered, ended with 0 after {seconds:.1f} s"


def test_image(folder: Path) -> None:
    """Everything in its order."""
    with step("tools"):
        install_tools()
    builder = Builder(folder)
    with closing(builder):
        test_built(builder, folder)


def test_built(builder: Builder, folder: Path) -> None:
    """Build, look, run, look again."""
    base = os.environ.get("BASE_IMAGE", "")
    if not base:
        with step("base image by debootstrap"):
            base = builder.make_base()
    with step("image by buildah"):
        image = builder.build(base)
    with step("mount") as found:
        root, settings = builder.mount(image), builder.settings_of(image)
        files = files_of(root)
        ours = mib(files, f"{root}/opt/") + mib(files, f"{root}/var/cache/gpu-kmeans")
        found(f"{mib(files):.0f} MiB, of which {ours:.0f} MiB on top of the base")
    with step("user, health check, labels; no CUDA, no compiler, nothing of the build"):
        look_at_settings(settings)
        look_at_files(root, files)
    container = Container(root, settings, folder)
    kernels = files_of(container.volume)
    with container:
        with step("start to ready") as found:
            found(f"{container.wait_until_ready(READY_S):.1f} s")
        with step("answers") as found:
            found(look_at_answers(container))
        with step("the process") as found:
            found(look_at_process(container, settings["User"].split(":")[0]))
        with step("SIGTERM") as found:
            found(look_at_stop(container))
    with step("nothing was written, nothing was compiled"):
        expect(files_of(root) == files, "the root file system was written to")
        new = [path for path, of in files_of(container.volume).items() if kernels.get(path) != of]
        expect(not [path for path in new if not Path(path).is_dir()], f"not in the image: {new}")
        said = container.log.read_text(errors="replace")
        trouble = re.search("read-only|permission|traceback|warning", said, re.IGNORECASE)
        expect(not trouble, said[-3000:])


def main() -> int:
    """Test the image in a folder that is thrown away."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and clean up
    folder = Path(tempfile.mkdtemp(prefix="gpu-kmeans-image-"))
    began = time.monotonic()
    try:
        test_image(folder)
    except (CannotRunError, TimeoutError, subprocess.TimeoutExpired, OSError) as error:
        seconds = time.monotonic() - began
        print(f"make test-image failed after {seconds:.0f} s: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{time.monotonic() - began:7.1f} s  the image holds what it promises")
    return 0


if __name__ == "__main__":
    sys.exit(main())
