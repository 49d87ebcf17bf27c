"""Histories become rows: from the interpreter's own events, and from recorded ones for what only AWS services do."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.core.config import default_user_config

from lab import history
from lab.engine import Engine

ROLE = "arn:aws:iam::123456789012:role/flow"
LOOK = {
    "Type": "Task",
    "Resource": "arn:aws:states:::aws-sdk:s3:headObject",
    "Parameters": {"Bucket": "no-such-bucket", "Key": "k"},
    "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "After"}],
    "End": True,
}


@pytest.fixture
def interpreter(desk: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The desk with moto's interpreter switched on, calling this desk's services."""
    monkeypatch.setitem(default_user_config["stepfunctions"], "execute_state_machine", True)
    monkeypatch.setenv("MOTO_PORT", desk.endpoint.rpartition(":")[2])
    monkeypatch.setenv("AWS_ENDPOINT_URL", desk.endpoint)
    return desk


def execute(desk: Engine, definition: dict[str, Any]) -> list[history.State]:
    """Runs a definition on the interpreter and reads its history."""
    client = desk.client("stepfunctions")
    machine = client.create_state_machine(name="flow", definition=json.dumps(definition), roleArn=ROLE)
    arn = client.start_execution(stateMachineArn=machine["stateMachineArn"], name="run-1", input="{}")["executionArn"]
    deadline = time.monotonic() + 20
    while client.describe_execution(executionArn=arn)["status"] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return history.states_of(history.events_of(client, arn), "flow")


def test_a_caught_error_that_the_flow_goes_on_from_is_no_failure(interpreter: Engine) -> None:
    states = execute(interpreter, {"StartAt": "Look", "States": {"Look": LOOK, "After": {"Type": "Pass", "End": True}}})
    look, after = states
    assert (look.name, look.resource, look.status) == ("Look", "aws-sdk:s3:headObject", "SUCCEEDED")
    assert look.caught and look.error is None
    assert (after.resource, after.status) == ("pass", "SUCCEEDED")
    assert abs(look.start - time.time()) < 60, "the clock of the history is UTC"
    assert history.root_cause(states) is None


def test_the_state_that_ended_the_flow_is_the_root_cause(interpreter: Engine) -> None:
    fail = {"Type": "Fail", "Error": "Broken", "Cause": "on purpose"}
    states = execute(interpreter, {"StartAt": "Look", "States": {"Look": LOOK, "After": fail}})
    cause = history.root_cause(states)
    assert cause is not None and (cause.name, cause.status) == ("Look", "FAILED")
    assert states[1].status == "FAILED" and states[1].error == "Broken"


def events(*rows: tuple[float, str, dict[str, Any]]) -> list[dict[str, Any]]:
    zero = datetime(2026, 1, 1, tzinfo=UTC)
    return [{"timestamp": zero + timedelta(seconds=at), "type": kind, **details} for at, kind, details in rows]


def entered(name: str) -> dict[str, Any]:
    return {"stateEnteredEventDetails": {"name": name}}


def test_a_polling_loop_is_one_row_per_state_with_the_sum_of_its_seconds() -> None:
    loop: list[tuple[float, str, dict[str, Any]]] = []
    for turn in range(3):
        loop += [(turn * 4, "TaskStateEntered", entered("Describe")), (turn * 4 + 1, "TaskStateExited", {})]
        loop += [(turn * 4 + 1, "WaitStateEntered", entered("Wait")), (turn * 4 + 4, "WaitStateExited", {})]
    states = history.states_of(events(*loop, (12, "ExecutionSucceeded", {})), "release")
    assert [(state.name, state.visits, state.seconds) for state in states] == [("Describe", 3, 3.0), ("Wait", 3, 9.0)]


def test_a_running_state_has_no_end_yet_and_names_the_job_it_started() -> None:
    scheduled = {
        "resourceType": "sagemaker",
        "resource": "createTrainingJob.sync",
        "parameters": '{"TrainingJobName": "run-1-train"}',
    }
    rows = events(
        (0, "TaskStateEntered", entered("Train")), (1, "TaskScheduled", {"taskScheduledEventDetails": scheduled})
    )
    [state] = history.states_of(rows, "flow")
    assert state.status == "RUNNING" and state.resource == "sagemaker:createTrainingJob.sync"
    assert state.parameters["TrainingJobName"] == "run-1-train"


def test_a_retried_task_that_then_works_has_no_error() -> None:
    scheduled = {"resourceType": "lambda", "resource": "invoke", "parameters": "{}"}
    states = history.states_of(
        events(
            (0, "TaskStateEntered", entered("Gate")),
            (0, "TaskScheduled", {"taskScheduledEventDetails": scheduled}),
            (1, "TaskFailed", {"taskFailedEventDetails": {"error": "Throttled", "cause": "slow down"}}),
            (2, "TaskScheduled", {"taskScheduledEventDetails": scheduled}),
            (3, "TaskSucceeded", {}),
            (3, "TaskStateExited", {}),
            (3, "ExecutionSucceeded", {}),
        ),
        "flow",
    )
    assert states[0].status == "SUCCEEDED" and states[0].caught is None


def test_the_log_of_a_state_without_a_job_is_what_the_history_says_of_it() -> None:
    [state] = history.states_of(
        events((0, "ChoiceStateEntered", entered("GatePassed")), (0, "ChoiceStateExited", {})), "flow"
    )
    lines = list(history.text_of(state))
    assert len(lines) == 2 and "ChoiceStateEntered" in lines[0] and "GatePassed" in lines[0]


def test_a_refusal_is_no_failure_of_what_was_caught_before_it(interpreter: Engine) -> None:
    fail = {"Type": "Fail", "Error": "GateRefused", "Cause": "accuracy"}
    states = execute(interpreter, {"StartAt": "Look", "States": {"Look": LOOK, "After": fail}})
    assert (states[0].status, states[0].error) == ("SUCCEEDED", None)
    assert states[0].caught
