"""Kinds that the stack makes and removes itself: found by name, so that none stays unseen when it is gone.

Each row: what people call it, its CloudFormation type, the API that lists it, the key of the answer, and the field that
holds the name (empty: the answer lists names or ARNs). What is in a VPC has no name and is found by its tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.cloud import Cloud
from lab.inventory import TAG, TAGGED, Finder, Found, Kind, Scope

LISTS = (
    ("CloudFormation stack", "AWS::CloudFormation::Stack", "cloudformation", "describe_stacks", "Stacks", "StackName"),
    ("S3 bucket", "AWS::S3::Bucket", "s3", "list_buckets", "Buckets", "Name"),
    ("DynamoDB table", "AWS::DynamoDB::Table", "dynamodb", "list_tables", "TableNames", ""),
    ("Lambda function", "AWS::Lambda::Function", "lambda", "list_functions", "Functions", "FunctionName"),
    (
        "state machine", "AWS::StepFunctions::StateMachine",
        "stepfunctions", "list_state_machines", "stateMachines", "name",
    ),
    ("event rule", "AWS::Events::Rule", "events", "list_rules", "Rules", "Name"),
    ("schedule", "AWS::Scheduler::Schedule", "scheduler", "list_schedules", "Schedules", "Name"),
    ("SNS topic", "AWS::SNS::Topic", "sns", "list_topics", "Topics", "TopicArn"),
    ("SQS queue", "AWS::SQS::Queue", "sqs", "list_queues", "QueueUrls", ""),
    ("SSM parameter", "AWS::SSM::Parameter", "ssm", "describe_parameters", "Parameters", "Name"),
    ("secret", "AWS::SecretsManager::Secret", "secretsmanager", "list_secrets", "SecretList", "Name"),
    ("IAM role", "AWS::IAM::Role", "iam", "list_roles", "Roles", "RoleName"),
    ("IoT policy", "AWS::IoT::Policy", "iot", "list_policies", "policies", "policyName"),
    ("IoT thing group", "AWS::IoT::ThingGroup", "iot", "list_thing_groups", "thingGroups", "groupName"),
    ("IoT role alias", "AWS::IoT::RoleAlias", "iot", "list_role_aliases", "roleAliases", ""),
    ("IoT topic rule", "AWS::IoT::TopicRule", "iot", "list_topic_rules", "rules", "ruleName"),
    (
        "IoT provisioning template", "AWS::IoT::ProvisioningTemplate",
        "iot", "list_provisioning_templates", "templates", "templateName",
    ),
    ("CodeBuild project", "AWS::CodeBuild::Project", "codebuild", "list_projects", "projects", ""),
    ("pipeline", "AWS::CodePipeline::Pipeline", "codepipeline", "list_pipelines", "pipelines", "name"),
    ("Glue job", "AWS::Glue::Job", "glue", "get_jobs", "Jobs", "Name"),
    ("Glue database", "AWS::Glue::Database", "glue", "get_databases", "DatabaseList", "Name"),
    (
        "Glue security configuration", "AWS::Glue::SecurityConfiguration",
        "glue", "get_security_configurations", "SecurityConfigurations", "Name",
    ),
    ("ECR repository", "AWS::ECR::Repository", "ecr", "describe_repositories", "repositories", "repositoryName"),
    ("CloudWatch alarm", "AWS::CloudWatch::Alarm", "cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("dashboard", "AWS::CloudWatch::Dashboard", "cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("CloudTrail trail", "AWS::CloudTrail::Trail", "cloudtrail", "describe_trails", "trailList", "Name"),
    ("KMS alias", "AWS::KMS::Alias", "kms", "list_aliases", "Aliases", "AliasName"),
    (
        "notebook instance", "AWS::SageMaker::NotebookInstance",
        "sagemaker", "list_notebook_instances", "NotebookInstances", "NotebookInstanceName",
    ),
    (
        "MLflow tracking server", "AWS::SageMaker::MlflowTrackingServer",
        "sagemaker", "list_mlflow_tracking_servers", "TrackingServerSummaries", "TrackingServerName",
    ),
)  # fmt: skip
# Found by their tag: the API, the key of the answer, the field of the id.
BY_TAG = (
    ("VPC", "AWS::EC2::VPC", "describe_vpcs", "Vpcs", "VpcId"),
    ("VPC endpoint", "AWS::EC2::VPCEndpoint", "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
    ("NAT gateway", "AWS::EC2::NatGateway", "describe_nat_gateways", "NatGateways", "NatGatewayId"),
    ("subnet", "AWS::EC2::Subnet", "describe_subnets", "Subnets", "SubnetId"),
    ("security group", "AWS::EC2::SecurityGroup", "describe_security_groups", "SecurityGroups", "GroupId"),
)


def _named(kind: str, service: str, operation: str, key: str, field: str) -> Finder:
    def find(cloud: Cloud, whose: Scope) -> Iterator[Found]:
        for row in cloud.rows(service, operation, key):
            name = str(row[field] if field else row)
            if whose.owns(name) and not _gone(row):
                yield Found(kind, _short(name), name)

    return find


def _short(name: str) -> str:
    """The name in an ARN or a queue's address; any other name as it is."""
    if name.startswith("http"):
        return name.rpartition("/")[2]
    return name.rpartition(":")[2] if name.startswith("arn:") else name


def _tagged(kind: str, operation: str, key: str, field: str) -> Finder:
    def find(cloud: Cloud, whose: Scope) -> Iterator[Found]:
        wanted = [{"Name": f"tag:{TAG}", "Values": [whose.prefix]}]
        given = {"Filter" if operation == "describe_nat_gateways" else "Filters": wanted}
        for row in cloud.rows("ec2", operation, key, **given):
            if not _gone(row):
                yield Found(kind, str(row[field]), row[field])

    return find


def _gone(row: Any) -> bool:
    """Whether a list shows what is deleted already, or on its way."""
    status = "" if isinstance(row, str) else str(row.get("State") or row.get("StackStatus") or "")
    return status.lower() in ("deleted", "deleting", "delete_complete")


def _budgets(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for row in cloud.rows("budgets", "describe_budgets", "Budgets", AccountId=cloud.account):
        if whose.owns(str(row["BudgetName"])):
            yield Found("budget", str(row["BudgetName"]), row["BudgetName"])


def _policies(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for row in cloud.rows("iam", "list_policies", "Policies", Scope="Local"):
        if whose.owns(str(row["PolicyName"])):
            yield Found("IAM policy", str(row["PolicyName"]), row["Arn"])


KINDS = (
    *(Kind(name, _named(name, *listed), type=type_) for name, type_, *listed in LISTS),
    *(Kind(name, _tagged(name, *listed), type=type_) for name, type_, *listed in BY_TAG),
    Kind("budget", _budgets, type="AWS::Budgets::Budget"),
    Kind("IAM policy", _policies, type="AWS::IAM::ManagedPolicy"),
    TAGGED,
)
