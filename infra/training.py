"""What training, evaluation and export run on, and their requests as the flow sends them.

`train`, `evaluate` and `export` return the requests as the state machine sends them, JSONPath included.
"""

from __future__ import annotations

import json
from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra import bundles
from infra.config import Settings
from infra.images import Image
from infra.lake import Lake
from infra.naming import Names
from infra.network import Network
from infra.permissions import Allow, role, seldom, service
from infra.staging import Staging, find_object, object_arn, uri
from infra.tagging import listed, tags

# Where the flow keeps the run's name and the short one of its jobs: see flow.py, ReadManifest.
RUN = "$.manifest.run"
JOB = "$.manifest.job"
ML = "/opt/ml"
LONGEST = 256
# What the training job is told of [train], each key a hyperparameter of the same name.
TOLD = ("size", "epochs", "seed", "patience", "flip", "batch", "accumulate", "precision", "compile")
# Families of instances that have GPUs.
WITH_GPUS = ("ml.p", "ml.g")
METRICS = ("train_loss", "val_loss", "best_val_loss")
# What a search varies, around what serves most data well.
SEARCHED = (
    {"Name": "rate", "MinValue": "0.0003", "MaxValue": "0.01", "ScalingType": "Logarithmic"},
    {"Name": "decay", "MinValue": "0.0001", "MaxValue": "0.1", "ScalingType": "Logarithmic"},
)
# A search's name may have 32 characters: it takes the last part of the job's.
SEARCH = f"States.Format('tune-{{}}', States.ArrayGetItem(States.StringSplit({JOB}, '-'), 4))"


class Training(Construct):
    """The role of SageMaker jobs, the model package group, and the requests of the three jobs."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        names: Names,
        lake: Lake,
        network: Network,
        image: Image,
        staging: Staging,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._names, self._lake, self._image = settings, names, lake, image
        self._network = network
        self._tags = listed(tags(settings))
        self._source = staging.asset(self, "TrainSource", staging.archive(bundles.TRAIN))
        self._code = staging.asset(self, "ProcessingCode", staging.archive(bundles.PROCESSING))
        self.packages = sagemaker.CfnModelPackageGroup(
            self,
            "Models",
            model_package_group_name=names.of("models"),
            model_package_group_description="Gated models of this lab; approval deploys them",
        )
        self.group_name = names.of("models")
        self.role = role(
            self,
            "JobRole",
            trusts=service("sagemaker.amazonaws.com", account=Aws.ACCOUNT_ID),
            description="Trains, evaluates and exports",
            allows=[
                Allow(actions=["s3:GetObject"], on=[object_arn(self._source), object_arn(self._code)]),
                find_object(self._source, self._code),
                lake.read("curated/", "runs/"),
                *seldom([lake.read("telemetry/")], "pipelines/jobs/watch.py compares telemetry when a person asks"),
                *lake.upload("runs/", "exports/"),
                lake.list_keys("curated/", "runs/", "telemetry/"),
                lake.use_key(),
                self._volumes(),
                *image.pull(),
                *network.attach(),
                Allow(
                    actions=[
                        "logs:CreateLogGroup",
                        "logs:CreateLogStream",
                        "logs:DescribeLogStreams",
                        "logs:PutLogEvents",
                    ],
                    on=[names.log_group_arn("/aws/sagemaker/*")],
                    why="SageMaker names the log groups of its jobs",
                ),
                Allow(
                    actions=["cloudwatch:PutMetricData"],
                    on=["*"],
                    when={"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", f"{names.prefix}/*"]}},
                    why="PutMetricData has no resource; the namespaces are fixed by condition",
                ),
                *(
                    Allow(
                        actions=[f"sagemaker:{action}"],
                        on=[names.arn("sagemaker", f"model-package/{self.group_name}/*")],
                        why="the champion's version number is not known at deployment",
                        unused=unused,
                    )
                    for action, unused in (
                        ("ListModelPackages", ""),
                        ("DescribeModelPackage", "a run that meets an approved champion compares with it"),
                    )
                ),
                *self._tracking(),
            ],
        )

    def train(self) -> dict[str, Any]:
        """CreateTrainingJob: AWS's training toolkit in script mode, resumable through its checkpoints."""
        train = self._settings.train
        request: dict[str, Any] = {
            "TrainingJobName.$": _job("train"),
            "RoleArn": self.role.role_arn,
            "AlgorithmSpecification": {
                "TrainingImage": self._image.uri,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": name, "Regex": rf"{name}=([0-9.eE+-]+)"} for name in METRICS],
            },
            "HyperParameters": {
                "sagemaker_program": bundles.TRAIN.entries[0],
                # From a channel and not from S3 itself: an isolated container cannot fetch it.
                "sagemaker_submit_directory": f"{ML}/input/data/code/{self._source.s3_object_key}",
                **{name: str(getattr(train, name)) for name in TOLD},
                **self._torchrun(),
                "execution.$": RUN,
            },
            "InputDataConfig": [
                _channel("curated", {"S3Uri.$": self._below("curated/{}/")}),
                _channel("code", {"S3Uri": uri(self._source)}),
            ],
            "OutputDataConfig": {"S3OutputPath.$": self._below("runs/{}/train/"), "KmsKeyId": self._lake.key.key_arn},
            "CheckpointConfig": {"S3Uri.$": self._below("runs/{}/checkpoints/"), "LocalPath": f"{ML}/checkpoints"},
            "ResourceConfig": {
                "InstanceCount": train.instances,
                "InstanceType": train.instance,
                "VolumeSizeInGB": 30,
                "VolumeKmsKeyId": self._lake.key.key_arn,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": train.max_minutes * 60},
            "Environment": self._environment(),
            "EnableNetworkIsolation": self._calls_nothing,
            "EnableInterContainerTrafficEncryption": train.instances > 1,
            "Tags": self._tags,
            **self._network.for_sagemaker(),
        }
        if train.spot:
            request["EnableManagedSpotTraining"] = True
            request["StoppingCondition"]["MaxWaitTimeInSeconds"] = train.max_minutes * 120
        return request

    def _torchrun(self) -> dict[str, str]:
        """Asks the PyTorch container for a rank on each host, on one with GPUs a rank for each GPU."""
        train = self._settings.train
        ranks = train.instances > 1 or train.instance.startswith(WITH_GPUS)
        return {"sagemaker_torch_distributed_enabled": "true"} if ranks else {}

    def tune(self) -> dict[str, Any]:
        """CreateHyperParameterTuningJob: random search over SEARCHED, each trial a training job as `train` sends it."""
        definition = self.train()
        fixed = definition.pop("HyperParameters")
        marks = definition.pop("Tags")  # a search hands its own to its trials
        del definition["TrainingJobName.$"], definition["CheckpointConfig"]  # trials would share one checkpoint
        return {
            "HyperParameterTuningJobName.$": SEARCH,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Random",
                "RandomSeed": self._settings.train.seed,
                "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "best_val_loss"},
                "ResourceLimits": {
                    "MaxNumberOfTrainingJobs": self._settings.train.trials,
                    "MaxParallelTrainingJobs": min(4, self._settings.train.trials),
                },
                "ParameterRanges": {"ContinuousParameterRanges": list(SEARCHED)},
            },
            "TrainingJobDefinition": {**definition, "StaticHyperParameters": fixed},
            "Tags": marks,
        }

    def tuned(self) -> dict[str, str]:
        """What the flow keeps of a search: its best training job, and where that put its model."""
        bucket = self._lake.data.bucket_name
        place = f"s3://{bucket}/runs/{{}}/train/{{}}/output/model.tar.gz"
        return {
            "job.$": "$.BestTrainingJob.TrainingJobName",
            "artifact.$": f"States.Format('{place}', $$.Execution.Name, $.BestTrainingJob.TrainingJobName)",
        }

    def evaluate(self) -> dict[str, Any]:
        """CreateProcessingJob: the held-out split against baselines and champion."""
        return self._processing(
            "evaluate",
            entry=["python", "-m", "pipelines.jobs.evaluate", "--package-group", self.group_name],
            outputs=[_output("report", self._below("runs/{}/evaluate/"))],
            isolated=False,  # it asks the registry for the champion
        )

    def export(self) -> dict[str, Any]:
        """CreateProcessingJob: every target's formats, measured, the best chosen."""
        settings = self._settings.resolved()
        limits = {key: settings["gate"][key] for key in ("max_metric_drop", "min_agreement")}
        return self._processing(
            "export",
            entry=[
                *("python", "-m", "pipelines.jobs.export"),
                *("--targets", *_pieces(settings["targets"])),
                *("--limits", *_pieces(limits)),
            ],
            outputs=[
                _output("release", self._below("exports/{}/")),
                _output("export", self._below("runs/{}/export/")),
            ],
            isolated=self._calls_nothing,
        )

    def _processing(
        self, name: str, *, entry: list[str], outputs: list[dict[str, Any]], isolated: bool
    ) -> dict[str, Any]:
        archive = f"{self._code.asset_hash}.zip"
        return {
            "ProcessingJobName.$": _job(name),
            "RoleArn": self.role.role_arn,
            "AppSpecification": {
                "ImageUri": self._image.uri,
                "ContainerEntrypoint": entry,
                "ContainerArguments.$": f"States.Array('--run', {RUN})",
            },
            "Environment": {
                **self._environment(),
                "PYTHONPATH": f"{ML}/processing/code/{archive}",
                "SAGEMAKER_BASE_DIR": ML,
                "ORT_DISABLE_TELEMETRY": "1",
            },
            "ProcessingInputs": [
                _input("code", uri(self._code)),
                _input("model", "$.train.artifact"),
                _input("curated", self._below("curated/{}/")),
            ],
            "ProcessingOutputConfig": {"Outputs": outputs, "KmsKeyId": self._lake.key.key_arn},
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceCount": 1,
                    "InstanceType": self._settings.train.processing_instance,
                    "VolumeSizeInGB": 30,
                    "VolumeKmsKeyId": self._lake.key.key_arn,
                }
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": self._settings.train.max_minutes * 60},
            "Tags": self._tags,
            "NetworkConfig": {"EnableNetworkIsolation": isolated, **self._network.for_sagemaker()},
        }

    @property
    def _calls_nothing(self) -> bool:
        """Whether training and export reach nothing over the network: files come and go with the job itself."""
        return not self._settings.train.mlflow

    def _environment(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": self._settings.train.mlflow, "MLFLOW_EXPERIMENT_NAME": self._names.prefix}

    def _below(self, pattern: str) -> str:
        """A URI below the data bucket, `{}` in it being the run."""
        return f"States.Format('s3://{self._lake.data.bucket_name}/{pattern}', {RUN})"

    def _volumes(self) -> Allow:
        return Allow(
            actions=["kms:CreateGrant"],
            on=[self._lake.key.key_arn],
            when={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        )

    def _tracking(self) -> list[Allow]:
        """SageMaker's MLflow App, when `[train] mlflow` names one by its ARN."""
        app = self._settings.train.mlflow
        if not app.startswith("arn:"):
            return []
        return [Allow(actions=["sagemaker:CallMlflowAppApi"], on=[app])]


def _pieces(document: dict[str, Any]) -> list[str]:
    """JSON in pieces: SageMaker takes no argument that is longer than 256 characters."""
    pieces = [""]
    for part in json.dumps(document, sort_keys=True, separators=(",", ":")).replace(",", ",\n").splitlines():
        if len(pieces[-1]) + len(part) > LONGEST:
            pieces.append("")
        pieces[-1] += part
    return pieces


def _job(name: str) -> str:
    return f"States.Format('{{}}-{name}', {JOB})"


def _channel(name: str, where: dict[str, str]) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated", **where}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _input(name: str, source: str) -> dict[str, Any]:
    """`source` is a URI, or JSONPath or an intrinsic that gives one."""
    where = "S3Uri.$" if source.startswith(("$", "States.")) else "S3Uri"
    return {
        "InputName": name,
        "S3Input": {
            where: source,
            "LocalPath": f"{ML}/processing/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        },
    }


def _output(name: str, target: str) -> dict[str, Any]:
    where = "S3Uri.$" if target.startswith("States.") else "S3Uri"
    return {
        "OutputName": name,
        "S3Output": {where: target, "LocalPath": f"{ML}/processing/{name}", "S3UploadMode": "EndOfJob"},
    }
