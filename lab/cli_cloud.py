"""The commands that deal with an account: what the stack costs there, its deployment, its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.call import Call, answer, environment_option, json_option, print_json

if TYPE_CHECKING:
    from lab.assembly import Assembly
    from lab.cloud import Cloud
    from lab.destroy import Outcome
    from lab.home import Home

app_option = click.option(
    "--app",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take a synthesized assembly as it is.",
)
endpoint_option = click.option(
    "--endpoint",
    type=click.Choice(["aws", "local"]),
    default="aws",
    show_default=True,
    help="The account of your credentials, or the embedded AWS: the one that is up, else one that is started.",
)
yes_option = click.option("--yes", is_flag=True, help="Ask nothing.")


@click.command()
@click.option("--runs", type=click.IntRange(0), default=20, show_default=True, help="Runs in a month.")
@click.option("--requests", type=click.IntRange(0), default=10_000, show_default=True, help="Requests in a month.")
@click.option(
    "--refresh", is_flag=True, help="First ask AWS's Price List API (needs credentials), and keep what it says."
)
@app_option
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


@click.command()
@endpoint_option
@yes_option
@app_option
@environment_option
@json_option
@click.pass_obj
def deploy(call: Call, endpoint: str, yes: bool, app: Path | None) -> int:
    """Ship the stack: checks, plan with cost and permissions, confirmation, progress, outputs.

    Broken off at any point, it can be called again. It was never run against an account of AWS; see docs/deploying.md.
    """
    from lab import bill, processes, show
    from lab import cloud as clouds
    from lab import deploy as deployer

    processes.stop_like_ctrl_c()
    home = call.home()
    assembly = _assembly(home, app)
    costs = bill.of_assembly(home, assembly.path)
    bill.refuse_above_budget(costs)
    cloud = _cloud(home, endpoint, assembly)
    try:
        prospect = deployer.prospect(cloud, assembly, costs)
        if not call.as_json:
            show.prospect(prospect, cloud, assembly.stack)
        _confirm(call, yes, f"Deploy {assembly.stack} to {cloud.name}?")
    except BaseException:
        if cloud.started:
            clouds.end_if_started(home)
        raise
    try:
        outputs = deployer.deploy(cloud, assembly, _say(call))
    except KeyboardInterrupt:
        _say(call)("broken off; CloudFormation goes on with what it has begun, and lab deploy takes up from there")
        raise
    if call.as_json:
        said = {"stack": assembly.stack, "account": cloud.account, "region": cloud.region, "outputs": outputs}
        print_json({**said, **prospect.document()})
    else:
        show.outputs(outputs)
    return 0


@click.command()
@endpoint_option
@yes_option
@click.option("--data", is_flag=True, help="Also what the template keeps on purpose: in prod buckets, table and key.")
@app_option
@environment_option
@json_option
@click.pass_obj
def destroy(call: Call, endpoint: str, yes: bool, data: bool, app: Path | None) -> int:
    """Remove the stack and all that the flow made beside it, then prove by an inventory that nothing is left.

    Broken off at any point, it can be called again. Ends with 1 and names what is left, if anything is.
    """
    from lab import cloud as clouds
    from lab import deploy as deployer
    from lab import destroy as destroyer
    from lab import processes, show

    processes.stop_like_ctrl_c()
    home, say = call.home(), _say(call)
    assembly = _assembly(home, app)
    cloud = _cloud(home, endpoint, assembly)
    try:
        prefix = str(assembly.settings["prefix"])
        work = destroyer.Destruction(cloud, assembly.stack, prefix, assembly.template, say, data=data)
        planned = work.plan()
        say(f"in {cloud.name}:")
        for line in planned or ["nothing of the lab; the inventory is taken all the same"]:
            say(f"  {line}")
        if planned:
            _confirm(call, yes, f"Remove this from {cloud.name}?")
        deployer.forget(cloud)
        outcome = work.run()
    except BaseException:
        if cloud.started:
            clouds.end_if_started(home)
        raise
    _tell(call, outcome)
    problem = destroyer.problem(outcome, local=cloud.local)
    if problem is not None and not call.as_json:
        raise problem
    if problem is not None:
        show.error(problem)  # the one document is the outcome
        return problem.exit_code
    say(f"nothing of {prefix} is left{' but what is kept' if outcome.kept else ''}: the inventory is empty")
    if cloud.local and not outcome.kept and clouds.end_if_started(home):
        say("ended the embedded AWS that lab deploy had started")
    return 0


@click.command()
@click.argument("version", required=False)
@click.option(
    "--endpoint",
    type=click.Choice(["aws", "local"]),
    default="aws",
    show_default=True,
    help="The account of your credentials, or the embedded AWS that is up.",
)
@environment_option
@json_option
@click.pass_obj
def promote(call: Call, version: str | None, endpoint: str) -> int:
    """Take an approved model (the newest without VERSION) over from the environment that promote_from names.

    \b
    lab promote --environment prod
    """
    from lab import promote as promoting

    said = promoting.promote(call.home(), version, call.server().engine() if endpoint == "local" else None)
    text = f"version {said['version']} is here and {said['approval']}, a copy of {said['source']}"
    answer(call, said, text)
    return 0


def _tell(call: Call, outcome: Outcome) -> None:
    """What a destruction came to, but for what it removed, which it said as it went."""
    if call.as_json:
        print_json(outcome.document())
        return
    for line in outcome.kept:
        click.echo(f"  kept: {line} (lab destroy --data removes it)")
    for kind, why in outcome.not_asked.items():
        click.echo(f"  not asked: {kind} ({why})")


def _assembly(home: Home, app: Path | None) -> Assembly:
    from lab import assembly, synth
    from lab.home import merged_overrides

    made = synth.given(app) if app else synth.synth(home, merged_overrides({}))
    return assembly.load(made.path)


def _cloud(home: Home, endpoint: str, assembly: Assembly) -> Cloud:
    """Where the assembly goes."""
    from lab import cloud

    region = str(assembly.settings["region"])
    return cloud.local(home, region) if endpoint == cloud.LOCAL else cloud.account(region)


def _say(call: Call) -> Callable[[str], None]:
    """Progress: on stdout, or on stderr beside a JSON document."""

    def say(text: str) -> None:
        click.echo(text, err=call.as_json)

    return say


def _confirm(call: Call, yes: bool, question: str) -> None:
    from lab.errors import LabError

    if yes:
        return
    if call.as_json:
        raise LabError("--json asks nothing", "add --yes")
    click.confirm(question, abort=True)
