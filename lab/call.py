"""One call of the command line: its global options, and how commands answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lab.home import Home
    from lab.launch import Server
    from lab.progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Call:
    """The global options of one call, and whether its answer is to be JSON."""

    config: str | None = None
    environment: str | None = None
    debug: bool = False
    as_json: bool = False

    def home(self) -> Home:
        from lab import home

        found = home.find(self.config)
        return replace(found, environment=self.environment) if self.environment else found

    def server(self) -> Server:
        """The embedded AWS that `up` started."""
        from lab import up

        return up.required(self.home())

    def progress(self) -> Progress:
        from lab.progress import progress

        return progress(to_stderr=self.as_json)


def json_option(command: Command) -> Command:
    """Adds `--json` to a command."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        context.find_object(Call).as_json = value  # type: ignore[union-attr]

    return click.option(
        "--json", is_flag=True, expose_value=False, callback=remember, help="Print one JSON document on stdout."
    )(command)


def environment_option(command: Command) -> Command:
    """Adds `--environment` to a command."""

    def remember(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value:
            context.find_object(Call).environment = value  # type: ignore[union-attr]

    return click.option(
        "--environment",
        metavar="NAME",
        expose_value=False,
        callback=remember,
        help="One of lab.toml's environments instead of the one that it names.",
    )(command)


def sign_option(command: Command) -> Command:
    """Adds `--sign` to a command that releases a model."""
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    said = "Sign the model for devices with the private key in FILE; [edge] public_key names its public half."
    return click.option("--sign", metavar="FILE", type=kind, help=said)(command)


def answer(call: Call, document: Any, text: str) -> None:
    if call.as_json:
        print_json(document)
    else:
        click.echo(text)


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=1, default=str))
