"""One palette for many pictures, counted on a Ray cluster: `python -m app.ray_palette FOLDER`.

Ray Data reads the files, counters on all machines decode them and add up their colours, and the
sums are added up in turn. Tallies add up in any order and grouping to the same bits, so the palette
is that of `gpu-kmeans palette --shared`, whatever the number of workers. Only sums travel: a
picture's colours leave the machine that read it together with those of the pictures beside it.
"""

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import click
import numpy as np
import ray
from ray.data import DataContext, Dataset, read_binary_files
from ray.data.aggregate import AggregateFn

from app.census import tally_from_bytes, tally_to_bytes
from app.cli_files import check_place
from app.decoder import Decoder, DecoderLimits
from app.engine import Engine
from app.errors import BadParameter, ServiceError
from app.options import PaletteOptions, parse_options
from app.palettes import palette_entries, write_palette
from app.settings import Settings
from app.sharing import SharedPaletteJob
from gpu_kmeans.tally import CAPACITY, Tally

__all__ = ["ClusterTally", "count_on_cluster"]

_PICTURES = 16  # counted into one sum before it travels
_FORMATS = ["css", "gpl", "act", "hex"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterTally:
    """What a cluster has counted.

    Attributes:
        tally: The colours.
        pictures: How many were counted.
        skipped: Of each file that does not decode, its name and why.
    """

    tally: Tally
    pictures: int
    skipped: tuple[str, ...]


def count_on_cluster(
    folder: str, *, workers: int, max_pixels: int, capacity: int = CAPACITY
) -> ClusterTally:
    """Count every picture in a folder and below, on the cluster this process is connected to.

    Args:
        folder: A path that all machines see, or an address Ray Data reads, such as `s3://...`.
        workers: How many counters, a processor each; reading needs at least one more, and
            all is waited for while others use them.
        max_pixels: Largest picture.
        capacity: Of the tallies.

    Returns:
        The sum, the same whatever the workers.

    Raises:
        FileNotFoundError: There is no such folder.
        BadParameter: The cluster has no more processors than that.
    """
    processors = int(ray.cluster_resources().get("CPU", 0))
    if workers >= processors:  # Ray Data would wait for ever
        raise BadParameter.of("workers", workers, f"fewer than the {processors} processors")
    DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    files: Dataset = read_binary_files(folder, include_paths=True)
    sums = files.map_batches(
        _Counter,
        fn_constructor_args=(max_pixels, capacity),
        batch_size=_PICTURES,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    found = sums.aggregate(_total(capacity))["total"]
    return ClusterTally(
        tally=tally_from_bytes(found["tally"]),
        pictures=int(found["pictures"]),
        skipped=tuple(sorted(found["skipped"])),
    )


class _Counter:
    """Decodes pictures in a process that can be killed, and adds up their colours."""

    def __init__(self, max_pixels: int, capacity: int) -> None:
        self._decoder = Decoder(DecoderLimits(max_pixels=max_pixels))
        self._runner = asyncio.Runner()
        self._capacity = capacity

    def __call__(self, files: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Give one row for a batch of files."""
        named = list(zip(files["path"], files["bytes"], strict=True))
        return self._runner.run(self._count(named))

    async def _count(self, files: Sequence[tuple[str, bytes]]) -> dict[str, list[Any]]:
        tallies, skipped = [Tally.empty(self._capacity)], []
        for path, encoded in files:
            try:
                async with self._decoder.decoded(encoded) as picture:
                    tallies.append(Tally.from_pixels(picture.pixels, capacity=self._capacity))
            except ServiceError as error:
                skipped.append(f"{path}: {error}")
        total = tally_to_bytes(Tally.total(tallies))
        return {"tally": [total], "pictures": [len(tallies) - 1], "skipped": [skipped]}


def _total(capacity: int) -> AggregateFn:
    nothing = tally_to_bytes(Tally.empty(capacity))

    def add(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
        both = [tally_from_bytes(each["tally"]) for each in (one, other)]
        return {
            "tally": tally_to_bytes(Tally.total(both)),
            "pictures": int(one["pictures"]) + int(other["pictures"]),
            "skipped": [*one["skipped"], *other["skipped"]],
        }

    return AggregateFn(
        init=lambda _key: {"tally": nothing, "pictures": 0, "skipped": []},
        accumulate_row=add,
        merge=add,
        name="total",
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder")
@click.option("-k", default="256", show_default=True, help="how many colours")
@click.option("--seed", default="0", show_default=True, help="same seed, same answer")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--address", help="of a cluster; one of this machine alone where none is given")
@click.option("--format", "palette_format", type=click.Choice(_FORMATS), default="hex")
@click.option(
    "-o", "--output", type=click.File("wb"), default="-", metavar="OUT", callback=check_place
)
def main(
    *,
    folder: str,
    k: str,
    seed: str,
    workers: int,
    address: str | None,
    palette_format: str,
    output: BinaryIO,
) -> None:
    """Write one palette for all pictures in FOLDER and below, counted on a Ray cluster."""
    settings = Settings()
    with contextlib.redirect_stdout(sys.stderr):  # where Ray's own warnings belong
        try:
            options = parse_options(PaletteOptions, [("k", k), ("seed", seed)])
            own = {} if address else {"num_cpus": workers + 1, "include_dashboard": False}
            ray.init(address or "local", log_to_driver=False, ignore_reinit_error=True, **own)
            counted = count_on_cluster(folder, workers=workers, max_pixels=settings.max_pixels)
            for each in counted.skipped:
                click.echo(f"skipped: {each}", err=True)
            if not counted.pictures:
                raise BadParameter.of("folder", folder, "a folder with pictures in it or below")
            keywords = options.model_dump(exclude_unset=True)
            job = SharedPaletteJob(tally=counted.tally, options=keywords)
            found = asyncio.run(Engine(settings.backend).submit(job)).result
        except ServiceError as error:
            raise click.ClickException(str(error)) from error
        output.write(write_palette(palette_entries(found.palette, found.counts), palette_format))
        click.echo(f"{counted.pictures:,} pictures, {counted.tally.pixels:,} pixels", err=True)


if __name__ == "__main__":
    main()
