"""Drift of the fleet from the messages of its devices."""

import json
from datetime import date, timedelta
from typing import Any

import boto3
import pytest

from pipelines.jobs import watch

TODAY = date(2026, 3, 1)


@pytest.fixture
def telemetry(put: Any, event: Any) -> Any:
    def telemetry(id: str, thing: str = "a", days_ago: int = 0, **figures: Any) -> None:
        key = f"telemetry/{thing}/{TODAY - timedelta(days=days_ago)}/{id}.json"
        put(key, {**event("telemetry"), "id": id, "thing": thing, **figures})

    return telemetry


def summary(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert watch.main(["--bucket", "lake", "--today", str(TODAY), *argv]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_fleet_s_index_is_the_mean_over_samples(telemetry: Any, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry("1", "a", count=30, psi=0.1)
    telemetry("2", "b", count=10, psi=0.5)
    telemetry("3", "b", count=0, psi=None)
    found = summary(capsys)
    assert found["psi"] == pytest.approx(0.2)
    assert found["by_thing"] == {"a": pytest.approx(0.1), "b": pytest.approx(0.5)}
    assert (found["messages"], found["samples"]) == (3, 40)


def test_the_index_becomes_the_metric_that_the_alarm_watches(
    telemetry: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry("1", count=30, psi=0.4)
    summary(capsys, "--namespace", "ml-lab-dev/Edge")
    found = boto3.client("cloudwatch").list_metrics(Namespace="ml-lab-dev/Edge")["Metrics"]
    assert [(metric["MetricName"], metric["Dimensions"]) for metric in found] == [("DriftPsi", [])]


def test_without_a_figure_no_metric_is_put(telemetry: Any, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry("1", count=30, psi=None)
    assert summary(capsys, "--namespace", "ml-lab-dev/Edge")["psi"] is None
    assert boto3.client("cloudwatch").list_metrics(Namespace="ml-lab-dev/Edge")["Metrics"] == []


def test_days_before_the_window_do_not_count(telemetry: Any, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry("1", days_ago=2, count=30, psi=0.9)
    telemetry("2", days_ago=1, count=30, psi=0.3)
    assert summary(capsys)["messages"] == 0
    assert summary(capsys, "--days", "2")["psi"] == pytest.approx(0.3)


def test_a_message_that_is_not_json_is_left_out(telemetry: Any, put: Any, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry("1", count=30, psi=0.3)
    put(f"telemetry/a/{TODAY}/broken.json", b"{")
    assert summary(capsys)["messages"] == 1


def test_a_bucket_or_a_folder_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        watch.main([])
    assert "one of --bucket and --root is needed" in capsys.readouterr().err
