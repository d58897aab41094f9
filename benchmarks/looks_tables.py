"""Tables and a drawing of how pictures look against the bytes they take."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.looks import MEASURES, Curve, bd_rate
from benchmarks.report import figure, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIVALS = ("pngquant, dithered", "pngquant, plain")
LEAST_K = 8  # of BD-rate: below, a palette PNG is smaller than what anyone would look at
LOW_KS = (4, 8)
Curves = dict[str, dict[str, Curve]]  # of each picture, of each method


def sections(curves: Curves, ks: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Give each section's title and text."""
    labels = list(next(iter(curves.values())))
    head = ["", *(f"k = {k}" for k in ks)]
    for measure in ("bytes", *MEASURES):
        meaning = MEASURES[measure][0] if measure in MEASURES else "Bytes, in kB"
        yield f"{meaning}, mean of {len(curves)} pictures", table(head, _means(curves, measure))
    first = next((i for i, k in enumerate(ks) if k >= LEAST_K), len(ks))
    has_rivals = set(RIVALS) <= set(labels)
    if has_rivals and len(ks) - first > 1:
        for measure in MEASURES:
            text = _rates_table(curves, labels, first, measure)
            yield f"Bytes at equal {measure} against pngquant's better mode, per cent", text
    low = [i for i, k in enumerate(ks) if k in LOW_KS]
    areas = _areas_table(curves, labels, {ks[i]: i for i in low}) if has_rivals else ""
    if areas:
        yield "Largest mean CIEDE2000 over an area of one colour above 0.1 % of the picture", areas


def _means(curves: Curves, measure: str) -> list[list[str]]:
    rows = []
    for label in next(iter(curves.values())):
        values = [[point[measure] for point in by[label]] for by in curves.values()]
        scale = 1000 if measure == "bytes" else 1
        rows.append([label, *(figure(value / scale) for value in np.mean(values, axis=0))])
    return rows


def _rates_table(curves: Curves, labels: list[str], first: int, measure: str) -> str:
    """Compare each method with the better of pngquant's two modes, picture by picture."""
    every = [rates(by_method, labels, first, measure) for by_method in curves.values()]
    rows = [[name, *map(figure, found)] for name, found in zip(curves, every, strict=True)]
    columns = [[v for v in column if v is not None] for column in zip(*every, strict=True)]
    rows.append(["mean", *(figure(float(np.mean(c)) if c else None) for c in columns)])
    fewer = [sum(value < 0 for value in column) for column in columns]
    rows.append(["fewer on", *(f"{n} of {len(c)}" for n, c in zip(fewer, columns, strict=True))])
    return table(["", *labels], rows)


def rates(
    by_method: dict[str, Curve], labels: list[str], first: int, measure: str
) -> list[float | None]:
    """Return each method's BD-rate against the better of pngquant's modes."""
    modes = [by_method[rival][first:] for rival in RIVALS]
    between = bd_rate(*modes, measure)
    better = modes[0] if between is not None and between < 0 else modes[1]
    return [bd_rate(by_method[label][first:], better, measure) for label in labels]


def _areas_table(curves: Curves, labels: list[str], places: dict[int, int]) -> str:
    """Show the worst areas of pictures that have any; which of pngquant's modes is lower counts."""
    rows, lower, tried = [], dict.fromkeys(labels, 0), 0
    for name, by in curves.items():
        for k, i in places.items():
            values = {label: by[label][i]["ciede_area"] for label in labels}
            if None in values.values():
                continue
            tried += 1
            least = min(values[rival] for rival in RIVALS)
            for label in labels:
                lower[label] += values[label] <= least
            rows.append([f"{name}, k = {k}", *(figure(values[label]) for label in labels)])
    rows.append(["no higher than both", *(f"{lower[label]} of {tried}" for label in labels)])
    return table(["", *labels], rows) if tried else ""


def draw(curves: Curves, path: Path) -> None:
    """Draw the mean of each measure against the mean of the bytes; then each picture by looks."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    wide = len(MEASURES)
    rows = 1 + -(-len(curves) // wide)
    figure_, axes = plt.subplots(rows, wide, figsize=(5 * wide, 4.5 * rows), squeeze=False)
    for axis in axes.flat[wide + len(curves) :]:
        axis.remove()
    for axis, (measure, (meaning, _)) in zip(axes[0], MEASURES.items(), strict=True):
        _draw_curves(axis, list(curves.values()), measure)
        axis.set(title=meaning, xlabel="kB, mean over the pictures")
    first = next(iter(MEASURES))
    for axis, (name, by_method) in zip(axes[1:].flat, curves.items(), strict=False):
        _draw_curves(axis, [by_method], first)
        axis.set(title=f"{name}, {first.upper()}", xlabel="kB")
    axes[0, 0].legend(fontsize=7)
    figure_.tight_layout()
    figure_.savefig(path, metadata={"Date": None})
    plt.close(figure_)


def _draw_curves(axis: "Axes", pictures: list[dict[str, Curve]], measure: str) -> None:
    """Draw a curve for each method, the mean of the pictures at each k."""
    for label in pictures[0]:
        curves = [by_method[label] for by_method in pictures]
        sizes = np.mean([[point["bytes"] / 1000 for point in c] for c in curves], axis=0)
        scores = np.mean([[point[measure] for point in c] for c in curves], axis=0)
        axis.plot(sizes, scores, "o-" if label.startswith("ours") else "x--", label=label)
