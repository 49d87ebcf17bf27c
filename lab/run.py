"""The whole flow once: synth, deploy, data in, the execution followed to its end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import dataset, flow, launch, ledger, release, stack, synth
from lab.clock import Clock
from lab.dataset import Written
from lab.errors import LabError
from lab.flow import Outcome
from lab.home import Home, merged_overrides, overrides, read_json
from lab.launch import Server
from lab.progress import Progress
from lab.release import Result, Work
from lab.stack import Stack

FREE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Options:
    """What `lab run` was asked for."""

    dataset: str | None = None
    size: str | None = None
    approve: bool = False
    app: Path | None = None


def run(home: Home, options: Options, progress: Progress) -> Result:
    """Runs the flow and leaves `.lab/runs/<run>/`. Raises LabError when it cannot even start."""
    clock = Clock()
    refuse_full_disk(home)
    assembly = _assembly(home, options, progress, clock)
    with ExitStack() as stacked:
        with clock.phase("start"):
            progress.step("embedded AWS")
            server, own = _server(home, assembly, stacked)
        with clock.phase("deploy"):
            progress.step("deploy" if own else f"deploy to the embedded AWS at {server.endpoint}")
            stack.deploy(server.engine(), assembly)
            deployed = stack.deployed(server.engine())
        result, entries = _flow(Work(home, deployed, progress, clock), options)
        progress.done()
    return release.finish(result, clock, entries)


def refuse_full_disk(home: Home) -> None:
    """Raises LabError when the state folder's disk has less than 1 GB left."""
    home.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home.root).free
    if free < FREE_BYTES:
        raise LabError(
            f"the disk of {home.root} has {free / 1e9:.1f} GB left; a run needs {FREE_BYTES / 1e9:.0f} GB",
            "free some space, or set LAB_HOME to a folder on another disk",
        )


def _assembly(home: Home, options: Options, progress: Progress, clock: Clock) -> synth.Assembly:
    with clock.phase("synth"):
        progress.step("synth")
        if options.app is not None:
            return synth.given(options.app)
        name = options.dataset if options.dataset and not dataset.is_path(options.dataset) else None
        return synth.synth(home, merged_overrides(overrides(name, options.size)))


def _server(home: Home, assembly: synth.Assembly, stacked: ExitStack) -> tuple[Server, bool]:
    """The embedded AWS that `lab up` started, else one of our own that ends with `stacked`."""
    server = launch.running(home.up)
    if server is not None:
        return server, False
    region = stack.region_of(assembly.path)
    return stacked.enter_context(launch.ephemeral(home, region=region)), True


def _flow(work: Work, options: Options) -> tuple[Result, list[ledger.Entry]]:
    """Data in, execution followed, release when approved; the result and the ledger as it then stands."""
    with _data(work, options) as (data, key, before):
        with work.clock.phase("polling"):
            work.progress.step("flow")
            arn = flow.started_by_event(work.stack, work.stack["FlowArn"], before, key)
            outcome = flow.follow(work.stack, arn, "flow", work.progress)
        if outcome.already_done:
            result = _already_done(work, outcome, data, options)
        else:
            result = release.release_and_record(work, outcome, data, approve=options.approve)
    return result, ledger.read(work.stack.engine.root)


@contextmanager
def _data(work: Work, options: Options) -> Iterator[tuple[Written, str, set[str]]]:
    """Writes and uploads the data set; gives it, its manifest's key, and the executions there were before."""
    settings = work.stack.settings.get("data") or {}
    name = options.dataset or settings.get("path") or settings.get("dataset")
    if not name:
        raise LabError("no data set is named", "name one: --dataset, or dataset in the [data] table of lab.toml")
    with dataset.temporary(work.stack.engine.root) as folder:
        with work.clock.phase("data"):
            work.progress.step(f"data set {name}")
            data = dataset.write(work.home, str(name), settings, Path(folder))
            before = flow.known(work.stack, work.stack["FlowArn"])
            key = dataset.upload(work.stack.engine, work.stack["DataBucket"], data)
        yield data, key, before


def _already_done(work: Work, outcome: Outcome, data: Written, options: Options) -> Result:
    """The same data with the same settings and code: points to the run that made it, released now if asked for."""
    row = _claim(work.stack, outcome)
    run, status = row.get("run", "?"), row.get("status", "?")
    work.progress.say(f"this data with these settings was already done by run {run} ({status})")
    folder = work.home.runs / run
    approve = options.approve and status == "PENDING_APPROVAL"
    if status != "RUNNING" and not approve and (folder / "record.json").is_file():
        note = f"nothing new to do: run {run} made version {row.get('version', '?')} from this data"
        return Result(read_json(folder / "record.json"), folder, None, note)
    with work.clock.phase("polling"):
        arn = f"{outcome.arn.rpartition(':')[0]}:{run}"
        earlier = flow.follow(work.stack, arn, "flow", work.progress)
    return release.release_and_record(work, earlier, data, approve=approve or options.approve)


def _claim(deployed: Stack, outcome: Outcome) -> dict[str, str]:
    """The row in the table of runs that made this execution stop."""
    claims = [state.parameters.get("Item", {}).get("claim") for state in outcome.states if state.name == "Claim"]
    if not claims or not claims[0]:
        raise LabError("the flow says that this data was done, but not by which run", "lab status")
    found = deployed.client("dynamodb").get_item(TableName=deployed["RunsTable"], Key={"claim": claims[0]})
    return {key: str(next(iter(value.values()))) for key, value in found.get("Item", {}).items()}
