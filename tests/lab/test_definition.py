"""What a state machine may ask for, read from its definition before anything runs."""

from typing import Any

import pytest

from lab.definition import covered, of_resource, refusals, refusals_of_machines


def machine(**states: Any) -> dict[str, Any]:
    return {"StartAt": next(iter(states)), "States": states}


def task(resource: str) -> dict[str, Any]:
    return {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "End": True}


@pytest.mark.parametrize("resource", ["glue:startJobRun.sync", "aws-sdk:s3:headObject", "lambda:invoke"])
def test_tasks_that_the_desk_runs_are_covered(resource: str) -> None:
    assert refusals(machine(A=task(resource))) == []


def test_a_function_called_by_its_arn_is_covered() -> None:
    assert covered("arn:aws:lambda:us-east-1:123456789012:function:f")


@pytest.mark.parametrize(
    "resource",
    [
        "sagemaker:createLabelingJob.sync",
        "ecs:runTask.sync",
        "aws-sdk:s3:putBucketAcl",
        "lambda:invoke.waitForTaskToken",
    ],
)
def test_a_task_that_the_desk_does_not_run_is_refused_by_name(resource: str) -> None:
    assert refusals(machine(A=task(resource))) == [f"state A: the task arn:aws:states:::{resource} is not covered"]


def test_what_is_inside_of_branches_and_maps_is_checked_too() -> None:
    inner = machine(Deep=task("batch:submitJob.sync"))
    whole = machine(
        P={"Type": "Parallel", "Branches": [inner]},
        M={"Type": "Map", "ItemProcessor": {"ProcessorConfig": {"Mode": "DISTRIBUTED"}, **inner}},
    )
    said = "the task arn:aws:states:::batch:submitJob.sync is not covered"
    assert refusals(whole) == [
        f"state P.Deep: {said}",
        "state M: a distributed map is not covered",
        f"state M.Deep: {said}",
    ]


def test_jsonata_is_refused_for_a_machine_and_for_a_state() -> None:
    assert "JSONata" in refusals({"QueryLanguage": "JSONata", **machine(A={"Type": "Succeed"})})[0]
    assert "state A" in refusals(machine(A={"Type": "Pass", "QueryLanguage": "JSONata", "End": True}))[0]


def test_references_in_an_inline_definition_do_not_hide_its_tasks() -> None:
    text = ['{"StartAt":"A","States":{"A":{"Type":"Task","End":true,"Resource":"', {"Fn::GetAtt": ["F", "Arn"]}, '"}}}']
    properties = {"DefinitionString": {"Fn::Join": ["", text]}}
    assert refusals(of_resource(properties)) == []


def test_a_definition_that_cannot_be_read_is_refused_with_its_logical_id() -> None:
    resource = {"Type": "AWS::StepFunctions::StateMachine", "Properties": {"DefinitionS3Location": {}}}
    [said] = refusals_of_machines({"Resources": {"Flow": resource}})
    assert said.startswith("resource Flow: its definition cannot be read")
