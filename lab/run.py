"""The whole flow once: synth, deploy, data, follow the execution that the data started, approve, check, record."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import dataset, flow, launch, ledger, record, registry, stack, synth
from lab.clock import Clock
from lab.dataset import Written
from lab.errors import FlowFailed, GateRefused, LabError
from lab.flow import Outcome
from lab.history import root_cause
from lab.home import Home, merged_overrides, overrides, read_json
from lab.launch import Server
from lab.progress import Progress
from lab.stack import Stack

FREE_BYTES = 1_000_000_000
TAIL_LINES = 15


@dataclass(frozen=True)
class Options:
    """What `lab run` was asked for."""

    dataset: str | None = None
    size: str | None = None
    approve: bool = False
    app: Path | None = None


@dataclass(frozen=True)
class Result:
    """A run that ended. `problem` is the error to exit with, None at a good end; `note` is a line for people."""

    record: dict[str, Any]
    folder: Path
    problem: LabError | None = None
    note: str | None = None


def run(home: Home, options: Options, progress: Progress) -> Result:
    """Runs the flow and leaves `.lab/runs/<run>/`. Raises LabError when it cannot even start."""
    clock = Clock()
    refuse_full_disk(home)
    launch.bypass_proxies()
    assembly = _assembly(home, options, progress, clock)
    with ExitStack() as stacked:
        with clock.phase("start"):
            progress.step("embedded AWS")
            server, own = _server(home, assembly, stacked)
        with clock.phase("deploy"):
            progress.step("deploy" if own else f"deploy to the embedded AWS at {server.endpoint}")
            stack.deploy(server.engine(), assembly)
            deployed = stack.deployed(server.engine())
        result, entries = _flow(home, deployed, options, progress, clock)
        progress.done()
    return finish(result, clock, entries)


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


def _flow(
    home: Home, deployed: Stack, options: Options, progress: Progress, clock: Clock
) -> tuple[Result, list[ledger.Entry]]:
    """Data in, execution followed, release when approved; the result and the ledger as it then stands."""
    with _data(home, deployed, options, progress, clock) as (data, key, before):
        with clock.phase("polling"):
            progress.step("flow")
            arn = flow.started_by_event(deployed, deployed["FlowArn"], before, key)
            outcome = flow.follow(deployed, arn, "flow", progress)
        if outcome.already_done:
            result = _already_done(home, deployed, outcome, options, progress, clock, data)
        else:
            result = release_and_record(home, deployed, outcome, options.approve, progress, clock, data)
    return result, ledger.read(deployed.engine.root)


@contextmanager
def _data(
    home: Home, deployed: Stack, options: Options, progress: Progress, clock: Clock
) -> Iterator[tuple[Written, str, set[str]]]:
    """Writes and uploads the data set; gives it, its manifest's key, and the executions there were before."""
    settings = deployed.settings.get("data") or {}
    name = options.dataset or settings.get("path") or settings.get("dataset")
    if not name:
        raise LabError("no data set is named", "name one: --dataset, or dataset in the [data] table of lab.toml")
    with dataset.temporary(home) as folder:
        with clock.phase("data"):
            progress.step(f"data set {name}")
            data = dataset.write(home, str(name), settings, Path(folder))
            before = flow.known(deployed, deployed["FlowArn"])
            key = dataset.upload(deployed.engine, deployed["DataBucket"], data)
        yield data, key, before


def release_and_record(
    home: Home,
    deployed: Stack,
    outcome: Outcome,
    approve: bool,
    progress: Progress,
    clock: Clock,
    data: Written,
) -> Result:
    """What follows a finished flow: approval and release when asked for, then the run's folder and record."""
    released = None
    if outcome.status == "SUCCEEDED" and approve:
        with clock.phase("polling"):
            released = release(deployed, outcome, progress)
    folder = home.runs / outcome.run
    with clock.phase("finish"):
        written = record.collect(deployed, outcome, released, folder, data)
        problem = _problem(written, outcome, released, folder)
        if released is not None and problem is None:
            problem = check_release(deployed, written, data)
            if problem is not None:
                written["status"] = record.FAILED
    return Result(written, folder, problem)


def release(deployed: Stack, outcome: Outcome, progress: Progress) -> Outcome:
    """Approves the run's package and follows the release flow that its event starts."""
    mine = [row for row in registry.packages(deployed) if row.run == outcome.run]
    if not mine:
        raise LabError(f"run {outcome.run} registered no model package", "see its log of the state Register")
    progress.step(f"approve version {mine[0].version}")
    before = flow.known(deployed, deployed["ReleaseFlowArn"])
    registry.decide(deployed, mine[0], registry.APPROVED)
    arn = flow.started_by_event(deployed, deployed["ReleaseFlowArn"], before, mine[0].arn)
    return flow.follow(deployed, arn, "release", progress, outcome.states)


def check_release(deployed: Stack, written: dict[str, Any], data: Written) -> LabError | None:
    """Asks the endpoint about one real sample and looks at the devices; None when all is as the record says."""
    path, body = data.sample()
    where = written["endpoint"] or {}
    if where.get("status") != "InService":
        return LabError(f"the endpoint is {where.get('status', 'absent')}, not InService", "lab logs endpoint")
    answer = registry.invoke(deployed, body, registry.content_type_of(Path(path)))
    where["sample"] = {"file": path, "answer": answer["predictions"][0], "model_version": answer["model_version"]}
    version = written["version"]
    if answer["model_version"] != version:
        return LabError(f"the endpoint answers with version {answer['model_version']}, not {version}")
    for device in written["edge"]["devices"]:
        if device["status"] != "HEALTHY" or device["model_version"] != version:
            return LabError(
                f"device {device['thing']} is {device['status']} with version {device['model_version']}, not {version}",
                f"its component logs are in {written['run']}/logs/devices",
            )
    return None if written["edge"]["devices"] else LabError("no core device answers", "lab doctor")


def _problem(written: dict[str, Any], outcome: Outcome, released: Outcome | None, folder: Path) -> LabError | None:
    """The error to end with, None when the record's status is SUCCEEDED."""
    if written["status"] == record.SUCCEEDED:
        return None
    if written["status"] == record.REFUSED:
        return GateRefused((written["gate"] or {}).get("reasons") or [outcome.cause])
    ended = released if released is not None else outcome
    state = root_cause(ended.states)
    if state is None:
        return FlowFailed(f"the flow ended {ended.status}: {ended.error} {ended.cause}".strip())
    row = next(row for row in written["states"] if row["name"] == state.name and row["flow"] == state.flow)
    log = folder / row["log"]
    cause = (state.cause or "").strip().splitlines() or [""]
    message = f"the state {state.name} failed: {state.error}: {cause[0][:400]}"
    hint = f"the whole log is {log}"
    return FlowFailed(message, hint, log=str(log), log_tail=launch.last_lines(log, TAIL_LINES))


def _already_done(
    home: Home,
    deployed: Stack,
    outcome: Outcome,
    options: Options,
    progress: Progress,
    clock: Clock,
    data: Written,
) -> Result:
    """The same data with the same settings and code: points to the run that made it, released now if asked for."""
    row = _claim(deployed, outcome)
    run, status = row.get("run", "?"), row.get("status", "?")
    arn = f"{outcome.arn.rpartition(':')[0]}:{run}"
    progress.say(f"this data with these settings was already done by run {run} ({status})")
    if status == "RUNNING" or (options.approve and status == "PENDING_APPROVAL"):
        with clock.phase("polling"):
            earlier = flow.follow(deployed, arn, "flow", progress)
        return release_and_record(home, deployed, earlier, options.approve, progress, clock, data)
    folder = home.runs / run
    if not (folder / "record.json").is_file():
        earlier = flow.follow(deployed, arn, "flow", progress)
        return release_and_record(home, deployed, earlier, False, progress, clock, data)
    note = f"nothing new to do: run {run} made version {row.get('version', '?')} from this data"
    return Result(read_json(folder / "record.json"), folder, None, note)


def _claim(deployed: Stack, outcome: Outcome) -> dict[str, str]:
    """The row in the table of runs that made this execution stop."""
    claims = [state.parameters.get("Item", {}).get("claim") for state in outcome.states if state.name == "Claim"]
    if not claims or not claims[0]:
        raise LabError("the flow says that this data was done, but not by which run", "lab status")
    found = deployed.client("dynamodb").get_item(TableName=deployed["RunsTable"], Key={"claim": claims[0]})
    return {key: str(next(iter(value.values()))) for key, value in found.get("Item", {}).items()}


def finish(result: Result, clock: Clock, entries: list[ledger.Entry]) -> Result:
    """Puts wall time and the engine's share into the record and writes it with its report."""
    from lab import report

    if result.note is None:
        result.record["seconds"] = round(clock.seconds(), 3)
        result.record["engine"] = clock.account(entries)
        record.write(result.record, result.folder)
        report.render(result.folder)
    return result
