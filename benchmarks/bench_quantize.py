"""How fast, how good and how frugal is `quantize` beside its peers?

    python -m benchmarks.bench_quantize                                   about three minutes
    python -m benchmarks.bench_quantize --quick                           half a minute, one picture
    python -m benchmarks.bench_quantize --full                            k = 64 and 256, slow ones
    python -m benchmarks.bench_quantize --images FOLDER                   any pictures
    python -m benchmarks.bench_quantize --images FOLDER --reference FILE  ours against figures kept

A table for china.jpg enlarged to 1200 x 1600, then the quick methods on other pictures. FILE is CSV
with the columns image, k, method, wcss_per_pixel; its pictures are looked for in FOLDER by name.
"""

import argparse
import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import machine, pictures
from benchmarks.measuring import Measurement, Workers
from benchmarks.methods import METHODS
from benchmarks.quality import Original
from benchmarks.report import Report, figure, parser, table

QUICK = ("quantize", "sklearn-distinct", "faiss", "libimagequant", "pillow", "pngquant")
MAIN = "quantize"
TARGET = "best_known_rounded_to_8bit"
ROUNDING = 0.26  # WCSS per pixel that rounding three channels to 8 bits adds: 3 / 12, and a little
ROUNDED = ("libimagequant", "pillow")  # peers in the file whose palettes are of 8 bits
BUDGET_S = {"quick": 2.0, "moderate": 6.0, "full": 60.0}
TITLE = "Palette pictures: ours and others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    ks: Sequence[int]
    repeat: int
    budget_s: float
    headline: np.ndarray | None
    others: Mapping[str, Path]
    methods: Sequence[str]
    others_methods: Sequence[str]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    packages = dict.fromkeys(each.package for each in METHODS.values())
    facts = machine.describe([*packages, "torch", "numba", "numpy"])
    plan = _plan(options)
    report = Report(TITLE, {key: value for key, value in facts.items() if key != "pngquant"})
    if options.reference:
        _compare_with_reference(report, options, plan.repeat)
    else:
        _describe_methods(report, plan)
        for k in plan.ks:
            _measure_headline(report, plan, k)
            _measure_others(report, plan, k)
    print(f"\nwritten: {report.write(options.out, _question(options))}")


def _question(options: argparse.Namespace) -> str:
    """Name the results, so that runs on other pictures do not overwrite each other."""
    if options.reference:
        return "reference"
    return f"quantize-{options.images.resolve().name}" if options.images else "quantize"


def _parser() -> argparse.ArgumentParser:
    found = parser("Compare quantize with its peers.")
    found.add_argument("--k", type=int, nargs="+", help="numbers of colours")
    found.add_argument("--repeat", type=int, help="the most fits counted of each method")
    found.add_argument("--images", type=Path, help="a folder of pictures, instead of those shipped")
    found.add_argument("--reference", type=Path, help="a CSV of figures for pictures in --images")
    found.add_argument("--only", nargs="+", choices=METHODS, metavar="METHOD", help="not the rest")
    return found


def _plan(options: argparse.Namespace) -> Plan:
    if options.reference and not options.images:
        raise SystemExit("--reference needs --images, the folder with its pictures")
    size = "quick" if options.quick else "full" if options.full else "moderate"
    available = [name for name, method in METHODS.items() if method.is_available()]
    quick = [name for name in QUICK if name in available]
    chosen = options.only or [n for n in available if options.full or not METHODS[n].is_slow]
    if MAIN not in chosen:
        chosen = [MAIN, *chosen]  # the ratios are to it
    if options.images:
        headline, others = None, pictures.in_folder(options.images)
        if not others:
            raise SystemExit(f"{options.images} holds no pictures")
    elif options.quick:
        headline, others = pictures.read(pictures.shipped()["china"]), {}
    else:
        headline, others = pictures.china(*pictures.HEADLINE), pictures.shipped()
    return Plan(
        ks=options.k or ([64, 256] if options.full else [64]),
        repeat=options.repeat or {"quick": 3, "moderate": 5, "full": 7}[size],
        budget_s=BUDGET_S[size],
        headline=headline,
        others=others,
        methods=chosen,
        others_methods=chosen if options.only else quick,
    )


def _describe_methods(report: Report, plan: Plan) -> None:
    report.say(
        "Times are medians; decoding, encoding and turning the pixels into what a library wants as "
        "input are not in them.\n"
        "Every fit has another seed, where there are seeds, and WCSS is the median too: squared "
        "error per pixel, summed over three channels, of the 8-bit palette picture and, where "
        "there are such, of the centroids before rounding.\n"
        "Memory is what the process grew by at its peak during the first fit of the picture, its "
        "library being loaded.\n"
        "All use every core as they see fit.\n"
    )
    names = dict.fromkeys([*plan.methods, *plan.others_methods])
    listed = [METHODS[name] for name in names]
    rows = [[m.label, _version(m.package), m.settings, m.handicap] for m in listed]
    report.say(table(["method", "version", "settings", "handicap"], rows).replace("---:", "---"))
    missing = [method.label for method in METHODS.values() if not method.is_available()]
    left_out = [m.label for n, m in METHODS.items() if m.is_available() and n not in names]
    for verb, which in (("Not installed here", missing), ("Left out of this run", left_out)):
        if which:
            report.say(f"\n{verb}: {', '.join(which)}.")


def _version(package: str) -> str:
    return "as installed" if package == "pngquant" else machine.version(package)


def _measure_headline(report: Report, plan: Plan, k: int) -> None:
    """Print one row for each method on the one picture."""
    if plan.headline is None:
        return
    first = k == plan.ks[0]
    names = [n for n in plan.methods if first or not METHODS[n].is_slow]  # hours, at k = 256
    original = Original.of(plan.headline)
    with Workers(names) as workers:
        found = workers.measure(plan.headline, k, repeat=plan.repeat, budget_s=plan.budget_s)
    figures = {name: _figures(original, each) for name, each in found.items()}
    h, w, _ = plan.headline.shape
    report.say(f"\n## china.jpg, {h} x {w}, k = {k}: {len(original.colors):,} distinct colours\n")
    head = ["method", "seconds", "fastest - slowest", "fits", "time / ours"]
    head += ["WCSS, 8-bit", "WCSS / ours", "WCSS, unrounded", "memory, MB"]
    report.say(table(head, [_row(name, figures) for name in names]))
    report.data[f"china-{h}x{w}-k{k}"] = figures


def _figures(original: Original, measured: Measurement) -> dict[str, object]:
    unrounded = [original.unrounded(each) for each in measured.outcomes]
    known = [value for value in unrounded if value is not None]
    return {
        "seconds": measured.seconds,
        "median_s": measured.median_s,
        "wcss": statistics.median(original.written(each) for each in measured.outcomes),
        "wcss_unrounded": statistics.median(known) if known else None,
        "memory_bytes": measured.memory_bytes,
    }


def _row(name: str, figures: dict[str, dict]) -> list[str]:
    mine, ours = figures[name], figures[MAIN]
    memory = mine["memory_bytes"]
    return [
        METHODS[name].label,
        figure(mine["median_s"]),
        f"{figure(min(mine['seconds']))} - {figure(max(mine['seconds']))}",
        str(len(mine["seconds"])),
        figure(mine["median_s"] / ours["median_s"]),
        f"{mine['wcss']:.2f}",
        f"{mine['wcss'] / ours['wcss']:.4f}" if ours["wcss"] else "-",
        "-" if mine["wcss_unrounded"] is None else f"{mine['wcss_unrounded']:.2f}",
        "-" if memory is None else f"{memory / 1e6:.0f}",
    ]


def _measure_others(report: Report, plan: Plan, k: int) -> None:
    """Print one row for each picture, two columns for each method."""
    if not plan.others:
        return
    names = [name for name in plan.others_methods if name != MAIN]
    head = ["picture", "size", "ours, ms", "ours, WCSS"]
    head += [f"{METHODS[name].label}: {what}" for name in names for what in ("time", "WCSS")]
    rows, kept = [], {}
    repeat, budget_s = min(3, plan.repeat), plan.budget_s / 3
    with Workers([MAIN, *names]) as workers:
        for title, path in plan.others.items():
            pixels = pictures.read(path)
            original = Original.of(pixels)
            measured = workers.measure(pixels, k, repeat=repeat, budget_s=budget_s)
            kept[title] = {name: _figures(original, each) for name, each in measured.items()}
            rows.append(
                _picture_row(f"{title} | {pixels.shape[0]} x {pixels.shape[1]}", kept[title])
            )
    if len(kept) > 1:
        rows.append(_mean_row(kept))
    report.say(f"\n## Other pictures, k = {k}: the others' time and WCSS as multiples of ours\n")
    report.say(table(head, rows))
    report.data[f"others-k{k}"] = kept


def _picture_row(title: str, figures: dict[str, dict]) -> list[str]:
    ours, row = figures[MAIN], [title]
    row += [f"{ours['median_s'] * 1e3:.1f}", f"{ours['wcss']:.2f}"]
    for name, mine in figures.items():
        if name != MAIN:
            row.append(figure(mine["median_s"] / ours["median_s"]))
            row.append(f"{mine['wcss'] / ours['wcss']:.4f}" if ours["wcss"] else "-")
    return row


def _mean_row(kept: dict[str, dict[str, dict]]) -> list[str]:
    """Return the geometric means of every column's ratios."""
    row = ["**geometric mean** | ", "", ""]
    for name in next(iter(kept.values())):
        for key in ("median_s", "wcss"):
            pairs = [(each[name][key], each[MAIN][key]) for each in kept.values()]
            ratios = [mine / ours for mine, ours in pairs if mine and ours]
            if name != MAIN:
                row.append(f"{statistics.geometric_mean(ratios):.3f}" if ratios else "-")
    return row


def _compare_with_reference(report: Report, options: argparse.Namespace, repeat: int) -> None:
    """Print ours against the best known, and against every peer in the file, by k."""
    recorded = _read_reference(options.reference)
    paths = pictures.in_folder(options.images)
    absent = {image for image, _ in recorded} - paths.keys()
    if absent:
        raise SystemExit(f"{options.images} has no picture named {', '.join(sorted(absent))}")
    wanted = options.k or sorted({k for _, k in recorded})
    report.say("`quantize` at its defaults, seed 0; WCSS per pixel of the 8-bit palette picture.")
    rows, kept = [], {}
    for k in wanted:
        names = sorted(image for image, each in recorded if each == k)
        with Workers([MAIN]) as workers:
            ours = {i: _ours(workers, pictures.read(paths[i]), k, repeat) for i in names}
        _report_k(report, k, ours, {image: recorded[image, k] for image in names})
        ratios = {image: ours[image][0] / recorded[image, k][TARGET] for image in names}
        worst = max(ratios, key=ratios.__getitem__)
        mean_ms = statistics.mean(seconds for _, seconds in ours.values()) * 1e3
        rows.append(
            [
                str(k),
                f"{statistics.mean(ratios.values()):.4f}",
                f"{ratios[worst]:.4f} ({worst})",
                f"{min(ratios.values()):.4f}",
                f"{mean_ms:.1f}",
            ]
        )
        kept[str(k)] = {image: {"wcss": w, "seconds": s} for image, (w, s) in ours.items()}
    report.say(f"\n## WCSS / {TARGET}\n")
    report.say(table(["k", "mean", "worst", "best", "mean ms"], rows))
    report.data["reference"] = kept


def _read_reference(path: Path) -> dict[tuple[str, int], dict[str, float]]:
    found: dict[tuple[str, int], dict[str, float]] = {}
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            methods = found.setdefault((row["image"], int(row["k"])), {})
            methods[row["method"]] = float(row["wcss_per_pixel"])
    return found


def _ours(workers: Workers, pixels: np.ndarray, k: int, repeat: int) -> tuple[float, float]:
    """Return WCSS per pixel with seed 0, and seconds."""
    measured = workers.measure(pixels, k, repeat=repeat, budget_s=BUDGET_S["full"])[MAIN]
    return Original.of(pixels).written(measured.outcomes[0]), measured.median_s


def _report_k(
    report: Report,
    k: int,
    ours: dict[str, tuple[float, float]],
    recorded: dict[str, dict[str, float]],
) -> None:
    """Print a row for each picture: ours, the best known, and the peer that comes nearest."""
    rows = []
    for image, (wcss, seconds) in ours.items():
        peers = {
            name: value + (0 if name.startswith(ROUNDED) else ROUNDING)
            for name, value in recorded[image].items()
            if not name.startswith("best_known")
        }
        nearest = min(peers, key=peers.__getitem__)
        best = recorded[image][TARGET]
        rows.append(
            [
                image,
                f"{seconds * 1e3:.1f}",
                f"{wcss:.3f}",
                f"{best:.3f}",
                f"{wcss / best:.4f}",
                f"{wcss / peers[nearest]:.4f} ({nearest})",
            ]
        )
    report.say(f"\n## k = {k}\n")
    head = ["picture", "ms", "WCSS", "best known", "ratio"]
    report.say(table([*head, f"ratio to the lowest peer (+ {ROUNDING} if unrounded)"], rows))


if __name__ == "__main__":
    main()
