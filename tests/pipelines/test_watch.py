"""Drift of the fleet from the messages of its devices, and of what models were asked."""

import base64
import json
from datetime import date, timedelta
from typing import Any

import boto3
import pytest

from models.contract import SCHEMA, Column, Contract
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


@pytest.fixture
def asked(put: Any, tmp_path: Any) -> Any:
    """A contract with one column, numbers from 0 to 9 each as often; puts requests and samples of numbers."""
    edges = [number - 0.5 for number in range(11)]
    contract = Contract(
        schema=SCHEMA,
        dataset="rows",
        modality="tabular",
        task="classification",
        shape=(1,),
        classes=("a", "b"),
        mean=(4.5,),
        std=(3.0,),
        counts={"train": {"a": 500, "b": 500}},
        profile={"size": {"edges": edges, "shares": [0.1] * 10}},
        columns=(Column(name="size"),),
    )
    contract.save(tmp_path / "contract.json")
    put("contract.json", (tmp_path / "contract.json").read_bytes())

    class Asked:
        def endpoint(self, numbers: list[int], day: date = TODAY) -> None:
            body = "size\n" + "\n".join(map(str, numbers))
            forms = (("CSV", body), ("BASE64", base64.b64encode(body.encode()).decode()))
            lines = [
                json.dumps(
                    {"captureData": {"endpointInput": {
                        "observedContentType": "text/csv", "mode": "INPUT", "data": data, "encoding": encoding,
                    }}}
                )
                for encoding, data in forms
            ]  # fmt: skip
            put(f"capture/e/live/{day:%Y/%m/%d}/12/00-00-000-x.jsonl", "\n".join([*lines, "{"]).encode())

        def device(self, numbers: list[int], why: str) -> None:
            for at, number in enumerate(numbers):
                stem = f"raw/rows-device/a/{TODAY}/{why}{at}"
                put(f"{stem}.json", {"why": why})
                put(f"{stem}.csv", f"size\n{number}\n".encode())

    return Asked()


def test_what_the_endpoint_was_asked_is_judged_and_raises_the_alarm_s_metric(
    asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.endpoint([9] * 100)
    found = summary(capsys, "--contract", "contract.json", "--namespace", "ml-lab-dev/Edge")["endpoint"]
    assert (found["alarm"], found["samples"], found["features"][0]["name"]) == (True, 200, "size")
    metrics = boto3.client("cloudwatch").list_metrics(Namespace="ml-lab-dev/Edge")["Metrics"]
    assert [metric["MetricName"] for metric in metrics] == ["DriftAlerts"]


def test_requests_like_the_training_data_raise_nothing(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    asked.endpoint([*range(10)] * 10)
    found = summary(capsys, "--contract", "contract.json", "--namespace", "ml-lab-dev/Edge")
    assert (found["endpoint"]["alarm"], found["endpoint"]["psi"]) == (False, 0.0)
    assert boto3.client("cloudwatch").list_metrics(Namespace="ml-lab-dev/Edge")["Metrics"] == []


def test_requests_of_other_days_do_not_count(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    asked.endpoint([9] * 100, TODAY - timedelta(days=2))
    assert "endpoint" not in summary(capsys, "--contract", "contract.json")


def test_of_a_device_s_samples_those_taken_at_random_count(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    asked.device([9] * 60, "uncertain")
    assert "devices" not in summary(capsys, "--contract", "contract.json")
    asked.device([9] * 40, "random")
    found = summary(capsys, "--contract", "contract.json")["devices"]
    assert (found["samples"], found["alarm"]) == (40, True)


def test_alerts_beside_the_telemetry_are_no_messages(
    telemetry: Any, put: Any, event: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry("1", count=30, psi=0.3)
    put(f"telemetry/a/{TODAY}/alert-1.json", event("alert"))
    assert summary(capsys)["messages"] == 1
