"""The commands that deal with an account: what the stack costs there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.call import Call, environment_option, json_option, print_json

if TYPE_CHECKING:
    from lab.home import Home


@click.command()
@click.option("--runs", type=click.IntRange(0), default=20, show_default=True, help="Runs in a month.")
@click.option("--requests", type=click.IntRange(0), default=10_000, show_default=True, help="Requests in a month.")
@click.option(
    "--refresh", is_flag=True, help="First ask AWS's Price List API (needs credentials), and keep what it says."
)
@click.option(
    "--app",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take a synthesized assembly as it is.",
)
@environment_option
@json_option
@click.pass_obj
def cost(call: Call, runs: int, requests: int, refresh: bool, app: Path | None) -> int:
    """Say what the stack costs: a run, idle, a month, by service, against [budget].

    Reads the template, the dated prices and the durations of recorded runs.
    """
    from lab import bill, show

    home = call.home()
    if refresh:
        _refresh(call, home)
    found = bill.of_home(home, app, bill.Use(runs=runs, requests=requests))
    if call.as_json:
        print_json(found.document())
    else:
        show.bill(found)
    return 0


def _refresh(call: Call, home: Home) -> None:
    from lab import prices

    changes = prices.refresh(home)
    for change in changes:
        now = f"{change.now:g}" if change.now is not None else f"{change.before:g}, as before: {change.why}"
        if change.now != change.before:
            click.echo(f"{change.price:<40} {change.before:g} → {now}", err=call.as_json)
