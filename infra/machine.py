"""A state machine with its inline definition, own role, encrypted log and triggers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from infra.naming import Names
from infra.permissions import Allow, role, service

# Actions of log delivery and tracing, none of which takes a resource.
DELIVERY = (
    "CreateLogDelivery",
    "DeleteLogDelivery",
    "DescribeLogGroups",
    "DescribeResourcePolicies",
    "GetLogDelivery",
    "ListLogDeliveries",
    "PutResourcePolicy",
    "UpdateLogDelivery",
)
TRACING = ("GetSamplingRules", "GetSamplingTargets", "PutTelemetryRecords", "PutTraceSegments")
# `.sync` follows a job by managed EventBridge rules of these names.
SYNC_RULES = {
    "training": "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
    "tuning": "StepFunctionsGetEventsForSageMakerTuningJobsRule",
    "processing": "StepFunctionsGetEventsForSageMakerProcessingJobsRule",
    "build": "StepFunctionsGetEventForCodeBuildStartBuildRule",
}


class Machine(Construct):
    """One state machine and the EventBridge rules that start it."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        names: Names,
        key: kms.IKey,
        definition: dict[str, Any],
        allows: Sequence[Allow],
    ) -> None:
        super().__init__(scope, id)
        self._names = names
        self.name = names.of(name)
        group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/vendedlogs/states/{self.name}",
            encryption_key=key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        runs_as = role(
            self,
            "Role",
            trusts=service("states.amazonaws.com", account=Aws.ACCOUNT_ID),
            description=f"Runs the state machine {self.name}",
            allows=[*allows, *_logging_and_tracing()],
        )
        self.machine = stepfunctions.CfnStateMachine(
            self,
            "Machine",
            state_machine_name=self.name,
            state_machine_type="STANDARD",
            role_arn=runs_as.role_arn,
            # Not Stack.to_json_string, which drops what is null: `"ResultPath": null` keeps a state's input.
            definition_string=json.dumps(definition),
            logging_configuration=_log_everything_to(group),
            tracing_configuration=stepfunctions.CfnStateMachine.TracingConfigurationProperty(enabled=True),
        )
        self.machine.node.add_dependency(runs_as)

    @property
    def arn(self) -> str:
        """ARN of the state machine."""
        return self.machine.attr_arn

    def start_on(
        self, id: str, *, description: str, pattern: dict[str, Any], paths: dict[str, str], template: str
    ) -> None:
        """Starts an execution for each event that fits; `template` makes its input from what `paths` pick."""
        starter = role(
            self,
            f"{id}Role",
            trusts=service("events.amazonaws.com", account=Aws.ACCOUNT_ID),
            description=f"Starts {self.name}: {description}",
            allows=[Allow(actions=["states:StartExecution"], on=[self.arn])],
        )
        transformer = events.CfnRule.InputTransformerProperty(input_paths_map=paths, input_template=template)
        events.CfnRule(
            self,
            f"{id}Rule",
            name=self._names.of(id.lower()),
            description=description,
            event_pattern=pattern,
            targets=[
                events.CfnRule.TargetProperty(
                    id="machine", arn=self.arn, role_arn=starter.role_arn, input_transformer=transformer
                )
            ],
        )


def follow_jobs(names: Names, *kinds: str) -> Allow:
    """What `.sync` needs besides starting and describing the job itself."""
    return Allow(
        actions=["events:DescribeRule", "events:PutRule", "events:PutTargets"],
        on=[names.arn("events", f"rule/{SYNC_RULES[kind]}") for kind in kinds],
    )


def pass_to_sagemaker(passed: iam.IRole) -> Allow:
    """Hand a role to SageMaker and to no one else."""
    condition = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    return Allow(actions=["iam:PassRole"], on=[passed.role_arn], when=condition)


def _logging_and_tracing() -> list[Allow]:
    return [
        Allow(
            actions=[f"logs:{action}" for action in DELIVERY],
            on=["*"],
            why="log delivery is configured by actions that take no resource",
        ),
        Allow(actions=[f"xray:{action}" for action in TRACING], on=["*"], why="X-Ray's write actions take no resource"),
    ]


def _log_everything_to(group: logs.LogGroup) -> stepfunctions.CfnStateMachine.LoggingConfigurationProperty:
    where = stepfunctions.CfnStateMachine.CloudWatchLogsLogGroupProperty(log_group_arn=group.log_group_arn)
    return stepfunctions.CfnStateMachine.LoggingConfigurationProperty(
        level="ALL",
        include_execution_data=True,
        destinations=[stepfunctions.CfnStateMachine.LogDestinationProperty(cloud_watch_logs_log_group=where)],
    )
