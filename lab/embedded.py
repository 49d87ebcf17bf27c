"""Metrics out of log lines, as CloudWatch Logs makes them of its embedded metric format.

Covers: directives with one or several sets of dimensions, units, a number or a list of numbers per metric.
Does not cover: storage resolution; a line that breaks the format makes no metric, as in AWS.

Source: Amazon CloudWatch user guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.engine import Engine

MARK = '"_aws"'
AT_ONCE = 500  # metrics in one PutMetricData


def publish(engine: Engine, lines: Sequence[str]) -> int:
    """Puts every metric that the lines hold; how many."""
    count = 0
    for line in lines:
        for namespace, data in _directives(line):
            for first in range(0, len(data), AT_ONCE):
                part = data[first : first + AT_ONCE]
                engine.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=part)
            count += len(data)
    return count


def _directives(line: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Namespace and metrics of each directive of a line."""
    if MARK not in line:
        return
    try:
        document = json.loads(line)
        about = document["_aws"]
        when = datetime.datetime.fromtimestamp(about["Timestamp"] / 1000.0, datetime.UTC)
        found = [(each["Namespace"], _metrics(document, each, when)) for each in about["CloudWatchMetrics"]]
    except (ValueError, KeyError, TypeError):
        return
    yield from found


def _metrics(document: dict[str, Any], directive: dict[str, Any], when: datetime.datetime) -> list[dict[str, Any]]:
    made = []
    for names in directive["Dimensions"] or [[]]:
        dimensions = [{"Name": name, "Value": str(document[name])} for name in names]
        for metric in directive["Metrics"]:
            value = document[metric["Name"]]
            values = [float(each) for each in (value if isinstance(value, list) else [value])]
            row = {"MetricName": metric["Name"], "Dimensions": dimensions, "Timestamp": when, "Values": values}
            made.append(row | {"Counts": [1.0] * len(values), "Unit": metric.get("Unit", "None")})
    return made
