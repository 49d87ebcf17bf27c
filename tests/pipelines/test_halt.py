"""The month's budget is spent: the endpoint goes, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.functions import halt

Event = Callable[[str], dict[str, Any]]
NAME = "ml-lab-dev-endpoint"


@pytest.fixture(autouse=True)
def environment(sagemaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDPOINT_NAME", NAME)
    halt.runtime.cache_clear()


@pytest.fixture
def endpoint(sagemaker: Any) -> None:
    role = "arn:aws:iam::123456789012:role/serve"
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer={"Image": "serve:1"})
    variant = {"VariantName": "live", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName="c")


def test_the_endpoint_is_deleted_and_what_brings_it_back_stays(sagemaker: Any, event: Event, endpoint: None) -> None:
    assert halt.handler(event("budget_spent"), None) == {"endpoint": NAME, "deleted": True}
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert len(sagemaker.list_models()["Models"]) == len(sagemaker.list_endpoint_configs()["EndpointConfigs"]) == 1


def test_a_second_notification_finds_nothing_to_do(event: Event, endpoint: None) -> None:
    halt.handler(event("budget_spent"), None)
    assert halt.handler(event("budget_spent"), None) == {"endpoint": NAME, "deleted": False}


class Standing:
    """An endpoint in one state; counts what is deleted."""

    def __init__(self, status: str) -> None:
        self.status, self.deleted = status, 0

    def describe_endpoint(self, *, EndpointName: str) -> dict[str, str]:
        return {"EndpointStatus": self.status}

    def delete_endpoint(self, *, EndpointName: str) -> None:
        self.deleted += 1


@pytest.mark.parametrize("status", sorted(halt.IN_BETWEEN))
def test_an_endpoint_on_its_way_is_an_error_so_that_lambda_calls_again(status: str) -> None:
    standing = Standing(status)
    with pytest.raises(halt.EndpointBusy, match=status):
        halt.halt(halt.Runtime(endpoint=NAME, sagemaker=standing))
    assert standing.deleted == 0


@pytest.mark.parametrize(("status", "deleted"), [("InService", 1), ("Failed", 1), ("OutOfService", 1), ("Deleting", 0)])
def test_whatever_bills_is_deleted_once(status: str, deleted: int) -> None:
    standing = Standing(status)
    assert halt.halt(halt.Runtime(endpoint=NAME, sagemaker=standing))["deleted"]
    assert standing.deleted == deleted
