"""The whole flow once: synth, deploy, data in, the execution followed to its end."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import bill, dataset, flow, launch, ledger, release, signing, stack, synth
from lab.clock import Clock
from lab.dataset import Writing, Written
from lab.errors import LabError
from lab.flow import Outcome
from lab.home import Home, merged_overrides, overrides, read_json
from lab.launch import Server, Starting
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
    sign: Path | None = None


def run(home: Home, options: Options, progress: Progress) -> Result:
    """Runs the flow and leaves `.lab/runs/<run>/`. Raises LabError when it cannot even start.

    What does not wait for another starts at once: the engine comes up while the app synthesizes, and the data set is
    written while the stack is deployed.
    """
    clock = Clock()
    refuse_full_disk(home)
    over = _overrides(options)
    with ExitStack() as stacked:
        coming: Server | Starting | None = launch.running(home.up)
        if coming is None:
            coming = stacked.enter_context(launch.ephemeral(home, region=_region(home, options, over)))
        with clock.phase("synth"):
            progress.step("synth")
            assembly = synth.given(options.app) if options.app else synth.synth(home, over)
            _warn_above_budget(home, assembly.path, progress)
        name, settings = _data_settings(options, assembly)
        if options.approve:
            signing.asked(read_json(assembly.path / "lab.json").get("settings", {}), options.sign)
        writing = stacked.enter_context(dataset.writing(home, name, settings, coming.root))
        with clock.phase("start"):
            server = coming.ready()
            progress.step(f"embedded AWS at {server.endpoint}")
        with clock.phase("deploy"):
            progress.step("deploy")
            stack.deploy(server.engine(), assembly)
            deployed = stack.deployed(server.engine())
        work = Work(home, deployed, progress, clock, options.sign)
        result, entries = _flow(work, writing, options)
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


def _warn_above_budget(home: Home, assembly: Path, progress: Progress) -> None:
    """The desk costs nothing, so it says what `lab deploy` would refuse, and goes on."""
    over = bill.of_assembly(home, assembly).budget["exceeded"]
    for row in over:
        progress.say(f"in AWS {row['said']}; lab deploy would refuse it. {row['remedy']}")


def _overrides(options: Options) -> dict[str, dict[str, Any]]:
    name = options.dataset if options.dataset and not dataset.is_path(options.dataset) else None
    return merged_overrides(overrides(name, options.size))


def _region(home: Home, options: Options, over: Mapping[str, Mapping[str, Any]]) -> str:
    return home.region(over) if options.app is None else stack.region_of(options.app)


def _data_settings(options: Options, assembly: synth.Assembly) -> tuple[str, dict[str, Any]]:
    """The data set's name or path, and the `[data]` table as resolved."""
    settings = read_json(assembly.path / "lab.json").get("settings", {}).get("data") or {}
    name = options.dataset or settings.get("path") or settings.get("dataset")
    if not name:
        raise LabError("no data set is named", "name one: --dataset, or dataset in the [data] table of lab.toml")
    return str(name), settings


def _flow(work: Work, writing: Writing, options: Options) -> tuple[Result, list[ledger.Entry]]:
    """Data in, execution followed, release when approved; the result and the ledger as it then stands."""
    with work.clock.phase("data"):
        work.progress.step(f"data set {writing.dataset}")
        data = writing.finish()
        before = flow.known(work.stack, work.stack["FlowArn"])
        key = dataset.upload(work.stack.engine, work.stack["DataBucket"], data)
    with work.clock.phase("polling"):
        work.progress.step("flow")
        arn = flow.started_by_event(work.stack, work.stack["FlowArn"], before, key)
        outcome = flow.follow(work.stack, arn, "flow", work.progress)
    if outcome.already_done:
        result = _already_done(work, outcome, data, options)
    else:
        result = release.release_and_record(work, outcome, data, approve=options.approve)
    return result, ledger.read(work.stack.engine.root)


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
