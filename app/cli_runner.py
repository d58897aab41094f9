"""Run a use case of the service for a command: settings, progress, and errors in words."""

import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from app.errors import BadParameter, ServiceError

if TYPE_CHECKING:
    from app.jobs import OnProgress
    from app.service import Service
    from app.settings import Settings

T = TypeVar("T")
_BAR_STEPS = 1000


def read_settings(given: dict[str, Any]) -> "Settings":
    """Read the settings of the environment; those given here come first."""
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        raise click.UsageError(str(error)) from error


def run(
    use_case: "Callable[[Service, OnProgress | None], Coroutine[None, None, T]]",
    label: str = "k-means",
) -> T:
    """Run a use case on a service of its own, with a progress bar."""
    import asyncio

    from anyio import CapacityLimiter

    from app.decoder import Decoder, DecoderLimits
    from app.drawer import Drawer

    settings = read_settings({})
    decoder = Decoder(DecoderLimits(max_pixels=settings.max_pixels))
    decoder.warm_up()  # beside the heavy imports
    drawer = Drawer()

    from app.engine import Engine
    from app.service import Service

    async def run() -> T:
        engine = Engine(settings.backend)
        service = Service(
            compute=engine.submit,
            decoder=decoder,
            max_points_bytes=settings.max_points_bytes,
            threads=CapacityLimiter(settings.codec_threads),
            drawer=drawer,
        )
        with _progress_bar(label) as on_progress:
            return await use_case(service, on_progress)

    with spoken_errors(), closing(decoder), closing(drawer):
        return asyncio.run(run())


@contextmanager
def spoken_errors() -> Iterator[None]:
    """Let click say the errors that the user can mend."""
    try:
        yield
    except BadParameter as error:
        raise click.UsageError(str(error)) from error
    except ServiceError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _progress_bar(label: str) -> "Iterator[OnProgress | None]":
    """A bar on standard error, if somebody is looking at it."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=_BAR_STEPS, label=label, file=sys.stderr) as bar:
        yield lambda share: bar.update(max(0, round(_BAR_STEPS * share) - bar.pos))
        bar.update(_BAR_STEPS - bar.pos)
