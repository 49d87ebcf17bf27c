"""Writes what a run leaves: record.json, every state's log, data, artefacts, recipes.

record.json            the summary: status, states, metrics, gate, artefacts, where it serves, times, cost
flow.json              both state machines as deployed, for the picture
    settings.json          lab.toml as resolved
logs/NN-<State>/log.txt   what the state's job said; for a state without a job, its events
curated/ train/ evaluate/ gate/ export/   the data bucket's prefixes of this run
release/               what was registered: the release's manifest and artefacts; where an earlier run registered the
                       same version, these are that run's files, and export/ is that run's
recipes/*.json         the Greengrass recipes as deployed
access.json            roles, and which of them called what (grants.py)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import cost, grants, history, ledger, registry
from lab.flow import Outcome, definition
from lab.history import State
from lab.home import read_json, write_atomically
from lab.ledger import Entry
from lab.stack import Stack

if TYPE_CHECKING:
    from lab.dataset import Written

REFUSED = "REFUSED"
FAILED = "FAILED"
SUCCEEDED = "SUCCEEDED"


def collect(stack: Stack, flow: Outcome, release: Outcome | None, folder: Path, data: Written) -> dict[str, Any]:
    """Copies a run's files from the engine into `folder` and returns its record, engine timings still empty."""
    folder.mkdir(parents=True, exist_ok=True)
    root = stack.engine.root
    states = [*flow.states, *(release.states if release else [])]
    rows = _states(states, ledger.read(root), root, folder)
    _download(stack, f"curated/{flow.run}/", folder / "curated")
    _download(stack, f"runs/{flow.run}/", folder)
    manifest = _released(stack, flow, folder)
    _copy_edge(stack, root, folder)
    _write_definitions(stack, folder)
    write_atomically(folder / "access.json", json.dumps(grants.taken(stack.engine), indent=1))
    write_atomically(folder / "settings.json", json.dumps(stack.settings, indent=1))
    record: dict[str, Any] = {
        "run": flow.run,
        "status": _status(flow, release),
        "dataset": data.name,
        "modality": str(data.manifest["modality"]),
        "seconds": 0.0,
        "states": rows,
        "metrics": _metrics(folder),
        "gate": _gate(folder),
        "artifacts": manifest.get("artifacts", []),
        **_decided(stack, flow, release),
        "engine": {"overhead_seconds": 0.0, "phases": {}},
        "cost": cost.estimate(states, _template(root)),
        "task": str(data.manifest["task"]),
        "version": manifest.get("version"),
        "released_by": manifest.get("run"),
    }
    return record


def write(record: Mapping[str, Any], folder: Path) -> Path:
    """Writes record.json into `folder`, whole or not at all; returns its path."""
    path = folder / "record.json"
    write_atomically(path, json.dumps(record, indent=1, default=str) + "\n")
    return path


def _status(flow: Outcome, release: Outcome | None) -> str:
    if flow.refused:
        return REFUSED
    ended = [flow, *([release] if release else [])]
    return SUCCEEDED if all(outcome.status == "SUCCEEDED" for outcome in ended) else FAILED


def _released(stack: Stack, flow: Outcome, folder: Path) -> dict[str, Any]:
    """The manifest of what the run exported or, once that is registered, of what the version is; its files besides."""
    exported = _optional(folder / "export" / "export.json")
    if flow.status != "SUCCEEDED" or not exported.get("version"):
        return exported
    _download(stack, f"releases/{exported['version']}/", folder / "release")
    manifest = _optional(folder / "release" / "manifest.json")
    if not manifest:
        return exported
    if manifest.get("run", flow.run) != flow.run:
        _download(stack, f"runs/{manifest['run']}/export/", folder / "export")
    return manifest


def _states(states: Sequence[State], entries: Sequence[Entry], root: Path, folder: Path) -> list[dict[str, Any]]:
    logs = folder / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    return [_row(number, state, entries, root, logs) for number, state in enumerate(states, 1)]


def _row(number: int, state: State, entries: Sequence[Entry], root: Path, logs: Path) -> dict[str, Any]:
    log = logs / f"{number:02d}-{state.name}" / "log.txt"
    log.parent.mkdir()
    source = log_of(state, entries, root)
    events = "\n".join(history.text_of(state)) + "\n"
    if source is not None:
        shutil.copyfile(source, log)
    else:
        log.write_text(events, encoding="utf-8")
    row = {
        "name": state.name,
        "flow": state.flow,
        "resource": state.resource,
        "status": state.status,
        "seconds": round(state.seconds, 3),
        "log": f"logs/{log.parent.name}/{log.name}",
        "start": round(state.start, 3),
    }
    notes = {"visits": state.visits if state.visits > 1 else None, "caught": state.caught, "error": state.error}
    return row | {key: value for key, value in notes.items() if value is not None} | _cause(state)


def _cause(state: State) -> dict[str, str]:
    return {"cause": state.cause[:2000]} if state.error and state.cause else {}


def log_of(state: State, entries: Sequence[Entry], root: Path) -> Path | None:
    """The log file of the job, function or process that a state started, None for a state that starts none."""
    entry = ledger.of_state(state, entries)
    if entry is not None and entry.log and (root / entry.log).is_file():
        return root / entry.log
    for name in ledger.names_of(state):
        found = sorted((root / "jobs").glob(f"*/{name}/log.txt"))
        if found:
            return found[0]
    return None


def _metrics(folder: Path) -> dict[str, Any]:
    report = _optional(folder / "evaluate" / "report.json")
    found = {key: report[key] for key in ("winner", "verdict") if report.get(key)}
    return {"test": {}, "baseline": {}, **(report.get("metrics") or {}), **found}


def _gate(folder: Path) -> dict[str, Any] | None:
    """Both gates as one: passed when every gate that was asked passed; None before the first."""
    found = [_optional(folder / "gate" / name) for name in ("decision.json", "release.json")]
    found = [decision for decision in found if decision]
    if not found:
        return None
    reasons = [str(reason) for decision in found for reason in decision.get("reasons", [])]
    ship = _optional(folder / "gate" / "decision.json").get("ship", "model")
    return {"passed": all(decision.get("passed") for decision in found), "reasons": reasons, "ship": ship}


def _decided(stack: Stack, flow: Outcome, release: Outcome | None) -> dict[str, Any]:
    """Package and approval; endpoint and edge once the package is approved."""
    package = registry.of_run(stack, flow.run) if flow.status == "SUCCEEDED" else None
    decided: dict[str, Any] = {
        "model_package": package.arn if package else None,
        "approval": package.approval if package else None,
        "endpoint": None,
        "edge": None,
    }
    if release is not None or decided["approval"] == registry.APPROVED:
        decided |= {"endpoint": registry.endpoint(stack), "edge": registry.edge(stack)}
    return decided


def _download(stack: Stack, prefix: str, folder: Path) -> None:
    """Mirrors the data bucket's objects under `prefix` into `folder`."""
    s3, bucket = stack.client("s3"), stack["DataBucket"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for row in page.get("Contents", []):
            path = folder / str(row["Key"]).removeprefix(prefix)
            if not path.resolve().is_relative_to(folder.resolve()) or str(row["Key"]).endswith("/"):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(s3.get_object(Bucket=bucket, Key=row["Key"])["Body"].read())


def _copy_edge(stack: Stack, root: Path, folder: Path) -> None:
    """The devices' component logs, their deployments and messages, and the recipes that they run."""
    for log in sorted(root.glob("devices/*/logs/*.log")):
        target = folder / "logs" / "devices" / log.parent.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, target / log.name)
    for lines in sorted(root.glob("devices/*/*.jsonl")):
        target = folder / "logs" / "devices" / lines.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(lines, target / lines.name)
    recipes = sorted(root.glob("devices/*/recipes/*.json"))
    for recipe in recipes:
        (folder / "recipes").mkdir(exist_ok=True)
        shutil.copyfile(recipe, folder / "recipes" / recipe.name)


def _write_definitions(stack: Stack, folder: Path) -> None:
    both = {"flow": definition(stack, stack["FlowArn"]), "release": definition(stack, stack["ReleaseFlowArn"])}
    write_atomically(folder / "flow.json", json.dumps(both, indent=1))


def _template(root: Path) -> dict[str, Any]:
    lab = _optional(root / "assembly" / "lab.json")
    return _optional(root / "assembly" / str(lab.get("template", "-")))


def _optional(path: Path) -> dict[str, Any]:
    """A JSON object, empty when the run did not get as far as writing it."""
    if not path.is_file():
        return {}
    found = read_json(path)
    return found if isinstance(found, dict) else {}
