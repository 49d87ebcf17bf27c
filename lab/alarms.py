"""CloudWatch alarms are evaluated whenever a metric arrives: their state changes, and the event of it is sent.

Covers: alarms on one metric with a statistic, periods, datapoints to alarm, comparison, missing data.
Does not cover: metric math, percentiles, anomaly detection, composite alarms, actions. No clock runs: a state changes
    with the next metric of any name, and nothing becomes INSUFFICIENT_DATA by waiting.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.cloudwatch.models import Alarm, CloudWatchBackend

STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Sum": sum,
    "Average": lambda values: sum(values) / len(values),
    "Minimum": min,
    "Maximum": max,
    "SampleCount": len,
}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, limit: value >= limit,
    "GreaterThanThreshold": lambda value, limit: value > limit,
    "LessThanOrEqualToThreshold": lambda value, limit: value <= limit,
    "LessThanThreshold": lambda value, limit: value < limit,
}


def install(_engine: object) -> None:
    """Evaluates every alarm after each PutMetricData."""
    stock = getattr(CloudWatchBackend.put_metric_data, "__wrapped__", CloudWatchBackend.put_metric_data)

    @functools.wraps(stock)
    def put(self: CloudWatchBackend, namespace: str, metric_data: list[dict[str, Any]]) -> None:
        stock(self, namespace, metric_data)
        now = datetime.now(UTC)
        for alarm in list(self.alarms.values()):
            _update(self, alarm, now)

    CloudWatchBackend.put_metric_data = put


def _update(backend: CloudWatchBackend, alarm: Alarm, now: datetime) -> None:
    state = evaluated(alarm, backend.metric_data, now)
    if state is not None and state[0] != alarm.state_value:
        backend.set_alarm_state(alarm.name, state[1], "{}", state[0])


def evaluated(alarm: Alarm, data: Sequence[Any], now: datetime) -> tuple[str, str] | None:
    """State and reason; None when nothing says otherwise, or the alarm is of a kind that is not evaluated here."""
    if alarm.statistic not in STATISTICS or alarm.comparison_operator not in COMPARISONS or not alarm.metric_name:
        return None
    points = _points(alarm, data, now)
    if not any(point is not None for point in points) and alarm.treat_missing_data in (None, "missing", "ignore"):
        return None
    breaching = [_breaches(alarm, point) for point in points]
    needed = int(alarm.datapoints_to_alarm or alarm.evaluation_periods)
    count = sum(one is True for one in breaching)
    shown = ", ".join("none" if point is None else f"{point:g}" for point in points)
    reason = f"Threshold Crossed: {count} of {len(points)} datapoints ({shown}) against {alarm.threshold:g}."
    return ("ALARM" if count >= needed else "OK", reason)


def _breaches(alarm: Alarm, point: float | None) -> bool:
    if point is None:
        return str(alarm.treat_missing_data) == "breaching"
    return COMPARISONS[alarm.comparison_operator](point, float(alarm.threshold))


def _points(alarm: Alarm, data: Sequence[Any], now: datetime) -> list[float | None]:
    """The statistic of each of the last periods, the newest first; None for one without data."""
    wanted = {(one.name, one.value) for one in alarm.dimensions}
    values: list[list[float]] = [[] for _ in range(int(alarm.evaluation_periods))]
    for datum in data:
        if (datum.namespace, datum.name) != (alarm.namespace, alarm.metric_name) or not hasattr(datum, "value"):
            continue
        if {(one.name, one.value) for one in datum.dimensions} != wanted:
            continue
        age = (now - _aware(datum.timestamp)).total_seconds()
        place = int(max(0.0, age) // int(alarm.period))
        if place < len(values):
            values[place].append(float(datum.value))
    return [STATISTICS[alarm.statistic](found) if found else None for found in values]


def _aware(moment: str | datetime) -> datetime:
    when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return when if when.tzinfo else when.replace(tzinfo=UTC)
