"""The two state machines, the functions that decide and record, and the events that start them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Aws, RemovalPolicy, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from infra import bundles, fleet, flow, release_flow
from infra.config import Settings
from infra.fleet import Fleet
from infra.functions import Function
from infra.images import Image
from infra.lake import Lake
from infra.naming import Names
from infra.permissions import Allow, role, service
from infra.serving import Serving
from infra.staging import Staging
from infra.training import Training


class Workflow(Construct):
    """Both machines. `code` is the hash of settings and code that each run's claim carries."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        names: Names,
        lake: Lake,
        training: Training,
        serving: Serving,
        fleet: Fleet,
        job_image: Image,
        serve_image: Image,
        staging: Staging,
        code: str,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._names, self._lake, self._staging = settings, names, lake, staging
        self._training, self._serving, self._fleet = training, serving, fleet
        self._job_image, self._serve_image = job_image, serve_image
        self._functions = {
            "gate": self._gate(),
            "register": self._register(),
            "failure": self._failure(),
            "release": self._release(),
        }
        self.flow = self._machine("Flow", "flow", flow.definition(self._flow_parts(code)), self._flow_allows())
        self.release = self._machine(
            "Release", "release", release_flow.definition(self._release_parts()), self._release_allows()
        )
        self._start_on_data()
        self._start_on_approval()
        self._start_on_drift()

    @property
    def functions(self) -> list[Function]:
        """The functions that the machines call."""
        return list(self._functions.values())

    def _function(
        self, bundle: bundles.Bundle, *, environment: Mapping[str, str], allows: Sequence[Allow], description: str
    ) -> Function:
        return Function(
            self,
            f"{bundle.name.title()}Function",
            name=bundle.name,
            names=self._names,
            code=self._staging.archive(bundle),
            key=self._lake.key,
            environment=environment,
            allows=[*allows, self._lake.use_key()],
            description=description,
        )

    def _gate(self) -> Function:
        targets = {name: target.model_dump(mode="json") for name, target in self._settings.targets.items()}
        return self._function(
            bundles.GATE,
            environment={
                "GATE": json.dumps(self._settings.resolved()["gate"], sort_keys=True),
                "TARGETS": json.dumps(targets, sort_keys=True),
            },
            allows=[self._lake.read("runs/"), self._lake.list("runs/"), self._lake.write("runs/")],
            description="Holds a run's figures against the success criteria",
        )

    def _register(self) -> Function:
        group = self._training.group_name
        return self._function(
            bundles.REGISTER,
            environment={"PACKAGE_GROUP": group, "SERVE_IMAGE": self._serve_image.uri},
            allows=[
                self._lake.read("runs/", "releases/"),
                self._lake.list("runs/", "releases/"),
                Allow(
                    actions=["sagemaker:CreateModelPackage", "sagemaker:ListModelPackages"],
                    on=[self._names.arn("sagemaker", f"model-package-group/{group}")],
                ),
                Allow(
                    actions=["sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackage", "sagemaker:AddTags"],
                    on=[self._names.arn("sagemaker", f"model-package/{group}/*")],
                    why="SageMaker numbers the packages of the group",
                ),
                *self._serve_image.pull(),
            ],
            description="Registers a gated release once per version, pending approval",
        )

    def _failure(self) -> Function:
        return self._function(
            bundles.FAILURE,
            environment={"TABLE": self._lake.runs.table_name},
            allows=[Allow(actions=["dynamodb:UpdateItem", "dynamodb:GetItem"], on=[self._lake.runs.table_arn])],
            description="Writes why a run failed or was refused into its row",
        )

    def _release(self) -> Function:
        names, devices = self._names, self._fleet
        return self._function(
            bundles.RELEASE,
            environment={
                "ENDPOINT_NAME": self._serving.endpoint_name,
                "SERVE_ROLE_ARN": self._serving.role.role_arn,
                "INSTANCE_TYPE": self._serving.instance,
                "MODEL_COMPONENT": devices.model_component,
                "RUNTIME_COMPONENT": devices.runtime_component,
                "RUNTIME_VERSION": devices.runtime_version,
                "NUCLEUS_VERSION": fleet.NUCLEUS[1],
                "CANARY_GROUP_ARN": devices.group_arn("canary"),
                "FLEET_GROUP_ARN": devices.group_arn("fleet"),
                "STAGER_ARTIFACT": devices.bundle_uri,
                "PREFIX": names.prefix,
                "TABLE": self._lake.runs.table_name,
            },
            allows=[
                self._lake.read("releases/"),
                self._lake.list("releases/"),
                Allow(actions=["s3:GetObject"], on=[fleet.object_arn(devices.bundle)]),
                Allow(
                    actions=["sagemaker:DescribeModelPackage"],
                    on=[names.arn("sagemaker", f"model-package/{self._training.group_name}/*")],
                    why="SageMaker numbers the packages of the group",
                ),
                Allow(
                    actions=["sagemaker:DescribeEndpoint"],
                    on=[names.arn("sagemaker", f"endpoint/{self._serving.endpoint_name}")],
                ),
                Allow(
                    actions=["greengrass:CreateComponentVersion", "greengrass:DescribeComponent"],
                    on=[
                        names.arn("greengrass", f"components:{devices.model_component}"),
                        names.arn("greengrass", f"components:{devices.model_component}:versions:*"),
                    ],
                    why="a component's version is the release's, not known at deployment",
                ),
                Allow(
                    actions=["dynamodb:Scan", "dynamodb:UpdateItem", "dynamodb:GetItem"], on=[self._lake.runs.table_arn]
                ),
            ],
            description="Prepares, publishes and records a release",
        )

    def _flow_parts(self, code: str) -> flow.Parts:
        return flow.Parts(
            code=code,
            table=self._lake.runs.table_name,
            glue_job=self._names.of("etl"),
            functions={name: made.function.function_arn for name, made in self._functions.items()},
            job_repository=self._job_image.repository_name,
            job_tag=self._job_image.tag,
            job_project=self._job_image.project_name,
            pixels=self._settings.data.pixels,
            seed=self._settings.train.seed,
            minutes=self._settings.train.max_minutes,
            train=self._training.train(),
            evaluate=self._training.evaluate(),
            export=self._training.export(),
        )

    def _release_parts(self) -> release_flow.Parts:
        return release_flow.Parts(
            functions={name: made.function.function_arn for name, made in self._functions.items()},
            serve_repository=self._serve_image.repository_name,
            serve_tag=self._serve_image.tag,
            serve_image=self._serve_image.uri,
            serve_project=self._serve_image.project_name,
            serve_role=self._serving.role.role_arn,
            endpoint=self._serving.endpoint_name,
            variant=self._serving.variant(),
            volume_key=self._serving.volume_key,
            groups={name: self._fleet.group_arn(name) for name in ("canary", "fleet")},
            model_component=self._fleet.model_component,
            abort_failed_percent=self._settings.edge.abort_failed_percent,
            timeout_minutes=self._settings.edge.timeout_minutes,
        )

    def _flow_allows(self) -> list[Allow]:
        names = self._names
        jobs = [names.arn("sagemaker", f"{kind}-job/*") for kind in ("training", "processing")]
        return [
            self._lake.read("raw/"),
            self._lake.list("raw/"),
            self._lake.use_key(),
            Allow(actions=["dynamodb:PutItem", "dynamodb:UpdateItem"], on=[self._lake.runs.table_arn]),
            self._call("gate", "register", "failure"),
            self._job_image.find(),
            self._build(self._job_image),
            Allow(
                actions=["glue:StartJobRun", "glue:GetJobRun", "glue:GetJobRuns", "glue:BatchStopJobRun"],
                on=[names.arn("glue", f"job/{names.of('etl')}")],
            ),
            Allow(
                actions=[
                    "sagemaker:CreateTrainingJob",
                    "sagemaker:DescribeTrainingJob",
                    "sagemaker:StopTrainingJob",
                    "sagemaker:CreateProcessingJob",
                    "sagemaker:DescribeProcessingJob",
                    "sagemaker:StopProcessingJob",
                    "sagemaker:AddTags",
                ],
                on=jobs,
                why="a job is named after its run",
            ),
            self._pass(self._training.role, "sagemaker.amazonaws.com"),
            self._watch_jobs(),
        ]

    def _release_allows(self) -> list[Allow]:
        names, serving = self._names, self._serving
        return [
            self._call("release", "failure"),
            self._serve_image.find(),
            self._build(self._serve_image),
            Allow(
                actions=["sagemaker:CreateModel", "sagemaker:CreateEndpointConfig"],
                on=[names.arn("sagemaker", f"{kind}/{names.prefix}-*") for kind in ("model", "endpoint-config")],
                why="model and endpoint configuration are named after the release",
            ),
            Allow(
                actions=["sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"],
                on=[
                    names.arn("sagemaker", f"endpoint/{serving.endpoint_name}"),
                    names.arn("sagemaker", f"endpoint-config/{names.prefix}-*"),
                ],
                why="the endpoint configuration is named after the release",
            ),
            Allow(
                actions=["sagemaker:DescribeEndpoint"], on=[names.arn("sagemaker", f"endpoint/{serving.endpoint_name}")]
            ),
            self._pass(serving.role, "sagemaker.amazonaws.com"),
            Allow(
                actions=["greengrass:CreateDeployment", "greengrass:GetDeployment"],
                on=["*"],
                why="a deployment's id is made by Greengrass; what it may target is fixed in the state machine",
            ),
            Allow(
                actions=[
                    "iot:CreateJob",
                    "iot:DescribeJob",
                    "iot:CancelJob",
                    "iot:UpdateJob",
                    "iot:DescribeThingGroup",
                ],
                on=[names.arn("iot", "job/*"), self._fleet.group_arn("canary"), self._fleet.group_arn("fleet")],
                why="Greengrass makes an IoT job of each deployment and names it",
            ),
            self._watch_jobs(),
        ]

    def _call(self, *functions: str) -> Allow:
        return Allow(
            actions=["lambda:InvokeFunction"], on=[self._functions[name].function.function_arn for name in functions]
        )

    def _build(self, image: Image) -> Allow:
        return Allow(
            actions=["codebuild:StartBuild", "codebuild:StopBuild", "codebuild:BatchGetBuilds"], on=[image.project_arn]
        )

    def _pass(self, passed: iam.Role, to: str) -> Allow:
        return Allow(actions=["iam:PassRole"], on=[passed.role_arn], when={"StringEquals": {"iam:PassedToService": to}})

    def _watch_jobs(self) -> Allow:
        """`.sync` makes and reads managed EventBridge rules of these names."""
        rules = (
            "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
            "StepFunctionsGetEventsForSageMakerProcessingJobsRule",
            "StepFunctionsGetEventForCodeBuildStartBuildRule",
        )
        return Allow(
            actions=["events:PutTargets", "events:PutRule", "events:DescribeRule"],
            on=[self._names.arn("events", f"rule/{rule}") for rule in rules],
        )

    def _machine(
        self, id: str, name: str, definition: dict[str, Any], allows: list[Allow]
    ) -> stepfunctions.CfnStateMachine:
        group = logs.LogGroup(
            self,
            f"{id}Logs",
            log_group_name=f"/aws/vendedlogs/states/{self._names.of(name)}",
            encryption_key=self._lake.key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        runs_as = role(
            self,
            f"{id}Role",
            trusts=service("states.amazonaws.com", account=Aws.ACCOUNT_ID),
            description=f"Runs the state machine {self._names.of(name)}",
            allows=[*allows, *_tracing(), _delivery()],
        )
        machine = stepfunctions.CfnStateMachine(
            self,
            id,
            state_machine_name=self._names.of(name),
            state_machine_type="STANDARD",
            role_arn=runs_as.role_arn,
            definition_string=Stack.of(self).to_json_string(definition),
            logging_configuration=stepfunctions.CfnStateMachine.LoggingConfigurationProperty(
                level="ALL",
                include_execution_data=True,
                destinations=[
                    stepfunctions.CfnStateMachine.LogDestinationProperty(
                        cloud_watch_logs_log_group=stepfunctions.CfnStateMachine.CloudWatchLogsLogGroupProperty(
                            log_group_arn=group.log_group_arn
                        )
                    )
                ],
            ),
            tracing_configuration=stepfunctions.CfnStateMachine.TracingConfigurationProperty(enabled=True),
        )
        machine.node.add_dependency(runs_as)
        return machine

    def _start_on_data(self) -> None:
        self._rule(
            "NewData",
            description="A raw manifest was written, which happens last",
            pattern={
                "source": ["aws.s3"],
                "detail-type": ["Object Created"],
                "detail": {
                    "bucket": {"name": [self._lake.data.bucket_name]},
                    "object": {"key": [{"wildcard": "raw/*/_manifest.json"}]},
                },
            },
            machine=self.flow,
            paths={"bucket": "$.detail.bucket.name", "key": "$.detail.object.key"},
            template='{"bucket": <bucket>, "key": <key>, "nonce": ""}',
        )

    def _start_on_approval(self) -> None:
        self._rule(
            "Approved",
            description="A person approved a model package",
            pattern={
                "source": ["aws.sagemaker"],
                "detail-type": ["SageMaker Model Package State Change"],
                "detail": {
                    "ModelPackageGroupName": [self._training.group_name],
                    "ModelApprovalStatus": ["Approved"],
                },
            },
            machine=self.release,
            paths={"package": "$.detail.ModelPackageArn"},
            template='{"model_package": <package>}',
        )

    def _start_on_drift(self) -> None:
        key = f"raw/{self._settings.data.dataset}/_manifest.json"
        self._rule(
            "Drift",
            description="Devices see data unlike the training data: the flow again, on all raw data of today",
            pattern={
                "source": ["aws.cloudwatch"],
                "detail-type": ["CloudWatch Alarm State Change"],
                "detail": {"alarmName": [self._names.of("drift")], "state": {"value": ["ALARM"]}},
            },
            machine=self.flow,
            paths={"event": "$.id"},
            template=f'{{"bucket": "{self._lake.data.bucket_name}", "key": "{key}", "nonce": <event>}}',
        )

    def _rule(
        self,
        id: str,
        *,
        description: str,
        pattern: dict[str, Any],
        machine: stepfunctions.CfnStateMachine,
        paths: dict[str, str],
        template: str,
    ) -> None:
        starter = role(
            self,
            f"{id}Role",
            trusts=service("events.amazonaws.com", account=Aws.ACCOUNT_ID),
            description=f"Starts a state machine: {description}",
            allows=[Allow(actions=["states:StartExecution"], on=[machine.attr_arn])],
        )
        events.CfnRule(
            self,
            f"{id}Rule",
            name=self._names.of(id.lower()),
            description=description,
            event_pattern=pattern,
            targets=[
                events.CfnRule.TargetProperty(
                    id="machine",
                    arn=machine.attr_arn,
                    role_arn=starter.role_arn,
                    input_transformer=events.CfnRule.InputTransformerProperty(
                        input_paths_map=paths, input_template=template
                    ),
                )
            ],
        )


def _tracing() -> list[Allow]:
    actions = ["PutTraceSegments", "PutTelemetryRecords", "GetSamplingRules", "GetSamplingTargets"]
    return [
        Allow(actions=[f"xray:{action}" for action in actions], on=["*"], why="X-Ray's write actions have no resource")
    ]


def _delivery() -> Allow:
    actions = [
        "CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries",
        "PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups",
    ]  # fmt: skip
    return Allow(
        actions=[f"logs:{action}" for action in actions], on=["*"], why="log delivery actions have no resource"
    )
