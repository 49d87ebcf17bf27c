"""Keeps what a device reports, one object per message, as metrics for alarms and dashboard.

Started by IoT rules on `<prefix>/+/telemetry` and `<prefix>/+/alert`; the event is the message (at most 2 KB of JSON)
and `topic_thing`, who sent it by the broker's word. A message that comes twice is stored and counted once; one that a
device kept too long for CloudWatch is only stored. What is neither telemetry nor an alert is refused with what is
wrong, and so shows in the function's errors.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

SCHEMAS = (1, 2)
# Name of the field in telemetry -> name and unit of the metric. `drops` is a count by what was dropped.
METRICS = {
    "count": ("Inferences", "Count"),
    "errors": ("InferenceErrors", "Count"),
    "corrupt": ("CorruptInputs", "Count"),
    "over_budget": ("OverBudget", "Count"),
    "drops": ("Drops", "Count"),
    "p95_ms": ("LatencyP95", "Milliseconds"),
    "confidence_mean": ("Confidence", "None"),
    "psi": ("DriftPsi", "None"),
    "ks": ("DriftKs", "None"),
}
# Kind of an alert -> name of the metric that counts it.
ALERTS = {
    "swap": "Swaps",
    "reject": "Rejections",
    "revert": "Reverts",
    "restore": "Restores",
    "degraded": "Degraded",
    "recovered": "Recovered",
    "drift": "DriftAlerts",
    "configuration": "ConfigurationsRefused",
    "disk": "DiskShortages",
    "nucleus": "NucleusLosses",
    "hang": "Hangs",
}
NAME = re.compile(r"[A-Za-z0-9:_-]{1,128}")  # a thing's name, and an id: neither can leave its place in a key


class BadTelemetry(Exception):
    """A message that is neither telemetry nor an alert, and why."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with."""

    bucket: str
    namespace: str
    s3: Any
    cloudwatch: Any


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    return Runtime(
        bucket=os.environ["BUCKET"],
        namespace=os.environ["NAMESPACE"],
        s3=boto3.client("s3"),
        cloudwatch=boto3.client("cloudwatch"),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return keep(event, runtime())


def keep(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    """Stores one message and counts it; `{"key", "new"}`. Raises BadTelemetry."""
    key = place(event)
    try:
        here.s3.put_object(
            Bucket=here.bucket,
            Key=key,
            Body=json.dumps(event).encode(),
            ContentType="application/json",
            IfNoneMatch="*",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise
        return {"key": key, "new": False}
    data = metrics(event)
    if data and _countable(_when(event)):
        here.cloudwatch.put_metric_data(Namespace=here.namespace, MetricData=data)
    return {"key": key, "new": True}


def place(event: dict[str, Any]) -> str:
    """The key of a message: `telemetry/<thing>/<date>/<id>.json`, an alert `alert-<id>.json`. Raises BadTelemetry."""
    what = "an alert" if "kind" in event else "telemetry"
    if event.get("schema") not in SCHEMAS:
        raise BadTelemetry(f"{what} of schema {event.get('schema')!r}; this function reads 1 and 2")
    for name in ("thing", "id"):
        if not NAME.fullmatch(str(event.get(name, ""))):
            raise BadTelemetry(f"{what} whose {name} is {event.get(name)!r}; allowed: {NAME.pattern}")
    if event.get("topic_thing", event["thing"]) != event["thing"]:
        raise BadTelemetry(f"{what} of {event['thing']!r} on the topic of {event['topic_thing']!r}")
    if "kind" in event and event["kind"] not in ALERTS:
        raise BadTelemetry(f"an alert of kind {event['kind']!r}; allowed: {', '.join(ALERTS)}")
    file = f"alert-{event['id']}" if "kind" in event else event["id"]
    return f"telemetry/{event['thing']}/{_when(event):%Y-%m-%d}/{file}.json"


def metrics(event: dict[str, Any]) -> list[dict[str, Any]]:
    """One datum of each metric for the fleet, and one for the device. A figure that the device lacks is left out."""
    found = []
    for name, unit, value in _figures(event):
        datum = {"MetricName": name, "Unit": unit, "Value": value, "Timestamp": _when(event)}
        found += [datum, {**datum, "Dimensions": [{"Name": "Thing", "Value": event["thing"]}]}]
    return found


def _figures(event: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Name, unit and value of each metric that a message holds."""
    if "kind" in event:
        yield ALERTS[event["kind"]], "Count", 1.0
        return
    # What schema 1 calls `dropped`, one number, schema 2 counts by what was dropped.
    drops = event.get("drops", event.get("dropped"))
    if isinstance(drops, dict):
        drops = sum(drops.values()) if all(map(_number, drops.values())) else None
    for field, (name, unit) in METRICS.items():
        value = drops if field == "drops" else event.get(field)
        if value is not None and _number(value):
            yield name, unit, float(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _when(event: dict[str, Any]) -> datetime:
    """The device's own time, in UTC. Raises BadTelemetry."""
    time = event.get("time")
    try:
        return datetime.fromisoformat(str(time)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadTelemetry(
            f"telemetry whose time is {time!r}; allowed: ISO 8601 such as 2026-01-31T12:00:00Z"
        ) from error


def _countable(when: datetime) -> bool:
    """CloudWatch takes no datum that is older than two weeks or more than two hours ahead."""
    age = datetime.now(UTC) - when
    return -timedelta(hours=2) < age < timedelta(days=14)
