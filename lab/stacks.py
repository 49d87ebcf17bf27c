"""A CloudFormation stack as deploy and destroy see it: its state, what happens to it, and the end of that"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from lab.cloud import Cloud, CloudError

Say = Callable[[str], None]
GONE = "GONE"
PATIENCE_SECONDS = 3600.0


def describe(cloud: Cloud, stack: str) -> dict[str, Any] | None:
    """DescribeStacks' row, None when there is no such stack."""
    from botocore.exceptions import ClientError

    try:
        rows = cloud.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return next((row for row in rows if row["StackStatus"] != "DELETE_COMPLETE"), None)


def status(cloud: Cloud, stack: str) -> str:
    """The stack's status, GONE when there is none."""
    found = describe(cloud, stack)
    return str(found["StackStatus"]) if found else GONE


def template(cloud: Cloud, stack: str) -> dict[str, Any]:
    """The template that is deployed; empty when there is no stack, or it was never executed."""
    if status(cloud, stack) in (GONE, "REVIEW_IN_PROGRESS"):
        return {}
    body = cloud.client("cloudformation").get_template(StackName=stack, TemplateStage="Original")["TemplateBody"]
    found: dict[str, Any] = json.loads(body) if isinstance(body, str) else dict(body)
    return found


def outputs(found: Mapping[str, Any]) -> dict[str, str]:
    """The outputs of a described stack."""
    return {str(row["OutputKey"]): str(row["OutputValue"]) for row in found.get("Outputs", [])}


class Watch:
    """Tells what happens to a stack, each event once."""

    def __init__(self, cloud: Cloud, stack: str, say: Say) -> None:
        self._cloud, self._stack, self._say = cloud, stack, say
        self._seen = {row["EventId"] for row in self._events()}
        self.failures: dict[str, str] = {}

    def _events(self) -> list[dict[str, Any]]:
        from botocore.exceptions import ClientError

        try:
            return list(
                self._cloud.rows("cloudformation", "describe_stack_events", "StackEvents", StackName=self._stack)
            )
        except ClientError:
            return []

    def look(self) -> None:
        """Says what is new, the oldest first, and remembers what failed and why."""
        for row in reversed(self._events()):
            if row["EventId"] in self._seen:
                continue
            self._seen.add(row["EventId"])
            state, why = str(row["ResourceStatus"]), str(row.get("ResourceStatusReason") or "")
            if state.endswith("FAILED") and row["LogicalResourceId"] != self._stack:
                self.failures[str(row["LogicalResourceId"])] = why
            if not state.endswith("IN_PROGRESS") or row["LogicalResourceId"] == self._stack:
                name = f"{row['LogicalResourceId']} ({row['ResourceType']})"
                self._say(f"  {state:<20} {name}{f': {why}' if why and state.endswith('FAILED') else ''}")

    def wait(self, seconds: float = PATIENCE_SECONDS) -> str:
        """Looks until nothing is in progress any more; the status then. Raises CloudError when it takes too long."""
        deadline = time.monotonic() + seconds
        while True:
            found = status(self._cloud, self._stack)
            self.look()
            if not found.endswith("IN_PROGRESS") or found == "REVIEW_IN_PROGRESS":
                return found
            if time.monotonic() > deadline:
                hint = "it goes on by itself; the same command later takes up from there"
                raise CloudError(f"the stack {self._stack} is still {found} after {seconds / 60:.0f} minutes", hint)
            time.sleep(0.2 if self._cloud.local else 3.0)
