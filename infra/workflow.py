"""The two state machines, what each may do, and which events start it."""

from __future__ import annotations

from aws_cdk import Aws
from constructs import Construct

from infra import flow, release_flow, rollout
from infra.config import Settings
from infra.decisions import FAILED, Decisions
from infra.fleet import Fleet
from infra.images import Image
from infra.lake import Lake
from infra.machine import Machine, follow_jobs, pass_to_sagemaker
from infra.naming import Names
from infra.permissions import Allow, seldom
from infra.serving import Serving
from infra.states import State
from infra.tagging import listed, tags
from infra.training import Training

ENDED = "Step Functions ends the job of an execution that is stopped or runs out of time"


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
        decisions: Decisions,
        code: str,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._names, self._lake = settings, names, lake
        self._training, self._serving, self._fleet = training, serving, fleet
        self._job_image, self._serve_image, self._decisions = job_image, serve_image, decisions
        self.flow = self._machine("flow", flow.definition(self._flow_parts(code)), self._flow_allows())
        self.release = self._machine("release", release_flow.definition(self._release_parts()), self._release_allows())
        self._start_on_data()
        self._start_on_approval()

    def _machine(self, name: str, definition: State, allows: list[Allow]) -> Machine:
        return Machine(
            self,
            name.title(),
            name=name,
            names=self._names,
            key=self._lake.key,
            definition=definition,
            allows=allows,
        )

    def _flow_parts(self, code: str) -> flow.Parts:
        return flow.Parts(
            code=code,
            table=self._lake.runs.table_name,
            glue_job=self._names.of("etl"),
            functions=self._decisions.arns(),
            job_repository=self._job_image.repository_name,
            job_tag=self._job_image.tag,
            job_project=self._job_image.project_name,
            serve_repository=self._serve_image.repository_name,
            serve_tag=self._serve_image.tag,
            serve_project=self._serve_image.project_name,
            pixels=self._settings.data.pixels,
            corrupt_share=self._settings.data.corrupt_share,
            seed=self._settings.train.seed,
            minutes=self._settings.train.max_minutes,
            train=self._training.train(),
            tune=self._training.tune() if self._searches else None,
            tuned=self._training.tuned() if self._searches else None,
            evaluate=self._training.evaluate(),
            export=self._training.export(),
        )

    @property
    def _searches(self) -> bool:
        return self._settings.train.trials > 0

    def _release_parts(self) -> release_flow.Parts:
        return release_flow.Parts(
            functions=self._decisions.arns(),
            serve_repository=self._serve_image.repository_name,
            serve_tag=self._serve_image.tag,
            serve_image=self._serve_image.uri,
            serve_project=self._serve_image.project_name,
            serve_role=self._serving.role.role_arn,
            endpoint=self._serving.endpoint_name,
            variant=self._serving.variant(),
            environment=self._serving.environment(),
            isolation=self._serving.isolation(),
            tags=listed(tags(self._settings)),
            volume_key=self._serving.volume_key,
            capture=self._serving.capture(),
            scaling=self._serving.scaling(),
            rollout=rollout.Rollout(
                functions=self._decisions.arns(),
                group_arns={name: self._fleet.group_arn(name) for name in ("canary", "fleet")},
                group_names={name: self._names.of(name) for name in ("canary", "fleet")},
                model_component=self._fleet.model_component,
                abort_failed_percent=self._settings.edge.abort_failed_percent,
                timeout_minutes=self._settings.edge.timeout_minutes,
                per_minute=self._settings.edge.rollout_per_minute,
                factor=self._settings.edge.rollout_factor,
            ),
        )

    def _flow_allows(self) -> list[Allow]:
        names = self._names
        etl = [names.arn("glue", f"job/{names.of('etl')}")]
        kinds = {"training": "Training", "processing": "Processing"}
        if self._searches:
            kinds["hyper-parameter-tuning"] = "HyperParameterTuning"
        return [
            self._lake.read("raw/"),
            self._lake.read_key(),
            Allow(actions=["dynamodb:PutItem", "dynamodb:UpdateItem"], on=[self._lake.runs.table_arn]),
            self._decisions.call("gate", "register"),
            *seldom([self._decisions.call("failure")], FAILED),
            *(allow for image in (self._job_image, self._serve_image) for allow in (image.find(), *image.build())),
            Allow(actions=["glue:GetJobRun", "glue:StartJobRun"], on=etl),
            Allow(actions=["glue:BatchStopJobRun"], on=etl, unused=ENDED),
            *(allow for kind, word in kinds.items() for allow in self._job_allows(kind, word)),
            pass_to_sagemaker(self._training.role),
            follow_jobs(names, "tuning" if self._searches else "training", "processing", "build"),
        ]

    def _job_allows(self, kind: str, word: str) -> list[Allow]:
        """Start a kind of SageMaker job, follow it, and end it when the execution is ended."""
        jobs, named = [self._names.arn("sagemaker", f"{kind}-job/*")], "a job is named after its run"
        started = [f"sagemaker:Create{word}Job", f"sagemaker:Describe{word}Job", "sagemaker:AddTags"]
        return [
            Allow(actions=started, on=jobs, why=named),
            Allow(actions=[f"sagemaker:Stop{word}Job"], on=jobs, why=named, unused=ENDED),
        ]

    def _scaling_allows(self, endpoint: str) -> list[Allow]:
        """Source: Application Auto Scaling user guide, identity-based policies for SageMaker variants."""
        scaling = "sagemaker.application-autoscaling.amazonaws.com"
        role = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
        return [
            Allow(
                actions=["application-autoscaling:RegisterScalableTarget", "application-autoscaling:PutScalingPolicy"],
                on=[self._names.arn("application-autoscaling", "scalable-target/*")],
                when={"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}},
                why="a scalable target's id is made when it is registered; the service is fixed by condition",
            ),
            Allow(actions=["sagemaker:UpdateEndpointWeightsAndCapacities"], on=[endpoint]),
            Allow(
                actions=["iam:CreateServiceLinkedRole"],
                on=[f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:role/aws-service-role/{scaling}/{role}"],
                when={"StringLike": {"iam:AWSServiceName": scaling}},
            ),
        ]

    def _release_allows(self) -> list[Allow]:
        names = self._names
        endpoint = names.arn("sagemaker", f"endpoint/{self._serving.endpoint_name}")
        groups = [self._fleet.group_arn("canary"), self._fleet.group_arn("fleet")]
        configs = names.arn("sagemaker", f"endpoint-config/{names.prefix}-*")
        of_release = "model and endpoint configuration are named after the release"
        return [
            self._decisions.call("release", "verdict"),
            *seldom([self._decisions.call("failure")], FAILED),
            self._serve_image.find(),
            *seldom(self._serve_image.build(), "the flow has built the image; a release alone builds a missing one"),
            follow_jobs(names, "build"),
            Allow(actions=["sagemaker:AddTags", "sagemaker:CreateEndpointConfig"], on=[configs], why=of_release),
            Allow(
                actions=["sagemaker:AddTags", "sagemaker:CreateModel"],
                on=[names.arn("sagemaker", f"model/{names.prefix}-*")],
                why=of_release,
            ),
            Allow(actions=["sagemaker:CreateEndpoint"], on=[endpoint, configs], why=of_release),
            Allow(actions=["sagemaker:AddTags"], on=[endpoint]),
            Allow(
                actions=["sagemaker:UpdateEndpoint"],
                on=[endpoint, configs],
                why=of_release,
                unused="the first release makes the endpoint, each later one updates it",
            ),
            Allow(actions=["sagemaker:DescribeEndpoint"], on=[endpoint]),
            *(self._scaling_allows(endpoint) if self._serving.scaling() else []),
            pass_to_sagemaker(self._serving.role),
            Allow(
                actions=["greengrass:CreateDeployment"],
                on=["*"],
                why="Greengrass makes a deployment's id; what it may target is fixed by the actions on IoT below",
            ),
            Allow(actions=["iot:DescribeThingGroup", "iot:ListThingsInThingGroup"], on=groups),
            Allow(
                actions=["iot:CancelJob", "iot:CreateJob", "iot:DescribeJob", "iot:UpdateJob"],
                on=[names.arn("iot", "job/*")],
                why="Greengrass makes an IoT job of each deployment and names it",
            ),
            Allow(actions=["iot:CreateJob"], on=groups),
        ]

    def _start_on_data(self) -> None:
        self.flow.start_on(
            "NewData",
            description="a raw manifest was written, which happens last",
            pattern={
                "source": ["aws.s3"],
                "detail-type": ["Object Created"],
                "detail": {
                    "bucket": {"name": [self._lake.data.bucket_name]},
                    "object": {"key": [{"wildcard": "raw/*/_manifest.json"}]},
                },
            },
            paths={"bucket": "$.detail.bucket.name", "key": "$.detail.object.key"},
            template='{"bucket": <bucket>, "key": <key>, "nonce": ""}',
        )

    def _start_on_approval(self) -> None:
        group = self._training.group_name
        self.release.start_on(
            "Approved",
            description="a person approved a model package",
            pattern={
                "source": ["aws.sagemaker"],
                "detail-type": ["SageMaker Model Package State Change"],
                "detail": {"ModelPackageGroupName": [group], "ModelApprovalStatus": ["Approved"]},
            },
            paths={"package": "$.detail.ModelPackageArn"},
            template='{"model_package": <package>}',
        )
