"""The gate answers and writes down; the flow decides what follows."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.functions import gate
from pipelines.functions.documents import DocumentError

Event = Callable[[str], dict[str, Any]]
REPORT = {
    "schema": 1,
    "run": "run-1",
    "task": "classification",
    "metrics": {
        "test": {"accuracy": 0.97, "log_loss": 0.1},
        "baseline": {"majority": {"accuracy": 0.1}, "logistic_regression": {"accuracy": 0.96}},
        "champion": None,
    },
}
ROW = {"format": "onnx-fp32", "chosen": True, "skipped": None, "p95_ms": 2.0, "agreement": 1.0, "metric_drop": 0.0}
EXPORT = {"schema": 1, "version": "1.0.42", "artifacts": [{**ROW, "target": "cloud-cpu"}]}


@pytest.fixture
def settings(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def settings(thresholds: str) -> None:
        monkeypatch.setenv("GATE", thresholds)
        monkeypatch.setenv("TARGETS", '{"cloud-cpu": {"p95_ms": 5.0}}')
        gate.runtime.cache_clear()

    return settings


def test_a_report_that_meets_every_criterion_passes(event: Event, settings: Any, put: Any, get: Any) -> None:
    settings('{"accuracy": 0.95, "beat_baseline": true}')
    put("runs/run-1/evaluate/report.json", REPORT)
    assert gate.handler(event("gate_quality"), None) == {"passed": True, "reasons": [], "ship": "model"}
    assert get("runs/run-1/gate/decision.json") == {
        "schema": 1,
        "stage": "quality",
        "run": "run-1",
        "thresholds": {"accuracy": 0.95, "beat_baseline": True},
        "passed": True,
        "reasons": [],
        "ship": "model",
    }


def test_a_refusal_names_every_missed_criterion_with_its_figure(
    event: Event, settings: Any, put: Any, get: Any
) -> None:
    settings('{"accuracy": 0.99, "log_loss": 0.0}')
    put("runs/run-1/evaluate/report.json", REPORT)
    answer = gate.handler(event("gate_quality"), None)
    assert not answer["passed"]
    assert len(answer["reasons"]) == 2
    assert any("accuracy" in reason and "0.97" in reason and "0.99" in reason for reason in answer["reasons"])
    assert get("runs/run-1/gate/decision.json")["reasons"] == answer["reasons"]


def test_a_release_is_held_against_its_targets(event: Event, settings: Any, put: Any, get: Any) -> None:
    settings('{"min_agreement": 0.995, "max_metric_drop": 0.01}')
    put("runs/run-1/export/export.json", EXPORT)
    assert gate.handler(event("gate_release"), None)["passed"]
    put("runs/run-1/export/export.json", {**EXPORT, "artifacts": [{**EXPORT["artifacts"][0], "p95_ms": 9.0}]})
    answer = gate.handler(event("gate_release"), None)
    assert "p95_ms" in answer["reasons"][0]
    assert get("runs/run-1/gate/release.json")["passed"] is False


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read"), (b"{", "is not JSON"), (b"[]", "holds a list, not a JSON object")],
)
def test_a_report_that_is_missing_or_broken_is_an_error_with_its_name(
    event: Event, settings: Any, put: Any, content: bytes | None, says: str
) -> None:
    settings("{}")
    if content is not None:
        put("runs/run-1/evaluate/report.json", content)
    with pytest.raises(DocumentError, match=rf"s3://lake/runs/run-1/evaluate/report\.json {says}"):
        gate.handler(event("gate_quality"), None)


def test_an_unknown_stage_is_refused_by_name(event: Event, settings: Any) -> None:
    settings("{}")
    with pytest.raises(gate.GateError, match="'beauty' is unknown; allowed: quality, release"):
        gate.handler({**event("gate_quality"), "stage": "beauty"}, None)
