"""What commands say of an answer: lines on standard error, and the curve as a table."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from app.schemas import ClusterAnswer, CompressAnswer, ElbowAnswer, SharedPaletteAnswer


def report_compression(answer: "CompressAnswer") -> None:
    """Say how many colours and bytes there were and are."""
    click.echo(
        f"{answer.input.width} x {answer.input.height}: {answer.input.unique_colors:,} colours -> "
        f"{answer.k} ({answer.k_reason}), {answer.input.bytes:,} bytes -> {answer.image.bytes:,}"
        f"{' (the original)' if answer.kept_original else ''}, "
        f"PSNR {_decibels(answer.psnr_db)}, WCSS {answer.wcss:.6g}",
        err=True,
    )
    warn(answer.warnings)


def report_shared(answer: "SharedPaletteAnswer", n_skipped: int) -> None:
    """Say what a shared palette was made of."""
    click.echo(
        f"{answer.input.pictures:,} pictures, {answer.input.pixels:,} pixels, {n_skipped:,} files "
        f"skipped: {answer.input.unique_colors:,} colours -> {answer.k} ({answer.k_reason}), "
        f"PSNR {_decibels(answer.psnr_db)}, WCSS {answer.wcss:.6g}",
        err=True,
    )


def report_clusters(answer: "ClusterAnswer") -> None:
    """Say how many clusters there are, and how far points lie from their centres."""
    distance = (
        f"{answer.metric}, p = {answer.p:g}" if answer.metric == "minkowski" else answer.metric
    )
    objective = "WCSS" if answer.metric == "euclidean" else f"objective ({distance})"
    click.echo(
        f"{answer.input.points:,} points x {answer.input.dimensions} -> {answer.k} clusters "
        f"({answer.k_reason}), {objective} {answer.wcss:.6g}, {answer.engine.n_iter} iterations",
        err=True,
    )
    warn(answer.warnings)


def elbow_table(answer: "ElbowAnswer") -> str:
    """WCSS for each k, where the knee is, and what each criterion picks and means."""
    rows = [
        f"{point.k:4d}  {point.wcss:14.6g}{'  <- knee' if point.k == answer.knee else ''}"
        for point in answer.curve
    ]
    said = [
        f"{name}: {criterion.k or 'none'}, {criterion.meaning}"
        for name, criterion in answer.criteria.items()
    ]
    return "\n".join([f"{'k':>4}  {'WCSS':>14}", *rows, "", *said])


def warn(warnings: tuple[str, ...]) -> None:
    """Say what the user may want to know."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _decibels(psnr_db: float | None) -> str:
    return "exact" if psnr_db is None else f"{psnr_db:.2f} dB"
