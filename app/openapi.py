"""What the API's description says about the doors that read their request themselves.

Their parameters may be query or form fields and their body raw or multipart, so the framework
cannot read them off a signature; the same models that parse them describe them here.
"""

from typing import Any

from pydantic import BaseModel

from app.codecs import MEDIA_TYPES
from app.errors import PROBLEM_MEDIA_TYPE
from app.options import (
    ClusterOptions,
    CompressOptions,
    CubeOptions,
    ElbowOptions,
    PaletteOptions,
    StepsOptions,
    TrapOptions,
    allowed,
)
from app.schemas import (
    ClusterAnswer,
    CompressAnswer,
    ElbowAnswer,
    Health,
    PaletteAnswer,
    Problem,
)

_BINARY = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
_POINTS = {
    "schema": {
        "type": "object",
        "required": ["points"],
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "description": "Members beside points and weights are parameters, as in the query.",
        "properties": {
            "points": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "array", "minItems": 1, "items": {"type": "number"}},
            },
            "weights": {"type": ["array", "null"], "items": {"type": "number", "minimum": 0}},
        },
    },
    "example": {"points": [[0, 0], [1, 0], [9, 9]], "weights": [1, 1, 2]},
}


def _parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    properties = model.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "description": f"{schema.get('description', '')} [{allowed(model, name)}]",
            "schema": schema,
        }
        for name, schema in properties.items()
    ]


def _body(other: dict[str, Any]) -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
    }
    pictures = dict.fromkeys(dict.fromkeys(MEDIA_TYPES.values()), _BINARY)
    return {
        "required": True,
        "description": "The picture, as the field `file` (or `image`) of a form, or as it is.",
        "content": {"multipart/form-data": {"schema": form}, **pictures, **other},
    }


def _points_body(example: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": _POINTS["schema"], "example": example}
    return {
        "required": True,
        "description": "Points as JSON, as they are or as the field `file` of a form.",
        "content": {"application/json": content},
    }


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": Problem, "description": "Problem", "content": {PROBLEM_MEDIA_TYPE: {}}}
        for status in statuses
    }


def _door(
    options: type[BaseModel],
    answer: type[BaseModel] | None,
    media_types: tuple[str, ...],
    other_bodies: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe one POST door, whose answer may be JSON: the keywords of its route."""
    ok: dict[str, Any] = {"content": dict.fromkeys(media_types, _BINARY)}
    ok |= {"model": answer} if answer else {}
    return {
        "responses": {200: ok, **_problems(401, 408, 413, 415, 422, 429, 431, 500, 503, 504)},
        "openapi_extra": {
            "parameters": _parameters(options),
            "requestBody": _body(other_bodies or {}),
        },
    }


compress = _door(CompressOptions, CompressAnswer, tuple(dict.fromkeys(MEDIA_TYPES.values())))
elbow = _door(
    ElbowOptions, ElbowAnswer, ("image/svg+xml", "image/png"), {"application/json": _POINTS}
)
cluster = _door(ClusterOptions, ClusterAnswer, ("image/svg+xml", "image/png"))
cluster["openapi_extra"]["requestBody"] = _points_body(
    {"points": [[0, 0], [1, 0], [9, 9]], "k": 2, "metric": "cityblock"}
)
palette = _door(
    PaletteOptions, PaletteAnswer, ("text/css", "text/plain", "application/octet-stream")
)
_SQUARE = [[0, 0], [1, 0], [0, 9], [1, 9]]
_DRAWINGS = ("image/png", "image/svg+xml")
plot_comparison = _door(CompressOptions, None, _DRAWINGS)
plot_cube = _door(CubeOptions, None, _DRAWINGS)
plot_steps = _door(StepsOptions, None, _DRAWINGS)
plot_steps["openapi_extra"]["requestBody"] = _points_body({"points": _SQUARE, "k": 2})
plot_trap = _door(TrapOptions, None, _DRAWINGS, {"application/json": _POINTS})
results: dict[str, Any] = {"responses": {304: {"description": "unchanged"}, **_problems(401, 404)}}
readyz: dict[str, Any] = {"responses": {200: {"model": Health}, **_problems(503)}}
