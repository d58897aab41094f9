"""Ask osv.dev which pinned packages have known holes: `make check`, and `make audit`.

    python .ci/audit.py [--strict]

A hole fails. Where the database cannot be asked, as on a machine without a network, it says so: a
check goes on then, since that says nothing of the change; with `--strict` it fails.
"""

import json
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"
TIMEOUT_S = 10  # of one request
NO_ANSWER = "NOT AUDITED"


def ask() -> str:
    """Give pip-audit's report as JSON; what it was of it, where it came to no end."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", PINS, "--no-deps"]
    command += ["--disable-pip", "--vulnerability-service", "osv", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", str(TIMEOUT_S)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


def verdict(report: str, *, is_strict: bool) -> tuple[int, list[str]]:
    """Give the exit status and what there is to say.

    Args:
        report: Of pip-audit, as JSON; anything else is no answer.
        is_strict: No answer fails too.
    """
    try:
        packages = json.loads(report)["dependencies"]
    except ValueError:
        last = (report.strip().splitlines() or ["no report"])[-1]
        return int(is_strict), [f"{NO_ANSWER}: osv.dev cannot be asked: {last[:200]}"]
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in "
        f"{', '.join(hole['fix_versions']) or 'no version yet'}"
        for package in packages
        for hole in package.get("vulns", [])
    ]
    left_out = [package["name"] for package in packages if "skip_reason" in package]
    lines = [f"{NO_ANSWER}: {', '.join(left_out)}"] if left_out else []
    n_asked = len(packages) - len(left_out)
    lines += [*holes, f"{n_asked} packages audited, {len(holes)} known holes"]
    return int(bool(holes) or (is_strict and bool(left_out))), lines


def main(arguments: list[str]) -> int:
    status, lines = verdict(ask(), is_strict="--strict" in arguments)
    print(*lines, sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
