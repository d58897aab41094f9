"""Points as JSON: `{"points": [[1, 2], [3, 4.5]], "weights": [1, 2], "k": 2}` to arrays.

Members beside `points` and `weights` are parameters of the door, by the same names as in the query.
A member that is there twice is refused. The parser takes the last of them without a word, so names
are looked for in the text: a table of numbers has no other quotes.
"""

import json
import re
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from app.errors import BadParameter, BadPoints

LARGEST = 1e100  # so that squares, and sums of them, stay finite
_LONGEST_PARAMETERS = 16_384  # characters of all members beside points and weights
_STRING = re.compile(rb'("(?:[^"\\]|\\.)*")(\s*:)?')  # of valid JSON; with a colon it is a name
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-LARGEST, le=LARGEST)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow")

    points: list[list[_Number]] = Field(min_length=1)
    weights: list[Annotated[_Number, Field(ge=0)]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """A finite table of numbers and how much each row counts.

    Attributes:
        points: One row a point, any unit.
        weights: At least 0 each; None where all count the same.
        parameters: Name and text of the other members.
    """

    points: Float64[np.ndarray, "n d"]
    weights: Float64[np.ndarray, "n"] | None
    parameters: tuple[tuple[str, str], ...] = ()


def looks_like_points(body: bytes) -> bool:
    """Tell JSON from a picture: none of those begins with a brace or a bracket. Never raises.

    Example:
        >>> looks_like_points(b' {"points": [[1]]}')
        True
    """
    return body[:64].lstrip()[:1] in {b"{", b"["}


def parse_points(body: bytes) -> Points:
    """Read points from JSON.

    Args:
        body: UTF-8; an object with `points`, perhaps `weights`, perhaps parameters.

    Returns:
        The table, finite and rectangular, and its weights, as many as rows.

    Raises:
        BadPoints: It is none; says where and why.
        BadParameter: A member is there twice.

    Example:
        >>> parse_points(b'{"points": [[1, 2], [3, 4]]}').points.shape
        (2, 2)
    """
    try:
        table = _Body.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadPoints(f"{_place(first['loc'])}: {_reason(first)}.") from error
    widths = [len(row) for row in table.points]
    if min(widths) != max(widths) or widths[0] == 0:
        raise BadPoints(
            "points: every row needs the same number of coordinates, at least one; "
            f"rows have {min(widths)} to {max(widths)}."
        )
    if table.weights is not None and len(table.weights) != len(table.points):
        raise BadPoints(f"weights: got {len(table.weights)} for {len(table.points)} points.")
    weights = None if table.weights is None else np.array(table.weights, np.float64)
    parameters = tuple((name, _text(value)) for name, value in (table.model_extra or {}).items())
    if sum(len(name) + len(text) for name, text in parameters) > _LONGEST_PARAMETERS:
        raise BadPoints(f"Parameters may take {_LONGEST_PARAMETERS:,} characters.")
    _check_names(body)
    return Points(points=np.array(table.points, np.float64), weights=weights, parameters=parameters)


def _check_names(body: bytes) -> None:
    """Refuse, in a document known to parse, a name that is there twice, however it is spelled."""
    names = set[str]()
    for literal, colon in (found.groups() for found in _STRING.finditer(body)):
        if not colon:
            continue
        name = json.loads(literal)
        if name in names:
            raise BadParameter.of(name, "two members", "given once")
        names.add(name)


def _text(value: object) -> str:
    """Write a member as it would stand in a query; what cannot stand there is refused later."""
    return value if isinstance(value, str) else json.dumps(value)


def _reason(error: ErrorDetails) -> str:
    """Say what is wrong; pydantic writes the largest number out, in a hundred digits."""
    limits = error.get("ctx", {})
    if limits.get("le") == LARGEST or limits.get("ge") == -LARGEST:
        return f"input should be from {-LARGEST:g} to {LARGEST:g}"
    return error["msg"].lower()


def _place(location: tuple[int | str, ...]) -> str:
    """Write where in the document: points[3][1]."""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return steps.lstrip(".") or "the body"
