"""The same delivery without GitHub: a CodePipeline over a CodeConnections repository that checks, asks and deploys."""

from __future__ import annotations

import json
from typing import Any

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_codepipeline as codepipeline
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.config import Settings
from infra.delivery import connection, deployer, may_deploy
from infra.lake import Lake
from infra.naming import Names
from infra.permissions import Allow, role, service

IMAGE = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
COMMANDS = {
    "check": ["make check"],
    "deploy": ["make .venv/lab.stamp", ".venv/bin/lab deploy --yes"],
}


class Pipeline(Construct):
    """Source, check, in an environment that keeps data an approval, then deploy."""

    def __init__(self, scope: Construct, id: str, *, settings: Settings, names: Names, lake: Lake) -> None:
        super().__init__(scope, id)
        self._settings, self._names, self._lake = settings, names, lake
        self.name = names.of("delivery")
        self._artifacts = [
            Allow(
                actions=["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"],
                on=[f"{lake.artifacts.bucket_arn}/{self.name[:20]}/*"],
                why="CodePipeline names its artefacts, below the first 20 letters of the pipeline's name",
            ),
            lake.use_key(),
        ]
        projects = {step: self._project(step) for step in COMMANDS}
        self._pipeline(list(projects.values()))

    def _project(self, step: str) -> str:
        """A CodeBuild project that runs one step's commands; its name."""
        name = self._names.of(f"delivery-{step}")
        group = logs.LogGroup(
            self,
            f"{step.title()}Logs",
            log_group_name=f"/aws/codebuild/{name}",
            encryption_key=self._lake.key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        worker = self._worker(step, group)
        told = {"TORCH_INDEX": TORCH_INDEX, "LAB_ENVIRONMENT": self._settings.lab.environment}
        codebuild.CfnProject(
            self,
            step.title(),
            name=name,
            description=f"{step.title()}s the lab for the delivery",
            service_role=worker.role_arn,
            encryption_key=self._lake.key.key_arn,
            timeout_in_minutes=90,
            artifacts=codebuild.CfnProject.ArtifactsProperty(type="CODEPIPELINE"),
            source=codebuild.CfnProject.SourceProperty(type="CODEPIPELINE", build_spec=_buildspec(COMMANDS[step])),
            environment=codebuild.CfnProject.EnvironmentProperty(
                type="LINUX_CONTAINER",
                compute_type="BUILD_GENERAL1_MEDIUM",
                image=IMAGE,
                environment_variables=[
                    codebuild.CfnProject.EnvironmentVariableProperty(name=key, value=value)
                    for key, value in told.items()
                ],
            ),
            logs_config=codebuild.CfnProject.LogsConfigProperty(
                cloud_watch_logs=codebuild.CfnProject.CloudWatchLogsConfigProperty(
                    status="ENABLED", group_name=group.log_group_name
                )
            ),
        )
        return name

    def _worker(self, step: str, group: logs.LogGroup) -> iam.Role:
        who = service("codebuild.amazonaws.com", account=Aws.ACCOUNT_ID)
        says = f"Runs {step} of the delivery"
        write_logs = Allow(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            on=[group.log_group_arn],
            why="a log stream's name is the build's; the group is this project's own",
        )
        may = [*self._artifacts, write_logs]
        if step != "deploy":
            return role(self, f"{step.title()}Role", trusts=who, description=says, allows=may)
        may += may_deploy(self._settings, self._names)
        return deployer(self, "Deploy", names=self._names, trusts=who, description=says, allows=may)

    def _pipeline(self, projects: list[str]) -> None:
        delivery, key = self._settings.delivery, self._lake.key
        arns = [self._names.arn("codebuild", f"project/{name}") for name in projects]
        conductor = role(
            self,
            "Role",
            trusts=service("codepipeline.amazonaws.com", account=Aws.ACCOUNT_ID),
            description="Takes the repository through check, approval and deployment",
            allows=[
                *self._artifacts,
                Allow(actions=["codebuild:BatchGetBuilds", "codebuild:StartBuild"], on=arns),
                connection(self._settings),
            ],
        )
        source = {
            "ConnectionArn": delivery.connection,
            "FullRepositoryId": delivery.repository,
            "BranchName": delivery.branch,
            "OutputArtifactFormat": "CODE_ZIP",
        }
        check, deploy = ({"ProjectName": name} for name in projects)
        approval = [_stage("Approve", _action("Approval", "Manual", {}))] if self._settings.keeps_data else []
        codepipeline.CfnPipeline(
            self,
            "Pipeline",
            name=self.name,
            role_arn=conductor.role_arn,
            pipeline_type="V2",
            execution_mode="QUEUED",
            artifact_store=codepipeline.CfnPipeline.ArtifactStoreProperty(
                type="S3",
                location=self._lake.artifacts.bucket_name,
                encryption_key=codepipeline.CfnPipeline.EncryptionKeyProperty(id=key.key_arn, type="KMS"),
            ),
            stages=[
                _stage("Source", _action("Source", "CodeStarSourceConnection", source, gives="source")),
                _stage("Check", _action("Build", "CodeBuild", check, takes="source")),
                *approval,
                _stage("Deploy", _action("Build", "CodeBuild", deploy, takes="source")),
            ],
        )


def _stage(name: str, action: dict[str, Any]) -> codepipeline.CfnPipeline.StageDeclarationProperty:
    return codepipeline.CfnPipeline.StageDeclarationProperty(
        name=name, actions=[codepipeline.CfnPipeline.ActionDeclarationProperty(name=name, **action)]
    )


def _action(
    category: str, provider: str, settings: dict[str, Any], *, takes: str = "", gives: str = ""
) -> dict[str, Any]:
    return {
        "action_type_id": codepipeline.CfnPipeline.ActionTypeIdProperty(
            category=category, owner="AWS", provider=provider, version="1"
        ),
        "configuration": settings or None,
        "input_artifacts": [codepipeline.CfnPipeline.InputArtifactProperty(name=takes)] if takes else None,
        "output_artifacts": [codepipeline.CfnPipeline.OutputArtifactProperty(name=gives)] if gives else None,
    }


def _buildspec(commands: list[str]) -> str:
    """YAML admits JSON."""
    phases = {"install": {"runtime-versions": {"python": "3.12"}}, "build": {"commands": commands}}
    return json.dumps({"version": 0.2, "phases": phases})
