"""How do time and memory grow with the picture?

`quantize` at its defaults on china.jpg enlarged by Lanczos from 1 to 24 megapixels (`--full`: 50).
Each size has a process of its own; memory is what it grew by at its peak during the first fit, the
picture not counted.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, pictures
from benchmarks.measuring import measure
from benchmarks.quality import Original
from benchmarks.report import Report, figure, parser, table

SIZES = {"quick": (0.25, 1, 4), "moderate": (1, 2, 4, 8, 16, 24), "full": (1, 2, 4, 8, 16, 24, 50)}
ASPECT = 3 / 4  # height / width
METHOD = "quantize"
PAGE_BYTES = 4096  # growth below it cannot be read off, and 0 has no place on a logarithmic axis


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("Measure how time and memory grow with the picture.")
    options.add_argument("--k", type=int, default=64)
    options.add_argument("--repeat", type=int, default=5)
    options.add_argument("--megapixels", type=float, nargs="+")
    chosen = options.parse_args(arguments)
    size = "quick" if chosen.quick else "full" if chosen.full else "moderate"
    facts = machine.describe(["torch", "numba", "numpy"])
    report = Report(f"Growth with the picture, k = {chosen.k}", facts)
    found = [_measure(mp, chosen.k, chosen.repeat) for mp in chosen.megapixels or SIZES[size]]
    head = ["megapixels", "distinct colours", "seconds", "fastest - slowest", "ns a pixel"]
    head += ["memory, MB", "bytes a pixel beyond 200 MB"]
    report.say(table(head, [_row(each) for each in found]))
    report.data["growth"] = found
    path = report.write(chosen.out, "growth")
    _plot(found, path.with_suffix(".svg"))
    print(f"\nwritten: {path}")


def _measure(megapixels: float, k: int, repeat: int) -> dict:
    width = round((megapixels * 1e6 / ASPECT) ** 0.5)
    pixels = pictures.china(round(width * ASPECT), width)
    distinct = len(Original.of(pixels).colors)
    measured = measure([METHOD], pixels, k, repeat=repeat, budget_s=20)[METHOD]
    return {
        "pixels": pixels.shape[0] * pixels.shape[1],
        "distinct": distinct,
        "seconds": measured.seconds,
        "median_s": measured.median_s,
        "memory_bytes": measured.memory_bytes,
    }


def _row(found: dict) -> list[str]:
    pixels, seconds = found["pixels"], found["seconds"]
    return [
        figure(pixels / 1e6),
        f"{found['distinct']:,}",
        figure(found["median_s"]),
        f"{figure(min(seconds))} - {figure(max(seconds))}",
        f"{found['median_s'] / pixels * 1e9:.0f}",
        f"{found['memory_bytes'] / 1e6:.0f}",
        f"{max(0, found['memory_bytes'] - 200e6) / pixels:.1f}",
    ]


def _plot(found: Sequence[dict], path: Path) -> None:
    """Draw time and memory against size, with lines in proportion to the pixels."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    sizes = [each["pixels"] / 1e6 for each in found]
    panels = (
        ("seconds", [each["median_s"] for each in found]),
        ("memory, MB", [max(PAGE_BYTES, each["memory_bytes"]) / 1e6 for each in found]),
    )
    with rc_context({"svg.hashsalt": "growth"}):
        drawing = Figure(figsize=(8, 3.4), layout="constrained")
        for axes, (label, values) in zip(drawing.subplots(1, 2), panels, strict=True):
            axes.loglog(sizes, values, "o-", label="quantize")
            axes.loglog(
                sizes, [values[0] * s / sizes[0] for s in sizes], "k:", label="as the pixels"
            )
            axes.set_xticks(sizes, [figure(s) for s in sizes])
            axes.minorticks_off()
            axes.set(xlabel="megapixels", ylabel=label)
            axes.grid(visible=True, alpha=0.3)
            axes.legend()
        drawing.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
