"""An execution is followed to its end, whichever of its history and itself says first that it is over."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from scripted import GOOD, Cloud, Event

from lab import flow
from lab.progress import Silent
from lab.stack import Stack

ARN = "arn:aws:states:us-east-1:1:execution:ml-lab-dev-flow:run-1"


class Late:
    """Step Functions with an execution that ends when it is asked for its status, after its history was read."""

    def __init__(self, events: list[Event]) -> None:
        self.events, self.status = events, "RUNNING"

    def client(self, service: str) -> "Late":
        return self

    def get_paginator(self, name: str) -> Any:
        class Pages:
            def paginate(_, **arguments: Any) -> list[dict[str, Any]]:
                return [self.get_execution_history(**arguments)]

        return Pages()

    def get_execution_history(self, **_: Any) -> dict[str, Any]:
        known = self.events[:4] if self.status == "RUNNING" else self.events
        return {"events": [{"timestamp": datetime.now(UTC), "type": kind, **details} for kind, details in known]}

    def describe_execution(self, **_: Any) -> dict[str, str]:
        self.status = "SUCCEEDED"
        return {"status": self.status}


@pytest.mark.parametrize("last", [[], [("ExecutionSucceeded", {})]], ids=["aborted", "ended"])
def test_what_happened_between_two_looks_is_not_missed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: list[Event]
) -> None:
    monkeypatch.setattr(flow, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(flow, "LONGEST_POLL_SECONDS", 0.0)
    cloud = Cloud(tmp_path)
    monkeypatch.setattr(cloud, "client", Late([*GOOD[:-1], *last]).client)
    outcome = flow.follow(Stack(cloud, "ml-lab-dev", {}, {}), ARN, "flow", Silent())
    assert outcome.status == "SUCCEEDED"
    assert [state.name for state in outcome.states] == ["Claim", "Train", "Register"]
