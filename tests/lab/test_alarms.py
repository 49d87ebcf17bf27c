"""Alarms of the embedded CloudWatch: they change their state with the metrics that arrive."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.cloudwatch.models import CloudWatchBackend

from lab import alarms
from lab.engine import Engine


@pytest.fixture
def cloudwatch(desk: Engine, itself: Callable[..., None]) -> Iterator[Any]:
    itself(CloudWatchBackend)
    alarms.install(desk)
    yield desk.client("cloudwatch")


def alarm(cloudwatch: Any, **more: Any) -> None:
    given = {
        "AlarmName": "a", "Namespace": "n", "MetricName": "m", "Statistic": "Sum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 3.0, "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    }  # fmt: skip
    cloudwatch.put_metric_alarm(**(given | more))


def put(cloudwatch: Any, value: float, ago: float = 0, name: str = "m", **more: Any) -> None:
    when = datetime.now(UTC) - timedelta(seconds=ago)
    cloudwatch.put_metric_data(
        Namespace="n", MetricData=[{"MetricName": name, "Value": value, "Timestamp": when, **more}]
    )


def state(cloudwatch: Any) -> str:
    [found] = cloudwatch.describe_alarms(AlarmNames=["a"])["MetricAlarms"]
    return str(found["StateValue"])


def test_an_alarm_rises_when_the_statistic_of_its_period_crosses_the_threshold(cloudwatch: Any) -> None:
    alarm(cloudwatch)
    put(cloudwatch, 2)
    assert state(cloudwatch) == "OK"
    put(cloudwatch, 1)
    assert state(cloudwatch) == "ALARM"


def test_what_is_older_than_the_periods_or_of_another_thing_does_not_count(cloudwatch: Any) -> None:
    alarm(cloudwatch)
    put(cloudwatch, 9, ago=70)
    put(cloudwatch, 9, name="other")
    put(cloudwatch, 9, Dimensions=[{"Name": "Thing", "Value": "x"}])
    assert state(cloudwatch) == "OK"


def test_every_period_that_is_asked_for_must_breach(cloudwatch: Any) -> None:
    alarm(cloudwatch, EvaluationPeriods=2)
    put(cloudwatch, 5)
    assert state(cloudwatch) == "OK"
    put(cloudwatch, 5, ago=90)
    assert state(cloudwatch) == "ALARM"


def test_an_alarm_is_over_with_the_next_metric_after_its_period(cloudwatch: Any) -> None:
    alarm(cloudwatch)
    cloudwatch.set_alarm_state(AlarmName="a", StateValue="ALARM", StateReason="for the test")
    put(cloudwatch, 1, name="other")
    assert state(cloudwatch) == "OK"


def test_missing_data_say_nothing_unless_they_are_told_to(cloudwatch: Any) -> None:
    silent = {"Statistic": "SampleCount", "ComparisonOperator": "LessThanThreshold", "Threshold": 1.0}
    alarm(cloudwatch, TreatMissingData="missing", **silent)
    put(cloudwatch, 1, name="other")
    assert state(cloudwatch) == "OK"
    alarm(cloudwatch, TreatMissingData="breaching", **silent)
    put(cloudwatch, 1, name="other")
    assert state(cloudwatch) == "ALARM"
    put(cloudwatch, 1)
    assert state(cloudwatch) == "OK"
