"""`lab up`, `down`, `status`, `env` and `logs`: the embedded AWS that stays, and what lies in it."""

from __future__ import annotations

import os

import click

from lab.call import Call, answer, environment_option, json_option, print_json


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port on loopback; 0 takes a free one.")
@click.option("--dataset", metavar="NAME", help="A built-in data set instead of the one in lab.toml.")
@click.option("--size", type=click.Choice(["tiny", "base"]), help="The net's size instead of lab.toml's.")
@environment_option
@json_option
@click.pass_obj
def up(call: Call, port: int | None, dataset: str | None, size: str | None) -> int:
    """Start the embedded AWS in the background and deploy the stack to it."""
    from lab import processes, up
    from lab.progress import shown

    processes.stop_like_ctrl_c()
    with shown(call.progress()) as progress:
        chosen = up.PORT if port is None else port
        server = up.up(call.home(), progress, port=chosen, size=size, dataset=dataset)
    said = {"endpoint": server.endpoint, "pid": server.pid, "region": server.region, "root": str(server.root)}
    answer(call, said, f'running at {server.endpoint}; point a client at it: eval "$(lab env)"; end it: lab down')
    return 0


@click.command()
@click.option("--quiet", is_flag=True, help="Say nothing.")
@json_option
@click.pass_obj
def down(call: Call, quiet: bool) -> int:
    """End the embedded AWS that `up` started."""
    from lab import up

    server = up.down(call.home())
    if not quiet:
        said = f"ended the embedded AWS at {server.endpoint}" if server else "nothing was running"
        answer(call, {"ended": server.pid if server else None}, said)
    return 0


@click.command()
@json_option
@click.pass_obj
def status(call: Call) -> int:
    """Show the running stack: executions, packages, endpoint, devices."""
    from lab import show, up

    found = up.status(call.home())
    if call.as_json:
        print_json(found)
    else:
        show.status(found)
    return 0


@click.command()
@json_option
@click.pass_obj
def env(call: Call) -> int:
    """Print the variables that point an AWS client at the embedded AWS: eval "$(lab env)"."""
    import shlex

    from lab import up

    found = up.env(call.home())
    lines = [f"export {name}={shlex.quote(value)}" for name, value in found.items()]
    if os.environ.get("AWS_PROFILE"):
        lines.append("unset AWS_PROFILE")
    answer(call, found, "\n".join(lines))
    return 0


@click.command()
@click.argument("job", required=False)
@click.option("--lines", type=click.IntRange(1), help="Only the last lines.")
@json_option
@click.pass_obj
def logs(call: Call, job: str | None, lines: int | None) -> int:
    """Print what JOB said: a job's, function's, state's or component's name. Without JOB, list them."""
    from lab import launch, logs

    if job is None:
        rows = logs.every(call.home())
        said = [{"where": log.where, "name": log.name, "path": str(log.path)} for log in rows]
        answer(call, said, "\n".join(f"{log.where:<46} {log.name}" for log in rows) or "no log yet")
        return 0
    log = logs.find(call.home(), job)
    whole = log.path.read_text(encoding="utf-8", errors="replace")
    text = whole if lines is None else "\n".join(launch.last_lines(log.path, lines))
    answer(call, {"where": log.where, "name": log.name, "path": str(log.path), "text": text}, text.rstrip("\n"))
    return 0
