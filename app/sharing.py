"""The use case of many pictures: count a folder, find the palette that serves all of it best."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from app.census import Census, load_census, save_census, take_census
from app.errors import BadParameter, ServiceError
from app.jobs import OnProgress
from app.options import PaletteOptions
from app.palettes import palette_entries
from app.schemas import FitEngine, PicturesInput, SharedPaletteAnswer
from app.service import Service, given
from gpu_kmeans import SharedPalette, Tally, __version__, shared_palette

__all__ = ["SharedPaletteJob", "share_palette"]

_COUNTING = 0.95  # about that share of the time


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPaletteJob:
    """Colours to reduce to a palette.

    Attributes:
        tally: Of some pictures.
        options: Keywords of `gpu_kmeans.shared_palette`, only those that differ from its defaults.
        on_progress: Told the share of the work done, from the engine's thread.
    """

    tally: Tally
    options: Mapping[str, Any]
    on_progress: OnProgress | None = None

    def run(self, device: torch.device, backend: str) -> SharedPalette:
        """Find the palette on the device."""
        return shared_palette(
            self.tally,
            device=device,
            backend=backend,
            on_progress=self.on_progress,
            **self.options,
        )


async def share_palette(
    service: Service,
    folder: Path,
    options: PaletteOptions,
    *,
    state: Path | None = None,
    on_progress: OnProgress | None = None,
    on_skip: Callable[[str, ServiceError], None],
) -> SharedPaletteAnswer:
    """Give one palette for all pictures in a folder and below.

    Args:
        service: What decodes and computes.
        folder: Where the pictures are.
        options: As of one picture.
        state: A file that keeps what has been counted, to go on from.
        on_progress: Told the share of the work done.
        on_skip: Told of each file that does not decode, and why.

    Raises:
        BadParameter: There is no picture, the state does not fit, or an option does not.
    """
    if options.min_quality is not None:
        raise BadParameter.of("min_quality", options.min_quality, "for one picture, not for many")
    report = on_progress or (lambda _: None)
    census = await take_census(
        folder,
        service.decoder,
        load_census(state) if state else Census.empty(),
        save=partial(save_census, path=state) if state else lambda _: None,
        leave_out=state,
        on_progress=lambda share: report(_COUNTING * share),
        on_skip=on_skip,
    )
    if not census.pictures:
        raise BadParameter.of("shared", str(folder), "a folder with pictures in it or below")
    return await describe_shared(service, census, options, report)


async def describe_shared(
    service: Service, census: Census, options: PaletteOptions, report: OnProgress
) -> SharedPaletteAnswer:
    """Find the palette of what was counted, and say what it is.

    Raises:
        BadParameter: An option does not fit.
    """
    tally = census.tally
    job = SharedPaletteJob(
        tally=tally,
        options=given(options, leave_out={"format"}),
        on_progress=lambda share: report(_COUNTING + (1 - _COUNTING) * share),
    )
    outcome = await service.compute(job)
    found = outcome.result
    return SharedPaletteAnswer(
        input=PicturesInput(
            pictures=census.pictures,
            pixels=tally.pixels,
            unique_colors=found.unique_colors,
            cell_levels=1 << tally.shift,
        ),
        k=found.k,
        k_reason=found.k_reason,
        centroids=found.centroids.tolist(),
        palette=palette_entries(found.palette, found.counts),
        wcss=found.wcss,
        wcss_bounds=found.wcss_bounds,
        psnr_db=found.psnr_db,
        engine=FitEngine(
            device=outcome.device,
            backend=outcome.backend,
            n_iter=found.n_iter,
            converged=found.converged,
            seed=found.seed,
            version=__version__,
        ),
        warnings=(*_gone(census), *found.warnings),
    )


def _gone(census: Census) -> tuple[str, ...]:
    """A sum cannot be taken apart; that it holds more than the folder is said."""
    if not census.gone:
        return ()
    return (f"{census.gone} pictures counted earlier are no longer there; they stay counted",)
