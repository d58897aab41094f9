"""Printing Markdown and keeping it, with the raw figures beside it."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine

RESULTS = Path(__file__).parent / "results"


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all benchmarks take."""
    found = argparse.ArgumentParser(description=description)
    size = found.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small, within a minute")
    size.add_argument("--full", action="store_true", help="everything, the slow parts too")
    found.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return found


class Report:
    """Prints at once, remembers everything for the file."""

    def __init__(self, title: str, facts: dict[str, str]) -> None:
        self.data: dict[str, object] = {"machine": facts}
        self._lines: list[str] = []
        self.say(f"# {title}\n")
        self.say(table(["", ""], [[name, fact] for name, fact in facts.items()]) + "\n")

    def say(self, text: str) -> None:
        print(text, flush=True)
        self._lines.append(text)

    def write(self, folder: Path, question: str, model: str | None = None) -> Path:
        """Write `<date>-<machine>-<question>.md` and `.json`; return the path of the former."""
        named = model or machine.short_name(machine.processor(), f"{machine.cores()} cores")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y-%m-%d', time.gmtime())}-{named}-{question}.md"
        path.write_text("\n".join(self._lines).rstrip() + "\n")
        path.with_suffix(".json").write_text(json.dumps(self.data, indent=1) + "\n")
        return path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, without an exponent; a dash for None."""
    if value is None:
        return "-"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text else text
