"""What the service answers, as JSON: the same documents over HTTP and from the command."""

import base64
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

PictureBytes = Annotated[
    bytes,
    BeforeValidator(lambda raw: base64.b64decode(raw) if isinstance(raw, str) else raw),
    PlainSerializer(lambda raw: base64.b64encode(raw).decode(), str, when_used="json"),
]
Warnings = Annotated[
    tuple[str, ...], Field(description="what was assumed, left out or not reached")
]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class EncodedPicture(_Answer):
    """The picture returned."""

    data: PictureBytes = Field(description="the file, base64")
    media_type: str
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    bytes: int = Field(description="length of the file")


class PictureInput(_Answer):
    """The picture that came."""

    width: int = Field(description="pixels, upright")
    height: int = Field(description="pixels, upright")
    bytes: int = Field(description="length of the file")
    media_type: str = Field(description="what the bytes are, whatever was declared")


class CountedPictureInput(PictureInput):
    """The picture that came, its colours counted."""

    unique_colors: int


class PointsInput(_Answer):
    """The points that came."""

    points: int
    dimensions: int


class PaletteEntry(_Answer):
    """One colour of the palette."""

    hex: str = Field(description="#rrggbb, sRGB")
    rgb: tuple[int, int, int]
    alpha: int | None = Field(
        default=None,
        exclude_if=lambda alpha: alpha is None,
        description="0..255, straight; where there is alpha",
    )
    count: int = Field(description="pixels of this colour in the picture")
    share: float = Field(description="count over all pixels")


class CurvePoint(_Answer):
    """WCSS at one k: the picture's own, RGB, undithered, unrounded."""

    k: int
    wcss: float


class PictureCurvePoint(CurvePoint):
    """WCSS and PSNR of a picture at one k."""

    psnr_db: float | None = Field(description="null where WCSS is 0")


class FitEngine(_Answer):
    """What computed the fit, and how it went."""

    device: str
    backend: str
    n_iter: int
    converged: bool
    seed: int
    version: str


class CurveEngine(_Answer):
    """What computed the curve; chance has no part in it."""

    device: str
    backend: str
    version: str


class Timing(_Answer):
    """Where the time went, in milliseconds."""

    queue: float
    decode: float
    kmeans: float
    encode: float


class PaletteAnswer(_Answer):
    """The colours of a picture.

    `k` is the number of entries; `centroids[i]` is the fit's centroid of entry i before rounding,
    sRGB 0..255, with straight alpha as a fourth where there is alpha.
    """

    input: CountedPictureInput
    k: int
    k_reason: str = Field(
        description="asked, elbow, min_psnr, min_quality, max_bytes or distinct colors"
    )
    centroids: list[list[float]]
    palette: list[PaletteEntry]
    wcss: float = Field(description="of the picture in these colours, RGB units")
    psnr_db: float | None = Field(description="null where WCSS is 0")
    quality: float | None = Field(description="0..100, see min_quality; null where not asked for")
    engine: FitEngine
    timing_ms: Timing
    warnings: Warnings


class PicturesInput(_Answer):
    """The pictures that came, their colours added up."""

    pictures: int
    pixels: int
    unique_colors: int = Field(description="merged ones as one")
    cell_levels: int = Field(description="levels of a channel merged into one; 1 where exact")


class SharedPaletteAnswer(_Answer):
    """The palette of many pictures; see `PaletteAnswer`."""

    input: PicturesInput
    k: int
    k_reason: str
    centroids: list[list[float]]
    palette: list[PaletteEntry]
    wcss: float = Field(description="of the colours added up, in these, RGB units")
    wcss_bounds: tuple[float, float] = Field(description="between which that of the pictures is")
    psnr_db: float | None
    engine: FitEngine
    warnings: Warnings


class CompressAnswer(PaletteAnswer):
    """A picture in k colours, its colours and its elbow curve."""

    image: EncodedPicture
    kept_original: bool = Field(description="whether `image` is the file that came, untouched")
    wcss_curve: list[CurvePoint] | None = Field(
        description="null where it was not asked for, or the palette was given"
    )


class CurveCriterion(_Answer):
    """What one rule says about k."""

    k: int | None = Field(description="the k it picks; null where it cannot")
    values: list[float | None] = Field(description="its value at each k of the curve, if any")
    meaning: str = Field(description="what it measures and how it picks, in words")


class ClusterAnswer(_Answer):
    """Points in k clusters."""

    input: PointsInput
    k: int = Field(description="clusters found: rows of centroids")
    k_reason: str = Field(description="asked, elbow or distinct points")
    metric: str
    p: float
    centroids: list[list[float]]
    labels: list[int] = Field(description="each point's centroid; the lowest index where equal")
    counts: list[int] = Field(description="points of each cluster")
    wcss: float = Field(description="the metric's objective; for euclidean WCSS")
    history: list[float] = Field(description="the objective at each iteration, then of the answer")
    engine: FitEngine
    timing_ms: Timing
    warnings: Warnings


class ElbowAnswer(_Answer):
    """WCSS against k, and the k where more colours stop paying."""

    input: PictureInput | PointsInput
    curve: list[PictureCurvePoint | CurvePoint]
    knee: int | None = Field(description="null where the curve has no knee")
    method: Literal["kneedle"] = "kneedle"
    criteria: dict[str, CurveCriterion] = Field(
        description="the knee, Calinski-Harabasz, simplified silhouette and target error"
    )
    fit_ms: list[float] = Field(description="milliseconds each k took from the one before")
    engine: CurveEngine
    timing_ms: Timing
    warnings: Warnings


class Health(_Answer):
    """That the service lives, and what it computes on."""

    status: Literal["ok"] = "ok"
    device: str
    backend: str
    version: str


class Problem(BaseModel):
    """An error, RFC 9457; some carry more members: `parameter`, `got`, `allowed`, `limit_bytes`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="urn:gpu-kmeans:<code>")
    title: str
    status: int
    code: str
    detail: str
