"""The command `gpu-kmeans`: the same use cases, options and answers as over HTTP, on files.

Heavy imports wait until a command runs, so that `--help` answers at once. Messages go to standard
error; the exit code is 0, 2 for bad arguments, or 1 for bad input.
"""

import sys
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypeVar, cast

import click

from app.errors import BadParameter, ServiceError
from app.options import (
    ClusterOptions,
    CompressOptions,
    CubeOptions,
    ElbowOptions,
    Options,
    PaletteOptions,
    StepsOptions,
    TrapOptions,
    allowed,
    parse_options,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from app.jobs import OnProgress
    from app.plots import PlotFormat
    from app.plotting import Drawing
    from app.points import Points
    from app.schemas import (
        ClusterAnswer,
        CompressAnswer,
        ElbowAnswer,
        PaletteAnswer,
        SharedPaletteAnswer,
    )
    from app.service import Service
    from app.settings import Settings
    from app.tables import Table

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., None])
Given = tuple[str, ...]  # an option's texts, as often as it was given
_BAR_STEPS = 1000
_HEALTH_TIMEOUT_S = 5.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - where a listener on all of them is asked
_EFFORT = "4"  # of the command: nobody waits behind it, and more gains less than half a per cent
_SOURCE = click.argument("source", metavar="IN", type=click.File("rb"))


def _options(
    model: "type[BaseModel]",
    leave_out: Collection[str] = (),
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[Command], Command]:
    """Give a command the options of a model: same names, same words."""

    def decorate(command: Command) -> Command:
        for name, field in reversed(model.model_fields.items()):
            if name in leave_out:
                continue
            flags = [f"--{name.replace('_', '-')}", *(["-k"] if name == "k" else [])]
            usual = defaults.get(name, field.default)
            default = "" if usual is None else f"  [default: {usual}]"
            text = f"{field.description}: {allowed(model, name)}{default}"
            command = click.option(*flags, name, multiple=True, metavar="VALUE", help=text)(command)
        return command

    return decorate


def _table_options(command: Command) -> Command:
    """Give a command the options that say how to read CSV."""
    for option in reversed(
        (
            click.option("--columns", metavar="NAMES", help="of CSV: names, or numbers from 1"),
            click.option("--weights", metavar="NAME", help="column of how much each row counts"),
            click.option(
                "--header",
                type=click.Choice(["auto", "yes", "no"]),
                default="auto",
                show_default=True,
                help="whether the first line holds the names of the columns",
            ),
            click.option(
                "--delimiter",
                metavar="CHARACTER",
                default="auto",
                show_default=True,
                help="between the columns; auto is a tab, semicolon or comma",
            ),
        )
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gpu-kmeans")
def main() -> None:
    """Reduce pictures to few colours by k-means, on the GPU where there is one.

    IN and OUT are files; - is standard input or output.
    """


@main.command()
@_SOURCE
@click.option(
    "-o", "--output", metavar="OUT", type=click.File("wb"), required=True, help="picture file"
)
@_options(
    CompressOptions,
    leave_out={"curve"},
    defaults={"effort": _EFFORT, "format": "what the name of OUT ends in, else png"},
)
def compress(source: BinaryIO, output: BinaryIO, **given: Given) -> None:
    """Write a picture in k colours.

    --palette also takes a file that `gpu-kmeans palette` has written, in any of its formats. It may
    serve other pictures too: what in it is not opaque is taken for an opaque picture as well.
    """
    ending = Path(getattr(output, "name", "")).suffix.lower().removeprefix(".")
    usual = {"effort": _EFFORT, "format": ending if ending in {"webp", "gif"} else "png"}
    given |= {name: (text,) for name, text in usual.items() if not given[name]}
    given["palette"], is_shared = _colors_of_file(given["palette"])
    options = _parse(CompressOptions, given)
    encoded = source.read()
    answer = _run(
        lambda service, on_progress: service.compress(
            encoded, options, with_curve=False, is_shared=is_shared, on_progress=on_progress
        )
    )
    output.write(answer.image.data)
    _report(answer)


@main.command()
@_SOURCE
@click.option(
    "--plot", metavar="FILE", type=click.Path(path_type=Path), help=".svg or .png to draw"
)
@click.option("--json", "as_json", is_flag=True, help="answer as over HTTP")
@_table_options
@_options(ElbowOptions)
def elbow(source: BinaryIO, plot: Path | None, *, as_json: bool, **given: Any) -> None:
    """Print WCSS against k, of a picture or of points, CSV or JSON, and which k criteria pick."""
    if plot:
        _check_plot_name(plot)
    table = _take_table_options(given)
    options = _parse(ElbowOptions, given)
    body = _picture_or_points(source, table)
    answer = _run(
        lambda service, on_progress: service.elbow(body, options, on_progress=on_progress)
    )
    if plot:
        _draw(answer, plot)
    click.echo(answer.model_dump_json(indent=2) if as_json else _table(answer))
    _warn(answer.warnings)


@main.command()
@click.argument("source", metavar="[IN]", type=click.File("rb"), required=False)
@click.option(
    "-o", "--output", metavar="OUT", type=click.File("wb"), default="-", help="file to write"
)
@click.option(
    "--shared",
    metavar="FOLDER",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="instead of IN: one palette for all pictures in it and below; what is none is skipped",
)
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="with --shared: keeps what has been counted; a run that was stopped goes on from it",
)
@_options(PaletteOptions)
def palette(
    source: BinaryIO | None,
    output: BinaryIO,
    shared: Path | None,
    state: Path | None,
    **given: Given,
) -> None:
    """Write the colours of a picture, or of a folder of them: JSON, CSS, GPL, ACT or HEX."""
    from app.palettes import write_palette

    options = _parse(PaletteOptions, given)
    if (source is None) is (shared is None) or (state and not shared):
        raise click.UsageError("one of IN and --shared FOLDER is wanted, --state with the latter")
    answer: PaletteAnswer | SharedPaletteAnswer
    if shared:
        answer = _shared_palette(shared, state, options)
    else:
        encoded = cast("BinaryIO", source).read()
        answer = _run(
            lambda service, on_progress: service.palette(encoded, options, on_progress=on_progress)
        )
    if options.format == "json":
        output.write(f"{answer.model_dump_json(indent=2)}\n".encode())
    else:
        output.write(write_palette(answer.palette, options.format))
    _warn(answer.warnings)


@main.command()
@_SOURCE
@click.option("-o", "--output", metavar="OUT", type=click.File("w"), default="-", help="CSV file")
@click.option("--centroids", metavar="FILE", type=click.File("w"), help="CSV file for centroids")
@click.option("--json", "as_json", is_flag=True, help="answer as over HTTP")
@_table_options
@_options(ClusterOptions)
def cluster(
    source: BinaryIO, output: TextIO, centroids: TextIO | None, *, as_json: bool, **given: Any
) -> None:
    """Write points, CSV or JSON, with the cluster of each as one more column."""
    from app.tables import write_rows

    as_csv = _take_table_options(given)
    options = _parse(ClusterOptions, given)
    table = _read_points(source.read(), as_csv)
    answer = _run(
        lambda service, on_progress: service.cluster(table.points, options, on_progress=on_progress)
    )
    if as_json:
        output.write(f"{answer.model_dump_json(indent=2)}\n")
    else:
        lines: list[list[object]] = [[*table.header, "label"]] if table.header else []
        lines += ([*row, label] for row, label in zip(table.rows, answer.labels, strict=True))
        output.write(write_rows(lines, table.delimiter))
    if centroids:
        centroids.write(write_rows([table.columns, *answer.centroids], table.delimiter))
    _report_clusters(answer)


@main.command()
@click.argument(
    "kind", metavar="KIND", type=click.Choice(["before-after", "cube", "steps", "trap"])
)
@_SOURCE
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), required=True)
@_table_options
@_options(TrapOptions, leave_out={"k"})
@_options(StepsOptions, defaults={"k": f"{StepsOptions().k}; before-after {CompressOptions().k}"})
def plot(kind: str, source: BinaryIO, output: Path, **given: Any) -> None:
    """Draw a picture or points, as .svg or .png; `elbow --plot` draws the curve.

    KIND is before-after (a picture, and the same in k colours), cube (its colours in the RGB cube
    with their centroids), steps (Lloyd's iteration on points in the plane, from random ones of
    them) or trap (where many random and many k-means++ starts end). Points are CSV, in a file
    named .csv or with --columns, or JSON.
    """
    from app import plotting
    from app.points import Points, looks_like_points

    _check_plot_name(output)
    table = _take_table_options(given)
    kinds: dict[str, tuple[type[BaseModel], Callable[..., Coroutine[None, None, Drawing]]]] = {
        "before-after": (CompressOptions, plotting.plot_comparison),
        "cube": (CubeOptions, plotting.plot_cube),
        "steps": (StepsOptions, plotting.plot_steps),
        "trap": (TrapOptions, plotting.plot_trap),
    }
    model, draw = kinds[kind]
    options = _parse(model, given)
    body = _picture_or_points(source, table)
    is_points = isinstance(body, Points) or looks_like_points(body)
    if kind not in (others := ("steps", "trap") if is_points else ("cube", "trap", "before-after")):
        what = "points" if is_points else "a picture"
        raise click.UsageError(f"{kind} is not of {what}: {_either(others)} for {what}")
    drawing = _run(
        lambda service, on_progress: draw(service, body, options, _format_of(output), on_progress)
    )
    _write(output, drawing.data)


@main.command()
@click.option("--host", help="address to listen on  [default: GPU_KMEANS_HOST or 127.0.0.1]")
@click.option("--port", type=int, help="port to listen on  [default: GPU_KMEANS_PORT or 8000]")
def serve(host: str | None, port: int | None) -> None:
    """Serve the API and the page over HTTP."""
    from app.main import create_app
    from app.observability import configure_logging
    from app.server import serve as serve_app

    given = {"host": host, "port": port}
    settings = _settings({name: value for name, value in given.items() if value is not None})
    with _spoken_errors():
        app = create_app(settings)
    configure_logging(settings.log_level, settings.log_format)
    serve_app(app, settings)


@main.command()
def config() -> None:
    """Print the settings in effect, as environment variables; keys are masked."""
    for name, value in _settings({}).model_dump(mode="json").items():
        click.echo(f"GPU_KMEANS_{name.upper()}={value}")


@main.command()
@click.option("--host", envvar="GPU_KMEANS_HOST", default="127.0.0.1", show_default=True)
@click.option("--port", envvar="GPU_KMEANS_PORT", default=8000, show_default=True)
@click.option("--ready", is_flag=True, help="ask whether it answers at full speed already")
def health(host: str, port: int, *, ready: bool) -> None:
    """Ask a running service whether it lives; exit code 0 if so."""
    import urllib.error
    import urllib.request

    url = f"http://{_ANY_ADDRESS.get(host, host)}:{port}/{'readyz' if ready else 'healthz'}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=_HEALTH_TIMEOUT_S) as response:
            click.echo(response.read())
    except urllib.error.HTTPError as error:
        with error:  # which holds the connection
            raise click.ClickException(f"{url} answers {error.code}") from error
    except OSError as error:
        raise click.ClickException(f"{url} does not answer: {error}") from error


def _parse(model: type[Options], given: dict[str, Given]) -> Options:
    with _spoken_errors():
        return parse_options(model, [(name, text) for name in given for text in given[name]])


def _settings(given: dict[str, Any]) -> "Settings":
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        raise click.UsageError(str(error)) from error


def _run(
    use_case: "Callable[[Service, OnProgress | None], Coroutine[None, None, T]]",
    label: str = "k-means",
) -> T:
    """Run a use case on a service of its own, with a progress bar."""
    import asyncio

    from anyio import CapacityLimiter

    from app.decoder import Decoder, DecoderLimits

    settings = _settings({})
    decoder = Decoder(DecoderLimits(max_pixels=settings.max_pixels))
    decoder.warm_up()  # beside the heavy imports

    from app.engine import Engine
    from app.service import Service

    async def run() -> T:
        engine = Engine(settings.backend)
        service = Service(
            compute=engine.submit,
            decoder=decoder,
            max_points_bytes=settings.max_points_bytes,
            threads=CapacityLimiter(settings.codec_threads),
        )
        with _progress_bar(label) as on_progress:
            return await use_case(service, on_progress)

    with _spoken_errors(), closing(decoder):
        return asyncio.run(run())


@contextmanager
def _spoken_errors() -> Iterator[None]:
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


def _colors_of_file(texts: Given) -> tuple[Given, bool]:
    """Put the colours of a file in the place of its name; say whether there was one."""
    path = Path(texts[0]) if len(texts) == 1 else None
    try:
        if path is None or not path.is_file():
            return texts, False
    except (OSError, ValueError):  # far too long for a name, or none: colours
        return texts, False
    from app.palettes import read_palette

    colors = read_palette(path.read_bytes())
    if not colors:
        raise click.BadParameter(f"{path.name!r} holds no colours", param_hint="--palette")
    return (",".join(colors),), True


def _shared_palette(
    folder: Path, state: Path | None, options: PaletteOptions
) -> "SharedPaletteAnswer":
    """Count a folder, going on from the state if there is one, and find its palette."""
    from app.sharing import share_palette

    n_skipped = 0

    def on_skip(name: str, error: ServiceError) -> None:
        nonlocal n_skipped
        n_skipped += 1
        click.echo(f"skipped: {name}: {error}", err=True)

    try:
        answer = _run(
            lambda service, on_progress: share_palette(
                service, folder, options, state=state, on_progress=on_progress, on_skip=on_skip
            ),
            label="counting, k-means",
        )
    except OSError as error:
        raise click.FileError(str(error.filename or folder), error.strerror or "") from error
    psnr = "exact" if answer.psnr_db is None else f"{answer.psnr_db:.2f} dB"
    click.echo(
        f"{answer.input.pictures:,} pictures, {answer.input.pixels:,} pixels, {n_skipped:,} files "
        f"skipped: {answer.input.unique_colors:,} colours -> {answer.k} ({answer.k_reason}), "
        f"PSNR {psnr}, WCSS {answer.wcss:.6g}",
        err=True,
    )
    return answer


def _report(answer: "CompressAnswer") -> None:
    psnr = "exact" if answer.psnr_db is None else f"{answer.psnr_db:.2f} dB"
    click.echo(
        f"{answer.input.width} x {answer.input.height}: {answer.input.unique_colors:,} colours -> "
        f"{answer.k} ({answer.k_reason}), {answer.input.bytes:,} bytes -> {answer.image.bytes:,}"
        f"{' (the original)' if answer.kept_original else ''}, PSNR {psnr}, WCSS {answer.wcss:.6g}",
        err=True,
    )
    _warn(answer.warnings)


def _report_clusters(answer: "ClusterAnswer") -> None:
    distance = (
        f"{answer.metric}, p = {answer.p:g}" if answer.metric == "minkowski" else answer.metric
    )
    objective = "WCSS" if answer.metric == "euclidean" else f"objective ({distance})"
    click.echo(
        f"{answer.input.points:,} points x {answer.input.dimensions} -> {answer.k} clusters "
        f"({answer.k_reason}), {objective} {answer.wcss:.6g}, {answer.engine.n_iter} iterations",
        err=True,
    )
    _warn(answer.warnings)


def _take_table_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take out of a command's options those that say how to read CSV."""
    return {name: given.pop(name) for name in ("columns", "weights", "header", "delimiter")}


def _read_points(body: bytes, as_csv: dict[str, Any]) -> "Table":
    """Read points that are to be written again with their labels."""
    from app.points import looks_like_points, parse_points
    from app.tables import Table, read_table

    with _spoken_errors():
        if not looks_like_points(body):
            return read_table(body, **as_csv)
        if asked := as_csv["columns"] or as_csv["weights"]:
            raise BadParameter.of("columns", asked, "for CSV, not JSON")
        points = parse_points(body)
    rows = points.points.tolist()
    return Table(
        points=points,
        columns=tuple(str(j + 1) for j in range(len(rows[0]))),
        header=(),
        rows=rows,
        delimiter=",",
    )


def _picture_or_points(source: BinaryIO, as_csv: dict[str, Any]) -> "bytes | Points":
    """Read what is to have a curve; its name, or columns asked for, tell CSV from a picture."""
    body = source.read()
    is_named_csv = str(getattr(source, "name", "")).lower().endswith((".csv", ".tsv"))
    if is_named_csv or as_csv["columns"] or as_csv["weights"]:
        return _read_points(body, as_csv).points
    return body


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _table(answer: "ElbowAnswer") -> str:
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


def _check_plot_name(path: Path) -> None:
    if path.suffix.lower() not in {".svg", ".png"}:
        raise click.BadParameter(f"{path.name!r} ends neither in .svg nor in .png")


def _draw(answer: "ElbowAnswer", path: Path) -> None:
    from app.plots import draw_elbow

    _write(path, draw_elbow(answer, _format_of(path)))


def _format_of(path: Path) -> "PlotFormat":
    return "svg" if path.suffix.lower() == ".svg" else "png"


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _write(path: Path, drawing: bytes) -> None:
    try:
        path.write_bytes(drawing)
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error
