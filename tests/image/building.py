"""Building the image without a Docker engine: Debian's buildah, on a base made by debootstrap."""

import ast
import configparser
import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODENAME = "bookworm"
_NEEDED = {"buildah": "buildah", "debootstrap": "debootstrap"}  # command: Debian's package
_BASE_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_GIB = 2**30
_FREE_GIB = 8  # the base, two build containers, the image and the container that is tested
HOME = "/root"
_CERTIFICATES = "/etc/ssl/certs"
_NOT_IN_AN_IMAGE = {"config-file", "require-virtualenv", "target", "user", "prefix"}  # of pip


class CannotRunError(Exception):
    """Something this machine lacks; the message says what, and what to do."""


def run(*command: object, **options: object) -> str:
    """Run a command and give what it printed; what it said besides is for the log.

    Raises:
        CannotRunError: It failed; the end of what it said is in the message.
    """
    words = [str(word) for word in command]
    result = subprocess.run(
        words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options
    )
    if result.returncode:
        said = (result.stdout + result.stderr).strip()[-3000:]
        raise CannotRunError(f"{' '.join(words[:6])} ... ended with {result.returncode}:\n{said}")
    return result.stdout


def install_tools() -> None:
    """Take buildah and debootstrap from Debian where they are missing.

    Raises:
        CannotRunError: This is not root on Debian, or there is no room.
    """
    if os.geteuid():
        raise CannotRunError("only root can build and mount an image without an engine")
    missing = [package for command, package in _NEEDED.items() if not shutil.which(command)]
    if missing and not shutil.which("apt-get"):
        raise CannotRunError(f"{', '.join(missing)} missing, and no apt-get to install them with")
    if missing:
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq", env=quiet)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, env=quiet)
    for command in ("mount", "nsenter", "setpriv", "unshare"):
        if not shutil.which(command):
            raise CannotRunError(
                f"{command} is missing; on Debian: apt-get install mount util-linux"
            )


class Builder:
    """buildah with a store of its own, in a folder that is thrown away.

    Args:
        folder: Where everything is put.

    Raises:
        CannotRunError: There is no room for it.
    """

    def __init__(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free / _GIB
        if free < _FREE_GIB:
            raise CannotRunError(
                f"{folder} has {free:.1f} GiB free, {_FREE_GIB} are needed; TMPDIR names another"
            )
        self._folder = folder
        self._driver = _storage_driver(folder)
        self._environment = os.environ | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(folder)}

    def buildah(self, *arguments: object) -> str:
        """Run buildah on the store and give what it printed."""
        places = ["--root", self._folder / "store", "--runroot", self._folder / "run"]
        driver = ["--storage-driver", self._driver]
        return run("buildah", *places, *driver, *arguments, env=self._environment, cwd=ROOT)

    def make_base(self) -> str:
        """Make an image of Debian with its own Python and nothing else; give its name."""
        tree = self._folder / "base"
        include = f"--include={_BASE_PACKAGES}"
        run("debootstrap", "--variant=minbase", include, CODENAME, tree, *_mirror())
        for place in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(tree / place)
            (tree / place / "partial").mkdir(parents=True)
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, tree, "/")
        name = f"localhost/debian-python:{CODENAME}"
        self.buildah("commit", "--quiet", "--format", "docker", "--rm", container, name)
        shutil.rmtree(tree)
        return name

    def build(self, base: str) -> str:
        """Build the Dockerfile of this tree for the CPU; give the image's name."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        arguments = {
            "BASE_IMAGE": base,
            "DEVICE": "cpu",
            "TORCH_INDEX_URL": "",
            "VERSION": project["version"],
            "REVISION": revision(),
        }
        self.buildah(
            "build",
            *("--format", "docker", "--pull-never", "--layers=false"),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--volume={source}:{target}:ro" for source, target in self._lent()),
            *("--tag", "gpu-kmeans:cpu", ROOT),
        )
        return "gpu-kmeans:cpu"

    def settings_of(self, image: str) -> dict:
        """Give what the image says of itself, as Docker names it."""
        inspected = json.loads(self.buildah("inspect", "--type", "image", image))
        return inspected["Docker"]["config"]

    def close(self) -> None:
        """Unmount what is mounted, so that the folder can be thrown away. Never raises."""
        with contextlib.suppress(CannotRunError):
            self.buildah("umount", "--all")

    def mount(self, image: str) -> Path:
        """Make a container of the image; give where its root file system lies."""
        container = self.buildah("from", "--pull-never", image).strip()
        return Path(self.buildah("mount", container).strip())

    def _lent(self) -> Iterator[tuple[Path, str]]:
        """Give what pip here is told, and what that names, for the time of the build only.

        It is all put below a home that covers the builder's, since whatever is mounted elsewhere
        leaves an empty folder of its name in the image.
        """
        home, lent = self._folder / "home", self._folder / "home/lent"
        (home / ".config/pip").mkdir(parents=True)
        yield home, HOME
        trusted = ssl.get_default_verify_paths().capath or _CERTIFICATES
        yield Path(trusted), _CERTIFICATES
        settings = pip_settings()
        for number, path in enumerate(named_paths(settings)):
            if path.is_relative_to(_CERTIFICATES):
                continue
            place = lent / str(number)
            place.parent.mkdir(exist_ok=True)
            place.mkdir() if path.is_dir() else place.touch()
            target = f"{HOME}/lent/{number}"
            yield path, target
            for section in settings.sections():
                for key, text in settings.items(section):
                    settings.set(section, key, re.sub(rf"{path}(?=/|\s|$)", target, text))
        with (home / ".config/pip/pip.conf").open("w") as file:
            settings.write(file)


def named_paths(settings: configparser.RawConfigParser) -> list[Path]:
    """Give the files and folders that pip's settings name, none inside another."""
    texts = [text for section in settings.sections() for _, text in settings.items(section)]
    words = [word.removeprefix("file://") for text in texts for word in text.split()]
    paths = {Path(word) for word in words if word.startswith("/") and Path(word).exists()}
    # An index links to files beside it.
    paths = {path.parent if path.name == "simple" else path for path in paths}
    return sorted(path for path in paths if not paths & set(path.parents))


def pip_settings() -> configparser.RawConfigParser:
    """Read from pip itself what it is told here, by files and by the environment."""
    settings = configparser.RawConfigParser()
    settings.add_section("global")
    printed = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    for is_environment in (False, True):  # which has the last word
        for line in printed:
            name, _, value = line.partition("=")
            if name.startswith(":env:.") is not is_environment:
                continue
            section, _, key = name.replace(":env:", "global").rpartition(".")
            if key in _NOT_IN_AN_IMAGE:
                continue
            if not settings.has_section(section):
                settings.add_section(section)
            settings.set(section, key, ast.literal_eval(value).replace("\n", " "))
    return settings


def revision() -> str:
    """Give the commit of this tree, where git knows."""
    try:
        return run("git", "-C", ROOT, "rev-parse", "HEAD").strip()
    except (CannotRunError, OSError):
        return "unknown"


def _storage_driver(folder: Path) -> str:
    """Choose overlay where the kernel lets us mount one, as it copies nothing; else vfs."""
    parts = [folder / "try" / name for name in ("lower", "upper", "work", "merged")]
    for part in parts:
        part.mkdir(parents=True)
    options = "lowerdir={},upperdir={},workdir={}".format(*parts)
    try:
        run("mount", "-t", "overlay", "overlay", "-o", options, parts[-1])
        run("umount", parts[-1])
    except CannotRunError:
        return "vfs"
    return "overlay"


def _mirror() -> list[str]:
    """Give the mirror that apt is told to use here, where it has this Debian."""
    if not shutil.which("apt-get"):
        return []
    listed = run("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)")
    return re.findall(rf"^{CODENAME} (\S+)$", listed, re.MULTILINE)[:1]
