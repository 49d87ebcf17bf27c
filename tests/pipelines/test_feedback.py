"""Telemetry and alerts become one object and metrics, once."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from pipelines.functions import feedback

Event = Callable[[str], dict[str, Any]]


@pytest.fixture
def message(event: Event) -> dict[str, Any]:
    return {**event("telemetry"), "time": datetime.now(UTC).isoformat()}


@pytest.fixture(autouse=True)
def environment(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "lake")
    monkeypatch.setenv("NAMESPACE", "ml-lab-dev/Edge")
    feedback.runtime.cache_clear()


def metrics() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = boto3.client("cloudwatch").list_metrics(Namespace="ml-lab-dev/Edge")["Metrics"]
    return found


def test_a_message_is_kept_under_thing_day_and_id(message: dict[str, Any], s3: Any) -> None:
    answer = feedback.handler(message, None)
    day = datetime.now(UTC).date().isoformat()
    assert answer == {"key": f"telemetry/ml-lab-dev-desk-1/{day}/{message['id']}.json", "new": True}
    assert json.loads(s3.get_object(Bucket="lake", Key=answer["key"])["Body"].read()) == message


def test_a_message_becomes_metrics_of_the_fleet_and_of_the_device(message: dict[str, Any]) -> None:
    feedback.handler(message, None)
    assert {found["MetricName"] for found in metrics()} == {
        "Inferences", "InferenceErrors", "CorruptInputs", "OverBudget", "Drops", "LatencyP95", "Confidence",
        "DriftPsi", "DriftKs",
    }  # fmt: skip
    drift = [found["Dimensions"] for found in metrics() if found["MetricName"] == "DriftPsi"]
    assert sorted(map(len, drift)) == [0, 1]


def test_a_message_that_comes_twice_counts_once(message: dict[str, Any]) -> None:
    assert feedback.handler(message, None)["new"]
    assert not feedback.handler(message, None)["new"]
    assert total("Inferences", message["thing"]) == 60


def total(metric: str, thing: str) -> float:
    now = datetime.now(UTC)
    sums = boto3.client("cloudwatch").get_metric_statistics(
        Namespace="ml-lab-dev/Edge",
        MetricName=metric,
        Dimensions=[{"Name": "Thing", "Value": thing}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=7200,
        Statistics=["Sum"],
    )
    return sum(point["Sum"] for point in sums["Datapoints"])


def test_drops_count_together_whatever_was_dropped(message: dict[str, Any], event: Event) -> None:
    feedback.handler(message, None)
    assert total("Drops", message["thing"]) == 3
    older = {**event("telemetry_schema1"), "id": "another", "time": message["time"]}
    feedback.handler(older, None)
    assert total("Drops", message["thing"]) == 7


def test_figures_that_the_device_could_not_measure_are_left_out(message: dict[str, Any]) -> None:
    lacks = dict.fromkeys(("psi", "ks", "p95_ms", "confidence_mean", "over_budget", "corrupt", "drops"))
    feedback.handler({**message, **lacks}, None)
    assert {found["MetricName"] for found in metrics()} == {"Inferences", "InferenceErrors"}


def test_an_alert_lies_beside_the_telemetry_and_counts_by_its_kind(event: Event, s3: Any) -> None:
    alert = {**event("alert"), "time": datetime.now(UTC).isoformat()}
    answer = feedback.handler(alert, None)
    day = datetime.now(UTC).date().isoformat()
    assert answer == {"key": f"telemetry/ml-lab-dev-desk-1/{day}/alert-{alert['id']}.json", "new": True}
    assert json.loads(s3.get_object(Bucket="lake", Key=answer["key"])["Body"].read()) == alert
    assert not feedback.handler(alert, None)["new"]
    assert total("Rejections", alert["thing"]) == 1
    assert {found["MetricName"] for found in metrics()} == {"Rejections"}


def test_a_message_that_was_kept_for_weeks_is_stored_and_not_counted(event: Event) -> None:
    old = {**event("telemetry"), "time": "2020-01-01T00:00:00+00:00"}
    assert feedback.handler(old, None)["new"]
    assert metrics() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 3}, "schema 3"),
        ({"kind": "celebration"}, "kind 'celebration'; allowed: swap, reject"),
        ({"schema": None}, "schema None"),
        ({"id": "../../raw/digits/_manifest"}, "id is"),
        ({"thing": ""}, "thing is"),
        ({"thing": "ml-lab-dev-desk-2"}, "on the topic of 'ml-lab-dev-desk-1'"),
        ({"time": "yesterday"}, "time is 'yesterday'"),
        ({"time": None}, "time is None"),
    ],
)
def test_what_is_not_telemetry_is_refused_by_name(
    message: dict[str, Any], s3: Any, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(feedback.BadTelemetry, match=says):
        feedback.handler({**message, **change}, None)
    assert "Contents" not in s3.list_objects_v2(Bucket="lake")
