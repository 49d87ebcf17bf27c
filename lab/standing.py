"""What a deployed template costs while nothing runs: a rule for each resource type, zero with its reason or a price.

A type without a rule is named as not priced, never left out. The endpoint is no resource of the template: the release
flow makes it, so its rule reads the state machine. Prices are for a month of 730 hours.

Covers: what bills by the hour, the month or the key. Does not cover: bytes stored and moved, and requests; `lab cost`
lists those among its assumptions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab import definition
from lab.prices import Prices

HOURS_A_MONTH = 730
Properties = Mapping[str, Any]
Template = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One thing that stands while nothing runs. `month_usd` None: not priced, `how` says why. `mend` ends its bill."""

    what: str
    service: str
    month_usd: float | None
    how: str
    hourly: bool = False
    mend: str = ""


Rule = Callable[[str, Properties, Prices, Template], Iterator[Row]]

# Types that cost nothing by being there, and what they cost when they are used.
FREE = {
    "AWS::Budgets::Budget": "budgets without actions are free",
    "AWS::CDK::Metadata": "nothing is made of it",
    "AWS::CloudTrail::Trail": "billed by data events recorded",
    "AWS::CloudFormation::Stack": "its resources bill",
    "AWS::CodeBuild::Project": "billed by the minute of a build",
    "AWS::EC2::FlowLog": "billed by GB of log",
    "AWS::EC2::GatewayRouteTableAssociation": "free",
    "AWS::EC2::InternetGateway": "free; what passes it bills",
    "AWS::EC2::NetworkAcl": "free",
    "AWS::EC2::NetworkAclEntry": "free",
    "AWS::EC2::Route": "free",
    "AWS::EC2::RouteTable": "free",
    "AWS::EC2::SecurityGroup": "free",
    "AWS::EC2::SecurityGroupEgress": "free",
    "AWS::EC2::SecurityGroupIngress": "free",
    "AWS::EC2::Subnet": "free",
    "AWS::EC2::SubnetNetworkAclAssociation": "free",
    "AWS::EC2::SubnetRouteTableAssociation": "free",
    "AWS::EC2::VPC": "free",
    "AWS::EC2::VPCGatewayAttachment": "free",
    "AWS::CodePipeline::Pipeline": "billed by the minute of an execution",
    "AWS::ECR::Repository": "billed by GB of images stored",
    "AWS::Events::Rule": "events of AWS services and schedules are free",
    "AWS::Glue::Database": "the first million objects of the catalogue are free",
    "AWS::Glue::Job": "billed by DPU-hour of a run",
    "AWS::Glue::SecurityConfiguration": "free",
    "AWS::Glue::Table": "the first million objects of the catalogue are free",
    "AWS::GreengrassV2::ComponentVersion": "free; its artefacts lie in S3",
    "AWS::GreengrassV2::Deployment": "billed by core device and month",
    "AWS::IAM::ManagedPolicy": "free",
    "AWS::IAM::OIDCProvider": "free",
    "AWS::IAM::Policy": "free",
    "AWS::IAM::Role": "free",
    "AWS::IoT::Policy": "free",
    "AWS::IoT::ProvisioningTemplate": "free",
    "AWS::IoT::RoleAlias": "free",
    "AWS::IoT::ThingGroup": "free",
    "AWS::IoT::TopicRule": "billed by message and action",
    "AWS::KMS::Alias": "free; its key bills",
    "AWS::Lambda::Permission": "free",
    "AWS::Logs::LogGroup": "billed by GB taken in and stored",
    "AWS::Logs::ResourcePolicy": "free",
    "AWS::S3::Bucket": "billed by GB stored and by request",
    "AWS::S3::BucketPolicy": "free",
    "AWS::SNS::Subscription": "billed by delivery",
    "AWS::SNS::Topic": "billed by delivery",
    "AWS::SNS::TopicPolicy": "free",
    "AWS::SQS::Queue": "billed by request",
    "AWS::SQS::QueuePolicy": "free",
    "AWS::SSM::Parameter": "standard parameters are free",
    "AWS::SageMaker::EndpointConfig": "an endpoint that uses it bills",
    "AWS::SageMaker::Model": "free; its data lie in S3",
    "AWS::SageMaker::ModelPackage": "free; its data lie in S3",
    "AWS::SageMaker::ModelPackageGroup": "free",
    "AWS::SageMaker::NotebookInstanceLifecycleConfig": "free",
    "AWS::Scheduler::Schedule": "billed by invocation",
    "AWS::Scheduler::ScheduleGroup": "free",
}

# Types at one price a month for each, and what one is called.
MONTHLY = {
    "AWS::CloudWatch::Alarm": ("alarm_month", "alarm"),
    "AWS::CloudWatch::Dashboard": ("dashboard_month", "dashboard"),
    "AWS::KMS::Key": ("kms_key_month", "key"),
    "AWS::SecretsManager::Secret": ("secret_month", "secret"),
}


def rows(template: Template, prices: Prices) -> list[Row]:
    """Every resource of a template with what it costs a month; those that are alike in one row for each type."""
    found: list[Row] = []
    alike: Counter[str] = Counter()
    for logical, resource in (template.get("Resources") or {}).items():
        kind, properties = str(resource["Type"]), resource.get("Properties") or {}
        rule = RULES.get(kind)
        if rule is not None:
            found += rule(logical, properties, prices, template)
        elif kind in FREE or kind in MONTHLY:
            alike[kind] += 1
        else:
            why = f"lab/standing.py has no rule for {kind}; its price page knows"
            found.append(Row(f"{logical} ({kind})", _service(kind), None, why))
    return found + [_alike(kind, count, prices) for kind, count in sorted(alike.items())]


def _alike(kind: str, count: int, prices: Prices) -> Row:
    if kind in FREE:
        return Row(f"{count} × {kind}", _service(kind), 0.0, FREE[kind])
    key, what = MONTHLY[kind]
    named = f"{count} {what}{'s' if count > 1 else ''}"
    return Row(named, _service(kind), count * prices.usd(key), f"${prices.usd(key):g} a month each")


def _service(kind: str) -> str:
    return kind.split("::")[1]


def _hours(key: str, what: str, service: str, mend: str = "") -> Rule:
    """A price by the hour, whatever it does."""

    def rule(logical: str, given: Properties, prices: Prices, template: Template) -> Iterator[Row]:
        usd = prices.usd(key) * HOURS_A_MONTH
        yield Row(f"{what} {logical}", service, usd, f"${prices.usd(key):g} an hour", True, mend)

    return rule


def _instances(what: str, service: str, prices: Prices, kind: Any, count: int, mend: str) -> Row:
    hourly = prices.of("instance_hour", str(kind))
    if hourly is None:
        why = f"lab/prices.json has no {kind}, which bills by the hour; add it"
        return Row(what, service, None, why, True, mend)
    return Row(what, service, hourly * count * HOURS_A_MONTH, f"{count} × {kind} at ${hourly:g} an hour", True, mend)


SERVERLESS = "[serving] serverless = true costs nothing when idle; a smaller `instance` costs less"


def _machine(logical: str, given: Properties, prices: Prices, template: Template) -> Iterator[Row]:
    """A state machine is free; an endpoint that it makes on instances is not, from the first release on."""
    yield Row(f"state machine {logical}", "StepFunctions", 0.0, "billed by state transition")
    states = definition.of_resource(given)["States"].values()
    scaled = [state for state in states if str(state.get("Resource")).endswith("registerScalableTarget")]
    most = max((int(state["Parameters"].get("MaxCapacity", 1)) for state in scaled), default=1)
    for state in states:
        if str(state.get("Resource")).lower().endswith("createendpointconfig"):
            yield from _variants("endpoint, once a model is released", state["Parameters"], prices, most)


def _variants(what: str, config: Properties, prices: Prices, most: int = 1) -> Iterator[Row]:
    for variant in config.get("ProductionVariants") or []:
        if "ServerlessConfig" in variant:
            row = Row(what, "SageMaker", 0.0, "serverless: billed by the time of its requests")
            held = int(variant["ServerlessConfig"].get("ProvisionedConcurrency") or 0)
            yield row if not held else Row(
                what, "SageMaker", None, f"provisioned concurrency of {held} bills by the hour; the table has no price",
                True, "leave out ProvisionedConcurrency",
            )  # fmt: skip
            continue
        count = int(variant.get("InitialInstanceCount") or 1)
        row = _instances(what, "SageMaker", prices, variant.get("InstanceType"), count, SERVERLESS)
        more = f"; up to {most} under load" if most > count else ""
        yield Row(row.what, row.service, row.month_usd, row.how + more, True, row.mend)


def _endpoint(logical: str, given: Properties, prices: Prices, template: Template) -> Iterator[Row]:
    reference = given.get("EndpointConfigName")
    names = next(iter(reference.values())) if isinstance(reference, Mapping) else reference
    config = (template["Resources"].get(names[0] if isinstance(names, list) else names) or {}).get("Properties")
    if not config:
        yield Row(f"endpoint {logical}", "SageMaker", None, "its configuration is not in the template", True)
        return
    yield from _variants(f"endpoint {logical}", config, prices)


def _notebook(logical: str, given: Properties, prices: Prices, template: Template) -> Iterator[Row]:
    mend = "stop it when no one works in it"
    yield _instances(f"notebook {logical}", "SageMaker", prices, given.get("InstanceType"), 1, mend)


def _app(logical: str, given: Properties, prices: Prices, template: Template) -> Iterator[Row]:
    kind = (given.get("ResourceSpec") or {}).get("InstanceType", "ml.t3.medium")
    yield _instances(f"Studio app {logical}", "SageMaker", prices, kind, 1, "delete the app when no one works in it")


def _mlflow(logical: str, given: Properties, prices: Prices, template: Template) -> Iterator[Row]:
    size = str(given.get("TrackingServerSize") or "Small")
    hourly = prices.of("mlflow_server_hour", size)
    usd = None if hourly is None else hourly * HOURS_A_MONTH
    how = f"{size} at ${hourly:g} an hour" if hourly else f"lab/prices.json has no size {size}"
    mend = "[train] mlflow takes the ARN of an MLflow App, which has no hourly price"
    yield Row(f"MLflow tracking server {logical}", "SageMaker", usd, how, True, mend)


def _vpc_endpoint(logical: str, given: Properties, prices: Prices, template: Template) -> Iterator[Row]:
    if given.get("VpcEndpointType", "Gateway") == "Gateway":
        yield Row(f"gateway endpoint {logical}", "VPC", 0.0, "gateway endpoints are free")
        return
    zones = len(given.get("SubnetIds") or [1])
    hourly = prices.usd("interface_endpoint_hour")
    how = f"${hourly:g} an hour in each of {zones} zones"
    mend = '[security] network = "none" needs no endpoints'
    yield Row(f"interface endpoint {logical}", "VPC", hourly * zones * HOURS_A_MONTH, how, True, mend)


def _concurrency(logical: str, given: Properties, prices: Prices, template: Template) -> Iterator[Row]:
    """Lambda: a function is free while it waits, provisioned concurrency of a version or an alias is not."""
    held = given.get("ProvisionedConcurrencyConfig") or {}
    count = int(held.get("ProvisionedConcurrentExecutions") or 0)
    if not count:
        yield Row(f"function {logical}", "Lambda", 0.0, "billed by request and GB-second")
        return
    reference = given.get("FunctionName")
    name = next(iter(reference.values())) if isinstance(reference, Mapping) else reference
    function = template["Resources"].get(name[0] if isinstance(name, list) else name, {}).get("Properties", {})
    memory = int(function.get("MemorySize") or 128) / 1024
    usd = count * memory * prices.usd("lambda_provisioned_gb_second") * 3600 * HOURS_A_MONTH
    how = f"provisioned concurrency of {count} at {memory:g} GB"
    yield Row(f"function {logical}", "Lambda", usd, how, True, "leave out ProvisionedConcurrencyConfig")


def _table(logical: str, given: Properties, prices: Prices, template: Template) -> Iterator[Row]:
    if given.get("BillingMode") == "PAY_PER_REQUEST":
        yield Row(f"table {logical}", "DynamoDB", 0.0, "on demand: billed by request and GB stored")
        return
    why = "provisioned capacity bills by the hour; lab/prices.json has no price for it"
    yield Row(f"table {logical}", "DynamoDB", None, why, True, "BillingMode PAY_PER_REQUEST")


NAT = "interface endpoints for the services in use, or no VPC at all"
RULES: dict[str, Rule] = {
    "AWS::DynamoDB::Table": _table,
    "AWS::EC2::EIP": _hours("public_ipv4_hour", "public address", "VPC"),
    "AWS::EC2::NatGateway": _hours("nat_gateway_hour", "NAT gateway", "VPC", NAT),
    "AWS::EC2::VPCEndpoint": _vpc_endpoint,
    "AWS::Lambda::Alias": _concurrency,
    "AWS::Lambda::Function": _concurrency,
    "AWS::Lambda::Version": _concurrency,
    "AWS::SageMaker::App": _app,
    "AWS::SageMaker::Endpoint": _endpoint,
    "AWS::SageMaker::MlflowTrackingServer": _mlflow,
    "AWS::SageMaker::NotebookInstance": _notebook,
    "AWS::StepFunctions::StateMachine": _machine,
}
