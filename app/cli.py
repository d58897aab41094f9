"""The command `gpu-kmeans`: the same use cases, options and answers as over HTTP, on files.

Heavy imports wait until a command runs, so that `--help` answers at once. Messages go to standard
error; the exit code is 0, 2 for bad arguments, or 1 for bad input.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

import click

from app.cli_files import (
    check_place,
    check_plot_name,
    colors_of_file,
    format_of,
    picture_or_points,
    read_points,
    write_drawing,
)
from app.cli_options import Given, options_of, parse, table_options, take_table_options
from app.cli_reports import (
    elbow_table,
    report_clusters,
    report_compression,
    report_shared,
    warn,
)
from app.cli_runner import read_settings, run, spoken_errors
from app.errors import ServiceError
from app.options import (
    ClusterOptions,
    CompressOptions,
    CubeOptions,
    ElbowOptions,
    PaletteOptions,
    StepsOptions,
    TrapOptions,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from app.plotting import Drawing
    from app.schemas import ElbowAnswer, PaletteAnswer, SharedPaletteAnswer

_HEALTH_TIMEOUT_S = 5.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - where a listener on all of them is asked
_EFFORT = "3"  # of the command: nobody waits behind it, and more gains little (decision 9)
_NOT_WRITTEN = {"jpg", "jpeg", "bmp", "avif", "tif", "tiff"}  # a PNG of such a name misleads
_SOURCE = click.argument("source", metavar="IN", type=click.File("rb"))
_OUTPUT = partial(click.option, "-o", "--output", callback=check_place)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gpu-kmeans")
def main() -> None:
    """Reduce pictures to few colours by k-means, on the GPU where there is one.

    IN and OUT are files; - is standard input or output.
    """


@main.command()
@_SOURCE
@_OUTPUT(metavar="OUT", type=click.File("wb"), required=True, help="picture file")
@options_of(
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
    if ending in _NOT_WRITTEN and not given["format"] and not given["skip_if_larger"]:
        raise click.BadParameter(f"{output.name!r}: png, webp or gif is written, no {ending}")
    usual = {"effort": _EFFORT, "format": ending if ending in {"webp", "gif"} else "png"}
    given |= {name: (text,) for name, text in usual.items() if not given[name]}
    given["palette"], is_shared = colors_of_file(given["palette"])
    options = parse(CompressOptions, given)
    encoded = source.read()
    answer = run(
        lambda service, on_progress: service.compress(
            encoded, options, with_curve=False, is_shared=is_shared, on_progress=on_progress
        )
    )
    output.write(answer.image.data)
    report_compression(answer)


@main.command()
@_SOURCE
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=check_place,
    help=".svg or .png to draw",
)
@click.option("--json", "as_json", is_flag=True, help="answer as over HTTP")
@table_options
@options_of(ElbowOptions)
def elbow(source: BinaryIO, plot: Path | None, *, as_json: bool, **given: Any) -> None:
    """Print WCSS against k, of a picture or of points, CSV or JSON, and which k criteria pick."""
    if plot:
        check_plot_name(plot)
    table = take_table_options(given)
    options = parse(ElbowOptions, given)
    body = picture_or_points(source, table)
    answer = run(lambda service, on_progress: service.elbow(body, options, on_progress=on_progress))
    if plot:
        _draw(answer, plot)
    click.echo(answer.model_dump_json(indent=2) if as_json else elbow_table(answer))
    warn(answer.warnings)


@main.command()
@click.argument("source", metavar="[IN]", type=click.File("rb"), required=False)
@_OUTPUT(metavar="OUT", type=click.File("wb"), default="-", help="file to write")
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
    callback=check_place,
    help="with --shared: keeps what has been counted; a run that was stopped goes on from it",
)
@options_of(PaletteOptions)
def palette(
    source: BinaryIO | None,
    output: BinaryIO,
    shared: Path | None,
    state: Path | None,
    **given: Given,
) -> None:
    """Write the colours of a picture, or of a folder of them: JSON, CSS, GPL, ACT or HEX."""
    from app.palettes import write_palette

    options = parse(PaletteOptions, given)
    if (source is None) is (shared is None) or (state and not shared):
        raise click.UsageError("one of IN and --shared FOLDER is wanted, --state with the latter")
    answer: PaletteAnswer | SharedPaletteAnswer
    if shared:
        answer = _shared_palette(shared, state, options)
    else:
        encoded = cast("BinaryIO", source).read()
        answer = run(
            lambda service, on_progress: service.palette(encoded, options, on_progress=on_progress)
        )
    if options.format == "json":
        output.write(f"{answer.model_dump_json(indent=2)}\n".encode())
    else:
        output.write(write_palette(answer.palette, options.format))
    warn(answer.warnings)


@main.command()
@_SOURCE
@_OUTPUT(metavar="OUT", type=click.File("w"), default="-", help="CSV file")
@click.option(
    "--centroids",
    metavar="FILE",
    type=click.File("w"),
    callback=check_place,
    help="CSV file for centroids",
)
@click.option("--json", "as_json", is_flag=True, help="answer as over HTTP")
@table_options
@options_of(ClusterOptions)
def cluster(
    source: BinaryIO, output: TextIO, centroids: TextIO | None, *, as_json: bool, **given: Any
) -> None:
    """Write points, CSV or JSON, with the cluster of each as one more column."""
    from app.tables import write_rows

    as_csv = take_table_options(given)
    options = parse(ClusterOptions, given)
    table = read_points(source.read(), as_csv)
    answer = run(
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
    report_clusters(answer)


@main.command()
@click.argument(
    "kind", metavar="KIND", type=click.Choice(["before-after", "cube", "steps", "trap"])
)
@_SOURCE
@_OUTPUT(metavar="FILE", type=click.Path(path_type=Path), required=True)
@table_options
@options_of(TrapOptions, leave_out={"k"})
@options_of(StepsOptions, defaults={"k": f"{StepsOptions().k}; before-after {CompressOptions().k}"})
def plot(kind: str, source: BinaryIO, output: Path, **given: Any) -> None:
    """Draw a picture or points, as .svg or .png; `elbow --plot` draws the curve.

    KIND is before-after (a picture, and the same in k colours), cube (its colours in the RGB cube
    with their centroids), steps (Lloyd's iteration on points in the plane, from random ones of
    them) or trap (where many random and many k-means++ starts end). Points are CSV, in a file
    named .csv or with --columns, or JSON.
    """
    from app import plotting
    from app.points import Points, looks_like_points

    check_plot_name(output)
    table = take_table_options(given)
    kinds: dict[str, tuple[type[BaseModel], Callable[..., Coroutine[None, None, Drawing]]]] = {
        "before-after": (CompressOptions, plotting.plot_comparison),
        "cube": (CubeOptions, plotting.plot_cube),
        "steps": (StepsOptions, plotting.plot_steps),
        "trap": (TrapOptions, plotting.plot_trap),
    }
    model, draw = kinds[kind]
    options = parse(model, given)
    body = picture_or_points(source, table)
    is_points = isinstance(body, Points) or looks_like_points(body)
    if kind not in (others := ("steps", "trap") if is_points else ("cube", "trap", "before-after")):
        what = "points" if is_points else "a picture"
        raise click.UsageError(f"{kind} is not of {what}: {_either(others)} for {what}")
    drawing = run(
        lambda service, on_progress: draw(service, body, options, format_of(output), on_progress)
    )
    write_drawing(output, drawing.data)


@main.command()
@click.option("--host", help="address to listen on  [default: GPU_KMEANS_HOST or 127.0.0.1]")
@click.option("--port", type=int, help="port to listen on  [default: GPU_KMEANS_PORT or 8000]")
def serve(host: str | None, port: int | None) -> None:
    """Serve the API and the page over HTTP."""
    from app.main import create_app
    from app.observability import configure_logging
    from app.server import serve as serve_app

    given = {"host": host, "port": port}
    settings = read_settings({name: value for name, value in given.items() if value is not None})
    with spoken_errors():
        app = create_app(settings)
    configure_logging(settings.log_level, settings.log_format)
    serve_app(app, settings)


@main.command()
def config() -> None:
    """Print the settings in effect, as environment variables; keys are masked."""
    for name, value in read_settings({}).model_dump(mode="json").items():
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
        answer = run(
            lambda service, on_progress: share_palette(
                service, folder, options, state=state, on_progress=on_progress, on_skip=on_skip
            ),
            label="counting, k-means",
        )
    except OSError as error:
        raise click.FileError(str(error.filename or folder), error.strerror or "") from error
    report_shared(answer, n_skipped)
    return answer


def _draw(answer: "ElbowAnswer", path: Path) -> None:
    from app.plots import draw_elbow

    write_drawing(path, draw_elbow(answer, format_of(path)))


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
