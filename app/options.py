"""The words of a request: what `/compress`, `/elbow`, `/palette` and their commands take.

One definition serves both doors and the API's own description. Names and defaults are those of the
Python keywords (a test compares them); only what was given is passed on, so the library's defaults
hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from app.errors import BadParameter


@dataclass(frozen=True, slots=True)
class Allowed:
    """The values a parameter takes, in words, for messages and help."""

    text: str


def _restore_plus(value: object) -> object:
    """A plus sign in a query string arrives as a space."""
    return value.replace(" ", "+") if isinstance(value, str) else value


_COLOR = "(#?[0-9a-fA-F]{6}([0-9a-fA-F]{2})?|black|white)"
_COLORS_TEXT = "#rrggbb, #rrggbbaa, black or white, separated by commas"

K = Annotated[
    Annotated[int, Field(ge=1, le=256)] | Literal["elbow", "auto"],
    Allowed("1..256, elbow (the knee of the curve up to k_max) or auto (as a target has it)"),
    Field(description="how many colours at most"),
]
KMax = Annotated[int, Field(ge=2, le=256, description="end of the elbow curve"), Allowed("2..256")]
MinPsnr = Annotated[
    Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None,
    Field(description="least PSNR in dB: as few colours as reach it; k=auto alone means 32"),
    Allowed("above 0, up to 100 (dB)"),
]
MinQuality = Annotated[
    Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None,
    Field(description="least quality to the eye: as few colours as reach it"),
    Allowed("above 0, up to 100 (90: no difference seen, 70: high, 50: medium)"),
]
MaxBytes = Annotated[
    Annotated[int, Field(ge=1, lt=2**63)] | None,
    Field(description="longest file in bytes: as many colours as fit"),
    Allowed("1 or more, without palette and k=elbow"),
]
Prefer = Annotated[
    Literal["looks", "bytes"],
    Field(description="what decides space, dither, thrift and solid where they are not given"),
    Allowed("looks or bytes"),
]
Space = Annotated[
    Literal["rgb", "linear", "oklab"],
    Field(description="colour space in which distances are measured"),
    Allowed("rgb, linear or oklab"),
]
Dither = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False, description="strength of dithering"),
    Allowed("0..1"),
]
DitherMethod = Annotated[
    Literal["diffusion", "blue-noise"],
    Field(description="of dithering; with blue noise the same colour in place gets the same entry"),
    Allowed("diffusion or blue-noise"),
]
PreferredSpace = Annotated[
    Space | None,
    Field(description="colour space in which distances are measured, if not what prefer says"),
    Allowed("rgb, linear or oklab"),
]
PreferredDither = Annotated[
    Dither | None,
    Field(description="strength of dithering, if not what prefer says"),
    Allowed("0..1"),
]
PreferredThrift = Annotated[
    Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None,
    Field(description="how much pixels prefer the colours beside them, if not what prefer says"),
    Allowed("0..10, without dithering"),
]
PreferredSolid = Annotated[
    bool | None,
    Field(description="whether areas of one colour keep it, if not what prefer says"),
    Allowed("true or false"),
]
Curve = Annotated[
    bool, Field(description="whether to compute the elbow curve too"), Allowed("true or false")
]
Colors = Annotated[
    Annotated[str, Field(pattern=f"^{_COLOR}(,{_COLOR}){{0,255}}$")] | None,
    Allowed(f"1 to 256 colours: {_COLORS_TEXT}"),
    Field(description="colours to use instead of computed ones"),
]
Reserved = Annotated[
    Annotated[str, Field(pattern=f"^{_COLOR}(,{_COLOR}){{0,255}}$")] | None,
    Allowed(f"1 to k colours: {_COLORS_TEXT}"),
    Field(description="colours that must be in the palette, the others being computed"),
]
Order = Annotated[
    Literal["given", "luminance", "popularity"],
    Field(description="order of the palette; given: colours given first, then by luminance"),
    Allowed("given, luminance or popularity"),
]
Metadata = Annotated[
    Literal["strip", "keep"],
    Field(description="what becomes of EXIF and XMP; the file is upright and sRGB in any case"),
    Allowed("strip or keep"),
]
Init = Annotated[
    Literal["k-means++", "random"],
    BeforeValidator(_restore_plus),
    Field(description="how the first centroids are chosen"),
    Allowed("k-means++ or random"),
]
NInit = Annotated[
    int, Field(ge=1, le=100, description="fits to choose the best of"), Allowed("1..100")
]
MaxIter = Annotated[
    int, Field(ge=1, le=1000, description="most iterations of one fit"), Allowed("1..1000")
]
Tol = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False, description="movement at which a fit stops, relative"),
    Allowed("0..1"),
]
Refine = Annotated[
    int,
    Field(ge=0, le=2, description="how hard to look for a better optimum than Lloyd's"),
    Allowed("0, 1 or 2"),
]
Seed = Annotated[
    int,
    Field(ge=0, lt=2**63, description="same seed, same answer"),
    Allowed("0..9223372036854775807"),
]


Effort = Annotated[
    int,
    Field(ge=0, le=9, description="how hard to look for fewer bytes; 7 and above take seconds"),
    Allowed("0..9"),
]
SkipIfLarger = Annotated[
    bool,
    Field(description="whether to give the original back rather than a larger file"),
    Allowed("true or false"),
]


PointsK = Annotated[
    Annotated[int, Field(ge=1)] | Literal["elbow"],
    Allowed("1 to the number of points, or elbow (the knee of the curve up to k_max)"),
    Field(description="how many clusters; fewer come back where there are fewer distinct points"),
]
Distance = Annotated[
    Literal["euclidean", "cityblock", "chebyshev", "minkowski", "cosine"],
    Field(description="the distance, with the objective that goes with it"),
    Allowed("euclidean, cityblock, chebyshev, minkowski or cosine"),
]
P = Annotated[
    float,
    Field(ge=1, allow_inf_nan=False, description="exponent of metric=minkowski"),
    Allowed("1 or more, with metric=minkowski; else 2"),
]
TargetError = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
    Field(description="error of a point that the criterion target_error has to reach"),
    Allowed("0 or more, in the unit of the points"),
]


PlotK = Annotated[
    int, Field(ge=1, le=256, description="how many colours or clusters"), Allowed("1..256")
]


_TARGETS = {"min_psnr", "min_quality", "max_bytes"}


def _choose_by_targets(given: Any) -> Any:
    """Where a target is given and k is not, the target chooses k."""
    if isinstance(given, dict) and "k" not in given and given.keys() & _TARGETS:
        return given | {"k": "auto"}
    return given


def _choose_effort(given: Any) -> Any:
    """Who prefers bytes waits a little for those of a PNG: docs/decisions/0009-encoders.md."""
    if not isinstance(given, dict) or "effort" in given or given.get("prefer") != "bytes":
        return given
    return given | {"effort": 2} if given.get("format", "png") == "png" else given


class ElbowOptions(BaseModel):
    """What `/elbow` takes beside the picture or the points.

    A curve is a matter of its points alone: how single fits are made is taken, as everywhere, and
    changes nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    k_max: KMax = 20
    metric: Distance = "euclidean"
    p: P = 2.0
    target_error: TargetError = None
    init: Init = "k-means++"
    n_init: NInit = 1
    max_iter: MaxIter = 300
    tol: Tol = 1e-4
    refine: Refine = 1
    seed: Seed = 0


class ClusterOptions(BaseModel):
    """What `/cluster` takes beside the points: Lloyd's iteration as in Python, unrefined."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: PointsK = 64
    k_max: KMax = 20
    metric: Distance = "euclidean"
    p: P = 2.0
    init: Init = "k-means++"
    n_init: NInit = 1
    max_iter: MaxIter = 300
    tol: Tol = 1e-4
    refine: Refine = 0
    seed: Seed = 0


class CubeOptions(BaseModel):
    """What the plot of a picture in the RGB cube takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: PlotK = 8
    seed: Seed = 0


class StepsOptions(BaseModel):
    """What the plot of Lloyd's steps takes beside the points."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: PlotK = 8
    metric: Distance = "euclidean"
    p: P = 2.0
    seed: Seed = 0


class TrapOptions(BaseModel):
    """What the plot of many starts takes: their seeds are 0, 1, 2, ..."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: PlotK = 8
    starts: Annotated[
        int,
        Field(ge=2, le=500, description="starts of either kind, for the trap"),
        Allowed("2..500"),
    ] = 100


class PaletteOptions(BaseModel):
    """What `/palette` takes beside the picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    _by_targets = model_validator(mode="before")(_choose_by_targets)

    k: K = 64
    k_max: KMax = 20
    min_psnr: MinPsnr = None
    min_quality: MinQuality = None
    space: Space = "rgb"
    order: Order = "given"
    init: Init = "k-means++"
    n_init: NInit = 1
    max_iter: MaxIter = 300
    tol: Tol = 1e-4
    refine: Refine = 1
    seed: Seed = 0
    format: Annotated[
        Literal["json", "css", "gpl", "act", "hex"],
        Field(description="how the colours are written"),
        Allowed("json, css, gpl, act or hex"),
    ] = "json"


class CompressOptions(BaseModel):
    """What `/compress` takes beside the picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    _by_targets = model_validator(mode="before")(_choose_by_targets)
    _by_preference = model_validator(mode="before")(_choose_effort)

    k: K = 64
    k_max: KMax = 20
    min_psnr: MinPsnr = None
    min_quality: MinQuality = None
    max_bytes: MaxBytes = None
    prefer: Prefer = "looks"
    space: PreferredSpace = None
    dither: PreferredDither = None
    dither_method: DitherMethod = "diffusion"
    thrift: PreferredThrift = None
    solid: PreferredSolid = None
    palette: Colors = None
    reserve: Reserved = None
    order: Order = "given"
    curve: Curve = True
    init: Init = "k-means++"
    n_init: NInit = 1
    max_iter: MaxIter = 300
    tol: Tol = 1e-4
    refine: Refine = 1
    seed: Seed = 0
    format: Annotated[
        Literal["png", "webp", "gif"],
        Field(description="format of the picture returned"),
        Allowed("png, webp or gif"),
    ] = "png"
    effort: Effort = 1
    metadata: Metadata = "strip"
    skip_if_larger: SkipIfLarger = False


Options = TypeVar("Options", bound=BaseModel)


def parse_options(model: type[Options], fields: Iterable[tuple[str, str]]) -> Options:
    """Read options from names and texts, as a query, a form or a command line gives them.

    Args:
        model: Which options are known.
        fields: Name and text of each parameter given.

    Returns:
        The options; `model_fields_set` holds those that were given.

    Raises:
        BadParameter: One is unknown, given twice or out of range.

    Example:
        >>> parse_options(CompressOptions, [("k", "16")]).k
        16
        >>> parse_options(CompressOptions, [("k", "1.5")])
        Traceback (most recent call last):
        app.errors.BadParameter: k='1.5' is not allowed: 1..256, elbow ...
    """
    given: dict[str, str] = {}
    for name, text in fields:
        if name in given:
            raise BadParameter.of(name, f"{given[name]}, {text}", "given once")
        given[name] = text
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _bad_parameter(model, error.errors()[0]) from error


def add_options(options: Options, fields: Iterable[tuple[str, str]]) -> Options:
    """Read more options from the members of a document, beside those of the query.

    Raises:
        BadParameter: See `parse_options`; one given in both places is given twice.

    Example:
        >>> add_options(ElbowOptions(k_max=5), [("metric", "cosine")]).k_max
        5
    """
    given = options.model_dump(exclude_unset=True)
    more = parse_options(type(options), fields).model_dump(exclude_unset=True)
    for name in given.keys() & more.keys():
        raise BadParameter.of(name, f"{given[name]}, {more[name]}", "given once")
    return type(options).model_validate(given | more)


def allowed(model: type[BaseModel], name: str) -> str:
    """Say in words what a parameter takes. Never raises for a parameter of the model.

    Example:
        >>> allowed(CompressOptions, "dither")
        '0..1'
    """
    metadata = model.model_fields[name].metadata
    return next((item.text for item in metadata if isinstance(item, Allowed)), "")


def _bad_parameter(model: type[BaseModel], error: ErrorDetails) -> BadParameter:
    name = str(error["loc"][0])
    if name not in model.model_fields:
        return BadParameter.of(name, error["input"], f"the parameters here are {_names(model)}")
    return BadParameter.of(name, error["input"], allowed(model, name))


def _names(model: type[BaseModel]) -> str:
    *names, last = model.model_fields
    return f"{', '.join(names)} and {last}"
