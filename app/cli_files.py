"""The files that commands read and write: points, palettes, plots."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from app.cli_options import Given
from app.cli_runner import spoken_errors
from app.errors import BadParameter

if TYPE_CHECKING:
    from app.points import Points
    from app.sketches import PlotFormat
    from app.tables import Table


def colors_of_file(texts: Given) -> tuple[Given, bool]:
    """Put the colours of a file in the place of its name; say whether there was one."""
    path = Path(texts[0]) if len(texts) == 1 else None
    try:
        if path is None or not path.is_file():
            return texts, False
    except (OSError, ValueError):  # far too long for a name, or none: colours
        return texts, False
    from app.palettes import read_palette

    colors = read_palette(path.read_bytes())
    if not colors:
        raise click.BadParameter(f"{path.name!r} holds no colours", param_hint="--palette")
    return (",".join(colors),), True


def read_points(body: bytes, as_csv: dict[str, Any]) -> "Table":
    """Read points that are to be written again with their labels."""
    from app.points import looks_like_points, parse_points
    from app.tables import Table, read_table

    with spoken_errors():
        if not looks_like_points(body):
            return read_table(body, **as_csv)
        if asked := as_csv["columns"] or as_csv["weights"]:
            raise BadParameter.of("columns", asked, "for CSV, not JSON")
        points = parse_points(body)
    rows = points.points.tolist()
    return Table(
        points=points,
        columns=tuple(str(j + 1) for j in range(len(rows[0]))),
        header=(),
        rows=rows,
        delimiter=",",
    )


def picture_or_points(source: BinaryIO, as_csv: dict[str, Any]) -> "bytes | Points":
    """Read what is to have a curve; its name, or columns asked for, tell CSV from a picture."""
    body = source.read()
    is_named_csv = str(getattr(source, "name", "")).lower().endswith((".csv", ".tsv"))
    if is_named_csv or as_csv["columns"] or as_csv["weights"]:
        return read_points(body, as_csv).points
    return body


def check_place(_context: click.Context, _option: click.Parameter, given: Any) -> Any:
    """Refuse a place that cannot be written to, before anything is computed."""
    name = given if isinstance(given, Path) else getattr(given, "name", "-")
    if given is None or str(name) in {"-", "<stdout>"}:
        return given
    path = Path(name)
    if not path.parent.is_dir():
        raise click.FileError(str(path), "there is no such folder")
    if path.is_dir():
        raise click.FileError(str(path), "this is a folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.FileError(str(path), "this place cannot be written to")
    return given


def check_plot_name(path: Path) -> None:
    """Refuse another ending than .svg and .png."""
    if path.suffix.lower() not in {".svg", ".png"}:
        raise click.BadParameter(f"{path.name!r} ends neither in .svg nor in .png")


def format_of(path: Path) -> "PlotFormat":
    """Say what the ending of a name asks to draw."""
    return "svg" if path.suffix.lower() == ".svg" else "png"


def write_drawing(path: Path, drawing: bytes) -> None:
    """Write a file, or say why not."""
    try:
        path.write_bytes(drawing)
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error
