"""What follows a finished flow: approval, release, the checks, the record."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import dataset, flow, grants, launch, ledger, record, registry, signing, stack
from lab.clock import Clock
from lab.dataset import Written
from lab.errors import FlowFailed, GateRefused, LabError
from lab.flow import Outcome
from lab.history import root_cause
from lab.home import Home, read_json
from lab.launch import Server
from lab.progress import Progress, Silent
from lab.stack import Stack

TAIL_LINES = 15


@dataclass(frozen=True)
class Work:
    """What every step of a run works with. `sign` is the file of the key with which a release is signed, if any."""

    home: Home
    stack: Stack
    progress: Progress
    clock: Clock
    sign: Path | None = None


@dataclass(frozen=True)
class Result:
    """A run that ended. `problem` is the error to exit with, None at a good end; `note` is a line for people."""

    record: dict[str, Any]
    folder: Path
    problem: LabError | None = None
    note: str | None = None


def release_and_record(work: Work, outcome: Outcome, data: Written, *, approve: bool) -> Result:
    """What follows a finished flow: approval and release when asked for, then the run's folder and record."""
    released = None
    if outcome.status == "SUCCEEDED" and approve:
        with work.clock.phase("polling"):
            released = _release(work, outcome)
            if released is not None and released.status == "SUCCEEDED":
                registry.await_fleet(work.stack)
    folder = work.home.runs / outcome.run
    with work.clock.phase("finish"):
        written = record.collect(work.stack, outcome, released, folder, data)
        problem = _problem(written, outcome, released, folder)
        if written["approval"] == registry.APPROVED and problem is None:
            problem = check_release(work.stack, written, data)
            if problem is not None:
                written["status"] = record.FAILED
    return Result(written, folder, problem)


def _release(work: Work, outcome: Outcome) -> Outcome | None:
    """Approves the run's package and follows the release flow that its event starts; None when it was approved."""
    package = registry.of_run(work.stack, outcome.run)
    if package is None:
        raise LabError(f"run {outcome.run} registered no model package", "see its log of the state Register")
    if package.approval == registry.APPROVED and (work.sign is None or package.signature):
        work.progress.say(f"version {package.version} is approved and released already, by run {package.run}")
        return None
    work.progress.step(f"approve version {package.version}")
    key = signing.asked(work.stack.settings, work.sign)
    signature = signing.of_release(work.stack, package.version, package.digest, key) if key else ""
    before = flow.known(work.stack, work.stack["ReleaseFlowArn"])
    registry.decide(work.stack, package, registry.APPROVED, signature)
    arn = flow.started_by_event(work.stack, work.stack["ReleaseFlowArn"], before, package.arn)
    return flow.follow(work.stack, arn, "release", work.progress)


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
    message = f"the state {state.name} failed: {state.error}: {cause[0][:400]}{_denials(folder)}"
    hint = f"the whole log is {log}"
    return FlowFailed(message, hint, log=str(log), log_tail=launch.last_lines(log, TAIL_LINES))


def _denials(folder: Path) -> str:
    """What was denied in the run; an answer to a HEAD request has no room for it."""
    denied = grants.denied(read_json(folder / "access.json"))
    return "".join(
        f"\n{call['role']} is not authorized to perform: {call['action']} on resource: {call['resource']}"
        for call in denied
        if "action" in call
    )


def finish(result: Result, clock: Clock, entries: list[ledger.Entry], former: dict[str, Any] | None = None) -> Result:
    """Puts wall time and the engine's share into the record and writes it with its report.

    A `former` record of the same run (released later) keeps its own times.
    """
    from lab import report

    if result.note is None:
        times = {"seconds": round(clock.seconds(), 3), "engine": clock.account(entries)}
        result.record.update({key: former[key] for key in times} if former else times)
        record.write(result.record, result.folder)
        report.render(result.folder)
    return result


def approve(home: Home, server: Server, version: str | None, progress: Progress, sign: Path | None = None) -> Result:
    """Approves a pending package of the running engine, follows its release, and brings its run's record up to date.

    `sign` is the file of the private key where devices ask for a signature. Raises LabError.
    """
    clock = Clock()
    deployed = stack.deployed(server.engine())
    signing.asked(deployed.settings, sign)
    chosen = _to_approve(deployed, version, sign)
    run = registry.row_run(deployed, chosen)
    arn = deployed["FlowArn"].replace(":stateMachine:", ":execution:") + f":{run}"
    outcome = flow.follow(deployed, arn, "flow", Silent())
    started = deployed.client("stepfunctions").describe_execution(executionArn=arn)
    folder = home.runs / run
    former = read_json(folder / "record.json") if (folder / "record.json").is_file() else None
    with tempfile.TemporaryDirectory() as temporary:
        key = str(json.loads(started["input"])["key"])
        data = dataset.fetch_sample(deployed.engine, deployed["DataBucket"], key, Path(temporary))
        result = release_and_record(Work(home, deployed, progress, clock, sign), outcome, data, approve=True)
    return finish(result, clock, ledger.read(deployed.engine.root), former)


def _to_approve(deployed: Stack, version: str | None, sign: Path | None) -> registry.Package:
    """The package that waits; one that was approved unsigned, where devices refuse that, is named by its version."""
    if version is not None and sign is not None:
        chosen = registry.choose(deployed, version)
        if chosen.approval == registry.APPROVED and not chosen.signature:
            return chosen
    return registry.choose(deployed, version, approval=registry.PENDING)


def reject(server: Server, version: str | None) -> registry.Package:
    """Rejects a pending package of the running engine; returns it as it then is."""
    deployed = stack.deployed(server.engine())
    chosen = registry.choose(deployed, version, approval=registry.PENDING)
    registry.decide(deployed, chosen, registry.REJECTED)
    return registry.package(deployed, chosen.arn)
