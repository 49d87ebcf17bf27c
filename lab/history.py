"""An execution's history as rows: which states ran, how long, how each ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

# A gate that said no is no failure of a state: what was caught before it was gone on from.
REFUSED = "GateRefused"
BAD_ENDS = {"ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted"}
ENDS = BAD_ENDS | {"ExecutionSucceeded"}


@dataclass
class State:
    """One state as it ran; a state visited again (a polling loop) is one row with the sum of its seconds.

    `start` and `end` are seconds since the epoch, `end` is None while it runs. `resource` reads like
    `sagemaker:createTrainingJob.sync`, or the type of a state that calls nothing. `caught` is the error that a
    Catch took while the flow went on.
    """

    name: str
    flow: str
    resource: str
    start: float
    end: float | None = None
    seconds: float = 0.0
    visits: int = 1
    error: str | None = None
    cause: str | None = None
    caught: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        if self.error is not None:
            return "FAILED"
        return "RUNNING" if self.end is None else "SUCCEEDED"


def events_of(stepfunctions: Any, execution_arn: str) -> list[dict[str, Any]]:
    """The whole history of an execution, oldest event first."""
    pages = stepfunctions.get_paginator("get_execution_history").paginate(
        executionArn=execution_arn, PaginationConfig={"PageSize": 1000}
    )
    return [event for page in pages for event in page["events"]]


def ended(events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the history says that its execution is over."""
    return bool(events) and str(events[-1]["type"]) in ENDS


def states_of(events: Sequence[Mapping[str, Any]], flow: str) -> list[State]:
    """One row per state in the order of the first visit. `flow` is the state machine's short name."""
    rows: dict[str, State] = {}
    here: State | None = None
    for event in events:
        kind = str(event["type"])
        at = _epoch(event["timestamp"])
        if kind.endswith("StateEntered"):
            here = _enter(rows, str(event["stateEnteredEventDetails"]["name"]), flow, kind, at)
        elif here is not None:
            _note(here, kind, event, at)
        if here is not None:
            here.events.append(_plain(event))
    _settle(list(rows.values()), str(events[-1]["type"]) if events else "")
    return list(rows.values())


def _enter(rows: dict[str, State], name: str, flow: str, kind: str, at: float) -> State:
    state = rows.get(name)
    if state is None:
        state = rows[name] = State(name, flow, kind.removesuffix("StateEntered").lower(), at)
        state.seconds = 0.0
    else:
        state.visits += 1
    state.end = None
    state.parameters["_entered"] = at
    return state


def _note(state: State, kind: str, event: Mapping[str, Any], at: float) -> None:
    """Takes one event of `state` into its row."""
    if kind.endswith("StateExited"):
        state.end = at
        state.seconds += at - state.parameters.pop("_entered", at)
    elif kind == "TaskScheduled":
        details = event["taskScheduledEventDetails"]
        state.resource = f"{details['resourceType']}:{details['resource']}"
        state.error = state.cause = None
        state.parameters.update(_json(details.get("parameters")))
    elif kind == "LambdaFunctionScheduled":
        state.resource = "lambda:invoke"
        state.parameters["FunctionName"] = event["lambdaFunctionScheduledEventDetails"]["resource"]
    elif kind.endswith(("Failed", "TimedOut")):
        details = _details(event)
        state.error = str(details.get("error") or kind)
        state.cause = str(details.get("cause") or "")
        if kind.startswith("Execution"):
            state.end = at


def _settle(rows: list[State], last: str) -> None:
    """Tells caught errors that the flow went on from, from the one that ended it."""
    failed = last in BAD_ENDS
    with_error = [row for row in rows if row.error is not None and row.resource not in {"fail"}]
    refused = any(row.resource == "fail" and row.error == REFUSED for row in rows)
    final = with_error[-1] if failed and with_error and not refused else None
    for row in with_error:
        if row is not final and row.end is not None:
            row.caught, row.error = row.error, None
    for row in rows:
        row.parameters.pop("_entered", None)
        if row.resource == "fail" and row.end is None and failed:
            row.end = row.start


def root_cause(rows: Iterable[State]) -> State | None:
    """The state whose own error ended the flow: the last failed one that is no Fail state."""
    failed = [row for row in rows if row.error is not None]
    own = [row for row in failed if row.resource != "fail"]
    return next(reversed(own or failed), None)


def text_of(state: State) -> Iterator[str]:
    """What the history says about one state, a line per event: the log of a state that starts no job."""
    for event in state.events:
        body = {key: value for key, value in event.items() if key not in {"timestamp", "type"}}
        yield f"{event['timestamp']} {event['type']} {json.dumps(body, default=str)}"


def _details(event: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [value for key, value in event.items() if key.endswith("EventDetails") and isinstance(value, dict)]
    return found[0] if found else {}


def _plain(event: Mapping[str, Any]) -> dict[str, Any]:
    at = event["timestamp"]
    kept = {key: value for key, value in event.items() if key.endswith("EventDetails")}
    return {"timestamp": at.isoformat() if isinstance(at, datetime) else at, "type": event["type"], **kept}


def _epoch(at: datetime | float) -> float:
    return at.timestamp() if isinstance(at, datetime) else float(at)


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
