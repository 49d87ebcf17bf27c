"""What a run's row says after it did not reach its aim."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.functions import failure

Event = Callable[[str], dict[str, Any]]


@pytest.fixture(autouse=True)
def environment(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABLE", "ml-lab-dev-runs")
    failure.runtime.cache_clear()


def test_a_failed_job_leaves_failed_and_the_sentence_that_matters(event: Event, claim: Any, row: Any) -> None:
    claim()
    answer = failure.handler(event("failure_job"), None)
    assert answer["cause"] == "DataRefused: 12 of 100 images are corrupt"
    assert answer["recorded"]
    assert row()["status"] == "FAILED"
    assert row()["cause"] == "States.TaskFailed: DataRefused: 12 of 100 images are corrupt"


def test_a_gate_that_said_no_leaves_refused_with_its_reasons(event: Event, claim: Any, row: Any) -> None:
    claim()
    answer = failure.handler(event("failure_refused"), None)
    assert answer["error"] == "GateRefused"
    assert row()["status"] == "REFUSED"
    assert "accuracy 0.912 is below 0.95; log_loss 0.4 is above 0.3" in row()["cause"]


def test_a_failed_release_is_found_through_its_package(event: Event, package: Any, claim: Any, row: Any) -> None:
    claim(status="PENDING_APPROVAL")
    answer = failure.handler({**event("failure_release"), "model_package": package()}, None)
    assert answer["recorded"]
    assert row()["status"] == "FAILED"
    assert "canary" in row()["cause"]


def test_a_failed_release_is_found_through_its_package_where_another_run_took_the_row(
    event: Event, package: Any, claim: Any, row: Any
) -> None:
    arn = package()
    claim(run="run-2", model_package=arn)
    assert failure.handler({**event("failure_release"), "model_package": arn}, None)["recorded"]
    assert row()["status"] == "FAILED"


def test_a_run_never_marks_a_row_that_another_run_holds(event: Event, claim: Any, row: Any) -> None:
    claim(run="run-2")
    assert not failure.handler(event("failure_job"), None)["recorded"]
    assert row()["status"] == "RUNNING"


def test_without_a_claim_there_is_nothing_to_mark(event: Event, row: Any) -> None:
    answer = failure.handler({**event("failure_job"), "claim": ""}, None)
    assert not answer["recorded"]
    assert row() == {}


def test_a_package_that_the_flow_did_not_register_leaves_the_table_alone(event: Event, package: Any) -> None:
    arn = package(run="run-9")
    assert not failure.handler({**event("failure_release"), "model_package": arn}, None)["recorded"]


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        ('{"errorMessage": "no such key", "errorType": "DocumentError"}', "no such key"),
        ('{"FailureReason": "AlgorithmError: loss is nan"}', "AlgorithmError: loss is nan"),
        ('{"other": 1}', '{"other": 1}'),
        ("plain words", "plain words"),
        ("", ""),
        ("x" * 9000, "x" * 2000),
    ],
)
def test_a_cause_is_cut_to_what_a_person_reads(cause: str, says: str) -> None:
    assert failure.sentence(cause) == says
