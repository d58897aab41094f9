"""The options of the commands: those of a model, and those that say how to read CSV."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from app.cli_runner import spoken_errors
from app.options import Options, allowed, parse_options

if TYPE_CHECKING:
    from pydantic import BaseModel

Command = TypeVar("Command", bound=Callable[..., None])
Given = tuple[str, ...]  # an option's texts, as often as it was given


def options_of(
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


def table_options(command: Command) -> Command:
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


def parse(model: type[Options], given: dict[str, Given]) -> Options:
    """Check what was given against a model; what is wrong is said as wrong usage."""
    with spoken_errors():
        return parse_options(model, [(name, text) for name in given for text in given[name]])


def take_table_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take out of a command's options those that say how to read CSV."""
    return {name: given.pop(name) for name in ("columns", "weights", "header", "delimiter")}
