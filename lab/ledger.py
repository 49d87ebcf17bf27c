"""The engine's ledger: one line per child that ended, and the time outside them all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.history import State

KINDS = {
    "sagemaker:createEndpoint": "endpoint",
    "sagemaker:updateEndpoint": "endpoint",
    "greengrassv2:createDeployment": "device",
    "codebuild:startBuild.sync": "build",
    "glue:startJobRun.sync": "job",
    "sagemaker:createTrainingJob.sync": "job",
    "sagemaker:createProcessingJob.sync": "job",
    "lambda:invoke": "function",
}
SLACK = 0.5


@dataclass(frozen=True)
class Entry:
    """One child: what it was, when it ran (seconds since the epoch), its exit status, its log under the root."""

    kind: str
    service: str
    name: str
    start: float
    end: float
    rc: int
    log: str


def read(root: Path) -> list[Entry]:
    """Every finished child of the engine in `root`, in the order in which they started."""
    path = root / "ledger.jsonl"
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    entries = [
        Entry(
            str(row["kind"]),
            str(row["service"]),
            str(row["name"]),
            float(row["start"]),
            float(row["end"]),
            int(row["rc"]),
            str(row.get("log") or ""),
        )
        for row in rows
    ]
    return sorted(entries, key=lambda entry: entry.start)


def within(entries: Iterable[Entry], start: float, end: float) -> list[tuple[float, float]]:
    """The intervals of `entries` cut to [start, end]."""
    cut = [(max(entry.start, start), min(entry.end, end)) for entry in entries]
    return [(low, high) for low, high in cut if high > low]


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Seconds that at least one interval covers."""
    total, until = 0.0, float("-inf")
    for low, high in sorted(intervals):
        if high > until:
            total += high - max(low, until)
            until = high
    return total


def outside(entries: Iterable[Entry], start: float, end: float) -> float:
    """Seconds of [start, end] in which no child ran: the engine's own time."""
    return max(0.0, (end - start) - union(within(entries, start, end)))


def of_state(state: State, entries: Sequence[Entry]) -> Entry | None:
    """The child that `state` started: the first of its kind that began during the state (or soon after, for
    calls such as createEndpoint that return before their process is up)."""
    kind = KINDS.get(state.resource.removeprefix("aws-sdk:"))
    if kind is None:
        return None
    patience = 30.0 if kind in {"endpoint", "device"} else SLACK
    until = (state.end if state.end is not None else float("inf")) + patience
    found = [entry for entry in entries if entry.kind == kind and state.start - SLACK <= entry.start <= until]
    named = [entry for entry in found if entry.name in names_of(state)]
    return next(iter(named or found), None)


def names_of(state: State) -> set[str]:
    """The names that a state's call gave to what it started."""
    keys = ("TrainingJobName", "ProcessingJobName", "EndpointName", "FunctionName", "ProjectName")
    given = [state.parameters.get(key) for key in keys]
    return {str(value).rpartition(":")[2] for value in given if value}
