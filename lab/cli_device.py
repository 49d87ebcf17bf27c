"""`lab device …`: the desk's fleet on the embedded AWS that `lab up` started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lab.call import Call, answer, json_option, print_json, sign_option
from lab.cli_provision import provision

if TYPE_CHECKING:
    from lab.stack import Stack


@click.group()
def device() -> None:
    """The desk's devices: list them, push a model, make things go wrong.

    They run on the embedded AWS that `lab up` started. THING is a device's name or its number; without it, all are
    meant.
    """


def _stack(call: Call) -> Stack:
    from lab import stack

    return stack.deployed(call.server().engine())


@device.command("list")
@json_option
@click.pass_obj
def list_(call: Call) -> int:
    """Show each device: groups, health, model version, faults, last telemetry."""
    from lab import devices, show

    found = devices.rows(_stack(call))
    if call.as_json:
        print_json(found)
    else:
        show.devices(found)
    return 0


@device.command()
@click.argument("model")
@click.option("--thing", metavar="THING", help="This device alone, by a local deployment, instead of the canary group.")
@sign_option
@json_option
@click.pass_obj
def push(call: Call, model: str, thing: str | None, sign: Path | None) -> int:
    """Bring MODEL to the canary group and print each device's verdict; exit 1 when one refuses.

    MODEL is a version that was approved, or a model package: its folder or zip.

    \b
    lab device push .lab/runs/RUN/release/edge-x86 --thing 1
    """
    from lab import devices, show
    from lab import push as pushing

    stack = _stack(call)
    chosen = devices.find(stack, thing)[0] if thing else None
    pushed = pushing.push(call.home(), stack, model, chosen, sign)
    if call.as_json:
        print_json(pushing.document(pushed))
    else:
        show.verdicts(pushed)
    if pushed.problem is None:
        return 0
    show.error(pushed.problem)
    return 1


@device.command()
@click.argument("thing", required=False)
@json_option
@click.pass_obj
def offline(call: Call, thing: str | None) -> int:
    """Cut devices off from the cloud: deployments wait, telemetry is kept."""
    return _switch(call, "offline", thing, on=True)


@device.command()
@click.argument("thing", required=False)
@json_option
@click.pass_obj
def online(call: Call, thing: str | None) -> int:
    """Take `offline` back."""
    return _switch(call, "offline", thing, on=False)


def _names(command: Callable[..., Any]) -> Callable[..., Any]:
    """Lists the faults in the command's help."""
    from lab.faults import ALL

    command.__doc__ = f"{command.__doc__}\n\n    \b\n    " + "\n    ".join(
        f"{name:<14} {what}" for name, what in ALL.items()
    )
    return command


@device.command()
@click.argument("name")
@click.argument("thing", required=False)
@click.option("--off", is_flag=True, help="Take it back.")
@json_option
@click.pass_obj
@_names
def fault(call: Call, name: str, thing: str | None, off: bool) -> int:
    """Make the fault NAME happen on devices while they run."""
    return _switch(call, name, thing, on=not off)


@device.command()
@click.argument("thing", required=False)
@click.option("--lines", type=click.IntRange(0), default=10, show_default=True, help="How many of what is there.")
@click.option("--no-follow", is_flag=True, help="End after what is there.")
@json_option
@click.pass_obj
def tail(call: Call, thing: str | None, lines: int, no_follow: bool) -> int:
    """Print what devices log and publish, as it comes; Ctrl-C ends it. With --json, what is there."""
    from lab import devices

    stack = _stack(call)
    things = devices.find(stack, thing)
    said = devices.Tail(stack.engine.root, things, lines)
    if call.as_json:
        print_json([{"thing": one, "source": source, "line": text} for one, source, text in said.lines()])
        return 0
    try:
        for one, source, text in said.lines() if no_follow else said.follow():
            click.echo(f"{one.rpartition('-desk-')[2]:>3} {source:<24} {text}")
    except KeyboardInterrupt:
        return 0
    return 0


def _switch(call: Call, fault: str, thing: str | None, *, on: bool) -> int:
    from lab import devices

    found = devices.switch(_stack(call), fault, thing, on=on)
    lines = [f"{name}  {', '.join(faults) or 'no fault is on'}" for name, faults in found.items()]
    answer(call, found, "\n".join(lines))
    return 0


device.add_command(provision)
