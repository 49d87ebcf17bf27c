"""The questions before a deployment: each answered, failed with a mend, or named as one that could not be asked."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lab import preflight
from lab.assembly import Assembly
from lab.cloud import Cloud
from lab.doctor import Finding

ACCOUNT = "111122223333"
JOB = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}


def refused(code: str, operation: str = "X", status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)


class Answers:
    """An account: answers by service and operation. An exception is raised, a function called."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def client(self, service: str) -> Any:
        return Client(self, service.replace("-", "_"))


class Client:
    def __init__(self, account: Answers, service: str) -> None:
        self._account, self._service = account, service

    def can_paginate(self, operation: str) -> bool:
        return False

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**given: Any) -> Any:
            answer = self._account.answers.get(f"{self._service}_{operation}", {})
            if isinstance(answer, Exception):
                raise answer
            return answer(**given) if callable(answer) else answer

        return call


def machine(**states: Any) -> dict[str, Any]:
    given = {"StateMachineName": "ml-lab-dev-flow", "DefinitionString": json.dumps({"States": states})}
    return {"Type": "AWS::StepFunctions::StateMachine", "Properties": given}


def task(action: str, **parameters: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": f"arn:aws:states:::sagemaker:{action}", "Parameters": parameters}


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, Finding]]]:
    """Every finding by its name, for an account with these answers."""
    artifacts = {"ml-lab-dev": {"properties": {"requiresBootstrapStackVersion": 6}}}
    (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": artifacts}))
    monkeypatch.setenv("PATH", str(tmp_path))  # no cdk there
    name = {"Fn::Join": ["", ["ml-lab-dev-data-", {"Ref": "AWS::AccountId"}]]}
    resources = {
        "Flow": machine(Train=task("createTrainingJob.sync", ResourceConfig=JOB)),
        "Data": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": name}},
    }

    def run(lab: dict[str, Any] | None = None, **answers: Any) -> dict[str, Finding]:
        settings = {"stack": "ml-lab-dev", "prefix": "ml-lab-dev", "settings": {"lab": lab or {}}}
        assembly = Assembly(tmp_path, settings, {"Resources": resources}, {"files": {}, "dockerImages": {}})
        defaults: dict[str, Any] = {
            "cloudformation_describe_stacks": lambda **given: _stacks(given),
            "ec2_describe_regions": {"Regions": [{"RegionName": "us-east-1", "OptInStatus": "opt-in-not-required"}]},
            "ssm_get_parameter": {"Parameter": {"Value": "30"}},
            "service_quotas_list_service_quotas": {"Quotas": []},
            "service_quotas_list_aws_default_service_quotas": _quota(5.0),
            "s3_head_bucket": refused("404", status=404),
        }
        account = Answers(**{**defaults, **answers})
        cloud = Cloud("us-east-1", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/me")
        monkeypatch.setattr(Cloud, "client", lambda self, service: account.client(service))
        return {one.name: one for one in preflight.findings(cloud, assembly)}

    yield run


def _stacks(given: dict[str, Any]) -> dict[str, Any]:
    if given:
        raise ClientError(
            {"Error": {"Code": "ValidationError", "Message": "Stack with id ml-lab-dev does not exist"}},
            "DescribeStacks",
        )
    return {"Stacks": []}


def _quota(value: float) -> dict[str, Any]:
    name = "ml.m5.xlarge for training job usage"
    return {"Quotas": [{"QuotaName": name, "QuotaCode": "L-1234", "Value": value}]}


def test_an_account_that_is_ready_has_no_finding_that_fails(ask: Any) -> None:
    found = ask()
    assert {one.state for one in found.values()} == {"ok"}, found
    assert ACCOUNT in found["credentials"].detail and "training job usage: 5" in found["quotas"].detail


def test_credentials_of_another_account_than_lab_toml_names_fail(ask: Any) -> None:
    found = ask(lab={"account": "999988887777"})["credentials"]
    assert found.state == "fail" and "999988887777" in found.detail and "AWS_PROFILE" in str(found.mend)


def test_a_region_that_is_not_enabled_fails_with_the_command_that_enables_it(ask: Any) -> None:
    off = {"Regions": [{"RegionName": "us-east-1", "OptInStatus": "not-opted-in"}]}
    found = ask(ec2_describe_regions=off)["region"]
    assert found.state == "fail" and "enable-region" in str(found.mend)


@pytest.mark.parametrize("answer", [{"Parameter": {"Value": "5"}}, refused("ParameterNotFound")])
def test_a_bootstrap_that_is_missing_or_too_old_fails_with_the_pinned_command_line(ask: Any, answer: Any) -> None:
    found = ask(ssm_get_parameter=answer)["bootstrap"]
    assert found.state == "fail"
    assert found.mend == f"npx {preflight.CDK} bootstrap aws://{ACCOUNT}/us-east-1"


def test_a_quota_that_is_too_small_fails_with_the_request_for_more(ask: Any) -> None:
    found = ask(service_quotas_list_service_quotas=_quota(1.0))["quotas"]
    assert found.state == "fail" and "1, 2 are needed" in found.detail
    assert "--quota-code L-1234 --desired-value 2" in str(found.mend)


def test_an_instance_without_a_quota_of_that_name_is_a_warning(ask: Any) -> None:
    found = ask(service_quotas_list_aws_default_service_quotas={"Quotas": []})["quotas"]
    assert found.state == "warn" and "ml.m5.xlarge for training job usage" in found.detail


def test_a_service_that_does_not_answer_is_named_as_not_asked(ask: Any) -> None:
    found = ask(service_quotas_list_aws_default_service_quotas=refused("AccessDeniedException"))["quotas"]
    assert found.state == "skip" and "AccessDeniedException" in found.detail


def test_a_name_that_something_bears_already_fails_before_the_stack_does(ask: Any) -> None:
    bucket = {"Buckets": [{"Name": f"ml-lab-dev-data-{ACCOUNT}"}, {"Name": "ml-lab-dev-of-no-template"}]}
    found = ask(s3_list_buckets=bucket)["names"]
    assert found.state == "fail" and f"S3 bucket ml-lab-dev-data-{ACCOUNT}" in found.detail
    assert "of-no-template" not in found.detail and "lab destroy" in str(found.mend)


def test_a_bucket_that_another_account_has_fails_too(ask: Any) -> None:
    found = ask(s3_head_bucket=refused("403", status=403))["names"]
    assert found.state == "fail" and "another account's" in found.detail


def test_a_stack_that_cannot_be_changed_says_what_gets_it_out(ask: Any) -> None:
    there = {"Stacks": [{"StackName": "ml-lab-dev", "StackStatus": "UPDATE_ROLLBACK_FAILED"}]}
    found = ask(cloudformation_describe_stacks=there)["stack"]
    assert found.state == "fail" and "continue-update-rollback" in str(found.mend)


def test_a_command_line_of_another_version_is_a_warning(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "cdk").write_text("#!/bin/sh\necho '3.0.0 (build 1)'\n")
    (tmp_path / "cdk").chmod(0o755)
    found = ask()["cdk"]
    assert found.state == "warn" and "3.0.0" in found.detail and preflight.CDK in str(found.mend)


def test_the_instances_of_every_job_and_of_the_endpoint_count_against_their_own_quotas() -> None:
    cluster = {"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1}}
    states = {
        "Train": task("createTrainingJob.sync", ResourceConfig=JOB, EnableManagedSpotTraining=True),
        "Evaluate": task("createProcessingJob.sync", ProcessingResources=cluster),
        "Config": task("createEndpointConfig", ProductionVariants=[{"InstanceType": "ml.g5.xlarge"}]),
        "Serverless": task("createEndpointConfig", ProductionVariants=[{"ServerlessConfig": {}}]),
    }
    assert preflight.instances({"Resources": {"Flow": machine(**states)}}) == {
        "ml.m5.xlarge for spot training job usage": 2,
        "ml.m5.large for processing job usage": 1,
        "ml.g5.xlarge for endpoint usage": 1,
    }
