"""What stands while nothing runs: each type by its rule, and none left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from lab import prices, standing
from lab.standing import Row

HOURS = standing.HOURS_A_MONTH


def rows(**resources: Any) -> list[Row]:
    return standing.rows({"Resources": resources}, prices.load())


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def machine(**states: Any) -> dict[str, Any]:
    return resource("AWS::StepFunctions::StateMachine", DefinitionString=json.dumps({"States": states}))


def config(**variant: Any) -> dict[str, Any]:
    task = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:sagemaker:createEndpointConfig"}
    return {**task, "Parameters": {"ProductionVariants": [variant]}}


def test_every_type_of_the_labs_own_template_has_a_rule_and_nothing_in_it_bills_by_the_hour(synthesized: Path) -> None:
    template = json.loads(next(synthesized.glob("*.template.json")).read_text())
    found = standing.rows(template, prices.load())
    assert [row.what for row in found if row.month_usd is None or row.hourly] == []
    assert sum(row.month_usd or 0.0 for row in found) < 10


def test_a_type_without_a_rule_is_named_as_not_priced() -> None:
    (found,) = rows(Cache=resource("AWS::ElastiCache::CacheCluster"))
    assert found.month_usd is None and "Cache" in found.what and "AWS::ElastiCache::CacheCluster" in found.how


def test_an_endpoint_that_the_flow_makes_on_an_instance_bills_every_hour() -> None:
    found = rows(Release=machine(Config=config(InstanceType="ml.g5.xlarge", InitialInstanceCount=1)))
    (hourly,) = [row for row in found if row.hourly]
    assert hourly.month_usd == pytest.approx(1.408 * HOURS)
    assert "serverless = true" in hourly.mend


def test_a_scaled_endpoint_says_how_far_it_may_grow() -> None:
    scale = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:applicationautoscaling:registerScalableTarget",
        "Parameters": {"MinCapacity": 1, "MaxCapacity": 4},
    }
    found = rows(Release=machine(Config=config(InstanceType="ml.m5.large"), Scale=scale))
    assert "up to 4 under load" in next(row for row in found if row.hourly).how


def test_an_instance_that_the_table_lacks_is_not_taken_for_free() -> None:
    (hourly,) = [row for row in rows(Release=machine(Config=config(InstanceType="ml.z9.huge"))) if row.hourly]
    assert hourly.month_usd is None and "ml.z9.huge" in hourly.how


def test_a_serverless_endpoint_costs_nothing_when_idle_unless_it_holds_capacity() -> None:
    idle = rows(Release=machine(Config=config(ServerlessConfig={"MemorySizeInMB": 2048})))
    held = rows(Release=machine(Config=config(ServerlessConfig={"MemorySizeInMB": 2048, "ProvisionedConcurrency": 1})))
    assert not any(row.hourly for row in idle)
    assert [row.month_usd for row in held if row.hourly] == [None]


def test_interface_endpoints_bill_in_each_zone_and_gateway_endpoints_do_not() -> None:
    interface = resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Interface", SubnetIds=["a", "b"])
    gateway = resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Gateway")
    first, second = rows(Interface=interface, Gateway=gateway)
    assert first.month_usd == pytest.approx(2 * 0.01 * HOURS) and first.hourly
    assert second.month_usd == 0.0 and not second.hourly


@pytest.mark.parametrize(
    ("made", "hourly"),
    [
        (resource("AWS::EC2::NatGateway"), 0.045),
        (resource("AWS::SageMaker::NotebookInstance", InstanceType="ml.t3.medium"), 0.05),
        (resource("AWS::SageMaker::App", ResourceSpec={"InstanceType": "ml.m5.large"}), 0.115),
        (resource("AWS::SageMaker::MlflowTrackingServer", TrackingServerSize="Small"), 0.642),
    ],
)
def test_what_is_always_on_bills_by_the_hour_and_is_named(made: dict[str, Any], hourly: float) -> None:
    (found,) = rows(Always=made)
    assert found.hourly and "Always" in found.what
    assert found.month_usd == pytest.approx(hourly * HOURS)


def test_an_endpoint_in_the_template_bills_by_the_configuration_that_it_refers_to() -> None:
    variant = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
    found = rows(
        Config=resource("AWS::SageMaker::EndpointConfig", ProductionVariants=[variant]),
        Live=resource("AWS::SageMaker::Endpoint", EndpointConfigName={"Fn::GetAtt": ["Config", "EndpointConfigName"]}),
    )
    (hourly,) = [row for row in found if row.hourly]
    assert hourly.month_usd == pytest.approx(2 * 0.115 * HOURS)


def test_provisioned_concurrency_of_a_function_bills_while_it_waits() -> None:
    function = resource("AWS::Lambda::Function", MemorySize=1024)
    held = {"ProvisionedConcurrentExecutions": 2}
    alias = resource("AWS::Lambda::Alias", FunctionName={"Ref": "Work"}, ProvisionedConcurrencyConfig=held)
    found = rows(Work=function, Live=alias)
    assert [row.month_usd for row in found if not row.hourly] == [0.0]
    (hourly,) = [row for row in found if row.hourly]
    assert hourly.month_usd == pytest.approx(2 * 1.0 * 0.0000033334 * 3600 * HOURS)


def test_a_table_with_provisioned_capacity_is_not_taken_for_free() -> None:
    (found,) = rows(Rows=resource("AWS::DynamoDB::Table"))
    assert found.hourly and found.month_usd is None
