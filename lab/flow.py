"""Waits for the executions that events start, and follows one to its end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import grants, history, policy
from lab.errors import LabError
from lab.history import State
from lab.progress import Progress
from lab.stack import Stack

POLL_SECONDS = 0.25
LONGEST_POLL_SECONDS = 1.0
SELDOM = 20  # looks, after which an execution is asked itself: one that is aborted says so in no event
EVENT_SECONDS = 30.0
RUNNING = "RUNNING"
EPOCH = re.compile(r"epoch=\d+ .*")


@dataclass(frozen=True)
class Outcome:
    """A finished execution. `status` is Step Functions' word for it; `seconds` from its start to its end."""

    arn: str
    flow: str
    status: str
    error: str
    cause: str
    states: Sequence[State]

    @property
    def run(self) -> str:
        return self.arn.rpartition(":")[2]

    @property
    def already_done(self) -> bool:
        return any(state.name == "AlreadyDone" for state in self.states)

    @property
    def refused(self) -> bool:
        return self.status == "FAILED" and self.error == "GateRefused"


def known(stack: Stack, flow_arn: str) -> set[str]:
    """The executions that a flow has had so far."""
    pages = stack.client("stepfunctions").get_paginator("list_executions").paginate(stateMachineArn=flow_arn)
    return {str(row["executionArn"]) for page in pages for row in page["executions"]}


def started_by_event(stack: Stack, flow_arn: str, before: set[str], needle: str) -> str:
    """Waits for an execution that was not there `before` and whose input holds `needle`; returns its ARN.

    Events may come twice, so there may be two: the first to start is the one that works, the other ends at once.
    """
    client = stack.client("stepfunctions")
    deadline = time.monotonic() + EVENT_SECONDS
    while time.monotonic() < deadline:
        fresh = known(stack, flow_arn) - before
        mine = [client.describe_execution(executionArn=arn) for arn in fresh]
        mine = [row for row in mine if needle in row["input"]]
        if mine:
            return str(min(mine, key=lambda row: row["startDate"])["executionArn"])
        _refuse_denied(stack, flow_arn)
        time.sleep(POLL_SECONDS / 2)
    name = flow_arn.rpartition(":")[2]
    raise LabError(
        f"no execution of {name} started within {EVENT_SECONDS:.0f} s of the event",
        "the EventBridge rule in the template must match it; see server.log in the engine's folder",
    )


def _refuse_denied(stack: Stack, flow_arn: str) -> None:
    """Raises LabError when the role of the event's rule may not start the machine."""
    for call in grants.recorded(stack.engine.root / "access.jsonl"):
        if call.get("resource") == flow_arn and call["decision"] != policy.ALLOWED:
            raise LabError(
                f"{call['role']} is not authorized to perform: {call['action']} on resource: {flow_arn}",
                "the role of the EventBridge rule must be allowed to start the state machine",
            )


def follow(stack: Stack, arn: str, flow: str, progress: Progress) -> Outcome:
    """Shows an execution until it ends. `flow` is the state machine's short name in the record."""
    client = stack.client("stepfunctions")
    epochs = _Epochs(stack.engine.root)
    looks = 0
    while True:
        looks += 1
        # Asked before the history is read, which is whole then; else the last states would be missed.
        over = looks % SELDOM == 0 and _status(client, arn) != RUNNING
        events = history.events_of(client, arn)
        states = history.states_of(events, flow)
        progress.states(states)
        for line in epochs.news(states):
            progress.epoch(line)
        if history.ended(events) or over:
            now = client.describe_execution(executionArn=arn)
            if now["status"] != RUNNING:
                return Outcome(arn, flow, str(now["status"]), *_why(now, states), states)
        time.sleep(_pause(states))


def _status(client: Any, arn: str) -> str:
    return str(client.describe_execution(executionArn=arn)["status"])


def _pause(states: Sequence[State]) -> float:
    """Seconds until the next look: short while states change, longer in a long one, as looking takes its cores."""
    age = time.time() - states[-1].start if states and states[-1].end is None else 0.0
    return min(LONGEST_POLL_SECONDS, max(POLL_SECONDS, age / 20))


def _why(execution: dict[str, Any], states: Sequence[State]) -> tuple[str, str]:
    """Error and cause of a finished execution; the history knows them where the description does not."""
    last = states[-1] if states else None
    error = execution.get("error") or (last.error if last else None) or ""
    cause = execution.get("cause") or (last.cause if last else None) or ""
    return str(error), str(cause)


def definition(stack: Stack, flow_arn: str) -> dict[str, Any]:
    """The state machine's definition, as deployed."""
    found = stack.client("stepfunctions").describe_state_machine(stateMachineArn=flow_arn)
    whole: dict[str, Any] = json.loads(found["definition"])
    return whole


class _Epochs:
    """Reads the epoch lines that a running training job adds to its log."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read = 0
        self._rest = ""

    def news(self, states: Sequence[State]) -> list[str]:
        name = next((state.parameters.get("TrainingJobName") for state in states if "Training" in state.resource), None)
        path = self._root / "jobs" / "sagemaker" / str(name) / "log.txt"
        if name is None or not path.is_file():
            return []
        with path.open(encoding="utf-8", errors="replace") as stream:
            stream.seek(self._read)
            text = self._rest + stream.read()
            self._read = stream.tell()
        *lines, self._rest = text.split("\n")
        found = [EPOCH.search(line) for line in lines]
        return [match.group(0) for match in found if match]
