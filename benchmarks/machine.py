"""What a figure was measured on: processor, cores, versions, commit, date; never a host's name."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def describe(packages: Iterable[str]) -> dict[str, str]:
    """Describe this machine and the distributions named, of which some may be missing."""
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "processor": processor(),
        "cores": str(cores()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    if hasattr(os, "getloadavg"):
        facts["load at the start"] = f"{os.getloadavg()[0]:.1f}"
    return facts | {name: version(name) for name in packages}


def version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the model's name, as the system has it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def short_name(model: str, suffix: str = "") -> str:
    """Return a model's name as a part of a file name."""
    plain = re.sub(r"\((?:R|TM)\)|\b(?:CPU|Processor)\b|@.*", " ", model, flags=re.IGNORECASE)
    words = re.findall(r"[a-z0-9]+", f"{plain} {suffix}".lower())
    return "-".join(words) or "machine"


def _memory() -> str:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return "unknown"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _commit() -> str:
    git = shutil.which("git")
    if not git or not (ROOT / ".git").exists():
        return "unknown"

    def ask(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - git, with the arguments below
            [git, "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = ask("status", "--porcelain", "--untracked-files=no", "--", "gpu_kmeans")
    return (ask("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")
