"""`lab device provision`: what a real device needs to join the stack, as a folder."""

from __future__ import annotations

from pathlib import Path

import click

from lab.call import Call, answer, json_option


@click.command()
@click.argument("thing")
@click.option("--group", type=click.Choice(["canary", "fleet"]), default="fleet", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, metavar="DIR")
@json_option
@click.pass_obj
def provision(call: Call, thing: str, group: str, out: Path) -> int:
    """Write to DIR what a real device needs to join as THING: configuration of either nucleus, and two scripts.

    \b
    lab device provision line-3 --group canary --out line-3
    """
    from lab import provision as provisioning
    from lab import stack

    found = provisioning.provision(stack.deployed(call.server().engine()), thing, group, out)
    answer(call, found, f"{out}: run register.sh with the account's credentials, then join.sh on {found['thing']}")
    return 0
