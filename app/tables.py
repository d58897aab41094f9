"""Points as CSV: rows of numbers, perhaps under a header, and the columns that count.

Every error names the line of the file and the column, as an editor shows them.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import BadParameter, BadPoints
from app.points import LARGEST, Points

DELIMITERS = ("\t", ";", ",")  # in which order "auto" looks: a comma may be a decimal one


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of points, read from CSV or JSON, with what is needed to write it again.

    Attributes:
        points: Its chosen columns.
        columns: Their names; numbers from 1 where there is no header.
        header: The first line, empty where it holds numbers.
        rows: Every row as it was, all columns.
        delimiter: What stood between the columns.
    """

    points: Points
    columns: tuple[str, ...]
    header: tuple[str, ...]
    rows: list[list[Any]]
    delimiter: str


def read_table(
    encoded: bytes,
    *,
    columns: str | None = None,
    weights: str | None = None,
    header: str = "auto",
    delimiter: str = "auto",
) -> Table:
    r"""Read points from CSV.

    Args:
        encoded: UTF-8 text; empty lines are passed over.
        columns: Names or numbers from 1, separated by commas; None for all but the weights.
        weights: Name or number of the column that says how much each row counts.
        header: "yes" or "no"; "auto" takes the first line for one if it holds no number that is
            asked for, or one that is not a number.
        delimiter: One character; "auto" takes the first of tab, semicolon and comma that divides
            the first line.

    Returns:
        The table.

    Raises:
        BadPoints: A field is not a finite number, a row is too long or too short, there are none.
        BadParameter: A column is not there, or the delimiter is not one character.

    Example:
        >>> read_table(b"name,x,y\na,1,2\nb,3,4\n", columns="x,y").points.points.shape
        (2, 2)
    """
    if delimiter != "auto" and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise BadParameter.of("delimiter", delimiter, "auto, or one character, such as , or ;")
    text = _decode(encoded)
    if delimiter == "auto":
        delimiter = _delimiter_of(text)
    lines = _read_lines(text, delimiter)
    names = _header_of(lines, columns, weights, header)
    body = lines[1:] if names else lines
    if not body:
        raise BadPoints("There are no rows of points in the table.")
    width = len(lines[0][1])
    weight_at = _column_at("weights", weights, names, width) if weights else None
    chosen = (
        [_column_at("columns", each, names, width) for each in columns.split(",")]
        if columns
        else [at for at in range(width) if at != weight_at]
    )
    numbers = np.array([[_number(row, at, line, names) for at in chosen] for line, row in body])
    masses = None
    if weight_at is not None:
        masses = np.array([_number(row, weight_at, line, names) for line, row in body])
        if masses.min() < 0:
            line = body[int(masses.argmin())][0]
            raise BadPoints(f"line {line}, {_called(weight_at, names)}: a weight is not negative.")
    return Table(
        points=Points(points=numbers, weights=masses),
        columns=tuple(names[at] if names else str(at + 1) for at in chosen),
        header=names,
        rows=[row for _, row in body],
        delimiter=delimiter,
    )


def write_rows(rows: Sequence[Sequence[object]], delimiter: str = ",") -> str:
    r"""Write rows as CSV, one a line. Never raises.

    Example:
        >>> write_rows([["x", "label"], [1.5, 0]])
        'x,label\n1.5,0\n'
    """
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _decode(encoded: bytes) -> str:
    try:
        return encoded.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = encoded.count(b"\n", 0, error.start) + 1
        raise BadPoints(f"line {line}: the table is no UTF-8 text.") from error


def _delimiter_of(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    divides = (each for each in DELIMITERS if len(next(csv.reader([first], delimiter=each))) > 1)
    return next(divides, ",")


def _read_lines(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Give every row with fields, and the line it ends on; all of one width."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        numbered = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise BadPoints(f"line {reader.line_num}: {error}.") from error
    lines = [(line, row) for line, row in numbered if any(each.strip() for each in row)]
    if not lines:
        raise BadPoints("There are no rows of points in the table.")
    first, width = lines[0][0], len(lines[0][1])
    for line, row in lines:
        if len(row) != width:
            raise BadPoints(f"line {line}: {len(row)} columns, where line {first} has {width}.")
    return lines


def _header_of(
    lines: list[tuple[int, list[str]]], columns: str | None, weights: str | None, header: str
) -> tuple[str, ...]:
    """Give the names of the columns, or none where the first line holds points."""
    names = tuple(each.strip() for each in lines[0][1])
    if header != "auto":
        return names if header == "yes" else ()
    asked = [*(columns.split(",") if columns else []), *([weights] if weights else [])]
    if any(each.strip() in names and not each.strip().isdecimal() for each in asked):
        return names
    places = [int(each) - 1 for each in asked if each.strip().isdecimal()] or range(len(names))
    looked_at = [names[at] for at in places if 0 <= at < len(names)]
    return () if all(_is_number(each) for each in looked_at) else names


def _column_at(option: str, asked: str, names: tuple[str, ...], width: int) -> int:
    asked = asked.strip()
    if asked in names:
        return names.index(asked)
    if asked.isdecimal() and 1 <= int(asked) <= width:
        return int(asked) - 1
    there = f"{', '.join(names)}, or " if names else ""
    raise BadParameter.of(option, asked, f"{there}a number from 1 to {width}")


def _number(row: list[str], at: int, line: int, names: tuple[str, ...]) -> float:
    text = row[at].strip()
    if not text:
        raise BadPoints(f"line {line}, {_called(at, names)}: there is no number.")
    if not _is_number(text):
        is_decimal = _is_number(text.replace(",", ".", 1))
        advice = "write 1.5, not 1,5" if is_decimal else "--columns says which to take"
        where = f"line {line}, {_called(at, names)}"
        raise BadPoints(f"{where}: {text[:40]!r} is not a number; {advice}.")
    value = float(text)
    if not abs(value) <= LARGEST:
        why = f"from {-LARGEST:g} to {LARGEST:g}" if math.isfinite(value) else "finite"
        raise BadPoints(f"line {line}, {_called(at, names)}: {text[:40]} is not {why}.")
    return value


def _called(at: int, names: tuple[str, ...]) -> str:
    return f"column {names[at]!r}" if names else f"column {at + 1}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
