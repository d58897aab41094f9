"""What is answered: outcomes in the words of `app.schemas`."""

from typing import Any

import numpy as np

from app.codecs import DecodedPicture
from app.compression import Made
from app.jobs import Outcome
from app.options import ClusterOptions, ElbowOptions
from app.palettes import palette_entries
from app.points import Points
from app.schemas import (
    CompressAnswer,
    CountedPictureInput,
    CurveCriterion,
    CurveEngine,
    CurvePoint,
    ElbowAnswer,
    EncodedPicture,
    FitEngine,
    PictureCurvePoint,
    PictureInput,
    PointsInput,
    Timing,
)
from gpu_kmeans import ElbowCurve, KMeansResult, QuantizedImage, __version__
from gpu_kmeans.metrics import psnr_db

__all__ = [
    "OF_THE_CURVE",
    "describe_clusters",
    "describe_colors",
    "describe_elbow",
    "describe_made",
    "timing",
]

OF_THE_CURVE = {"k_max", "metric", "p", "target_error"}  # the parameters that change it
_BACKEND_OF_OTHERS = "reference"  # runs all but the two metrics that squared distances serve
_SQUARED = {"euclidean", "cosine"}


def describe_colors(picture: DecodedPicture, outcome: Outcome[QuantizedImage]) -> dict[str, Any]:
    """Describe what `/compress` and `/palette` have in common. Never raises."""
    quantized = outcome.result
    return {
        "input": CountedPictureInput(
            **_picture_input(picture).model_dump(), unique_colors=quantized.unique_colors
        ),
        "k": quantized.k,
        "k_reason": quantized.k_reason,
        "centroids": quantized.centroids.tolist(),
        "palette": palette_entries(np.asarray(quantized.palette), np.asarray(quantized.counts)),
        "wcss": quantized.wcss,
        "psnr_db": quantized.psnr_db,
        "quality": quantized.quality,
        "engine": FitEngine(
            device=outcome.device,
            backend=outcome.backend,
            n_iter=quantized.n_iter,
            converged=quantized.converged,
            seed=quantized.seed,
            version=__version__,
        ),
        "warnings": (*picture.warnings, *quantized.warnings, *outcome.warnings),
    }


def describe_made(
    picture: DecodedPicture, made: Made, decode_ms: float, *, with_curve: bool
) -> CompressAnswer:
    """Describe a picture and its file as `/compress` answers them. Never raises."""
    outcome, file, quantized = made.outcome, made.file, made.outcome.result
    described = describe_colors(picture, outcome)
    warnings = (*described["warnings"], *file.warnings)
    truth = {"wcss": file.wcss, "psnr_db": file.psnr_db, "warnings": warnings}
    if file.kept_original and quantized.quality is not None:
        truth["quality"] = 100.0
    return CompressAnswer(
        **(described | truth),
        image=EncodedPicture(
            data=file.data,
            media_type=file.media_type,
            width=picture.width,
            height=picture.height,
            bytes=len(file.data),
        ),
        kept_original=file.kept_original,
        wcss_curve=_curve(quantized.curve) if with_curve and quantized.curve else None,
        timing_ms=timing(outcome, decode_ms, made.encode_ms),
    )


def _picture_input(picture: DecodedPicture) -> PictureInput:
    return PictureInput(
        width=picture.width,
        height=picture.height,
        bytes=picture.bytes,
        media_type=picture.media_type,
    )


def _curve(curve: ElbowCurve) -> list[CurvePoint]:
    return [CurvePoint(k=k, wcss=wcss) for k, wcss in zip(curve.ks, curve.wcss, strict=True)]


def describe_elbow(
    outcome: Outcome[ElbowCurve],
    source: DecodedPicture | Points,
    options: ElbowOptions,
    decode_ms: float,
) -> ElbowAnswer:
    """Describe a curve as `/elbow` answers it. Never raises."""
    curve = outcome.result
    return ElbowAnswer(
        **_describe_curve(curve, source),
        knee=curve.knee,
        criteria=_criteria(curve),
        fit_ms=[round(1e3 * seconds, 3) for seconds in curve.fit_s],
        engine=CurveEngine(
            device=outcome.device, backend=_backend(outcome, options), version=__version__
        ),
        timing_ms=timing(outcome, decode_ms, encode_ms=0.0),
        warnings=(
            *_notes(source),
            *curve.warnings,
            *outcome.warnings,
            *_without_effect(options),
        ),
    )


def _describe_curve(curve: ElbowCurve, source: DecodedPicture | Points) -> dict[str, Any]:
    """Describe where a curve comes from, and give PSNR where it is a picture."""
    if isinstance(source, Points):
        n_points, n_dimensions = source.points.shape
        return {
            "input": PointsInput(points=n_points, dimensions=n_dimensions),
            "curve": _curve(curve),
        }
    return {
        "input": _picture_input(source),
        "curve": [
            PictureCurvePoint(k=k, wcss=wcss, psnr_db=psnr_db(wcss, source.pixels.shape))
            for k, wcss in zip(curve.ks, curve.wcss, strict=True)
        ],
    }


def _criteria(curve: ElbowCurve) -> dict[str, CurveCriterion]:
    return {
        name: CurveCriterion(k=each.k, values=list(each.values), meaning=each.meaning)
        for name, each in curve.criteria.items()
    }


def describe_clusters(outcome: Outcome[KMeansResult], options: ClusterOptions) -> dict[str, Any]:
    """Describe clusters as `/cluster` answers them, but for points and times. Never raises."""
    result = outcome.result
    centroids, labels = np.asarray(result.centroids), np.asarray(result.labels)
    reason = "elbow" if options.k == "elbow" else "asked"
    return {
        "k": len(centroids),
        "k_reason": "distinct points" if result.warnings else reason,
        "metric": options.metric,
        "p": options.p,
        "centroids": centroids.tolist(),
        "labels": labels.tolist(),
        "counts": np.bincount(labels, minlength=len(centroids)).tolist(),
        "wcss": result.wcss,
        "history": list(result.wcss_history),
        "engine": FitEngine(
            device=outcome.device,
            backend=_backend(outcome, options),
            n_iter=result.n_iter,
            converged=result.converged,
            seed=options.seed,
            version=__version__,
        ),
        "warnings": (*result.warnings, *outcome.warnings),
    }


def _backend(outcome: Outcome[Any], options: ElbowOptions | ClusterOptions) -> str:
    """Name who did the work: what backends speed up are squared distances."""
    is_squared = options.metric in _SQUARED or (options.metric == "minkowski" and options.p == 2)  # noqa: PLR2004
    return outcome.backend if is_squared else _BACKEND_OF_OTHERS


def _notes(source: DecodedPicture | Points) -> tuple[str, ...]:
    return source.warnings if isinstance(source, DecodedPicture) else ()


def _without_effect(options: ElbowOptions) -> tuple[str, ...]:
    """Nothing given is ignored in silence."""
    names = sorted(options.model_fields_set - OF_THE_CURVE)
    return (f"no effect on the curve: {', '.join(names)}",) if names else ()


def timing(outcome: Outcome[Any], decode_ms: float, encode_ms: float) -> Timing:
    """Say where the time of an answer went. Never raises."""
    return Timing(
        queue=round(outcome.queue_ms, 3),
        decode=round(decode_ms, 3),
        kmeans=round(outcome.kmeans_ms, 3),
        encode=round(encode_ms, 3),
    )
